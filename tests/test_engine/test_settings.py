"""Invalid settings that no constructor checks, or only after hours: an error before anything is built."""

import copy
from pathlib import Path

import mmdet
import pytest
from mmengine.config import Config
from mmengine.hooks import IterTimerHook

from detnas_mm.cli import parser
from detnas_mm.engine import config as reading
from detnas_mm.engine import launch
from detnas_mm.engine.config import read_config
from detnas_mm.engine.settings import JobSettings
from detnas_mm.errors import DetNASError
from tests import digits


def detector():
    """A two-stage detector with all that is checked, all of it right."""
    nms = dict(type='nms', iou_threshold=0.7)
    return Config(
        dict(
            default_scope='mmdet', log_level='INFO', resume=False, runner_type='Runner',
            env_cfg=dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='nccl')),
            auto_scale_lr=dict(enable=False, base_batch_size=16), randomness=dict(seed=0, deterministic=True),
            default_hooks=dict(timer=None, checkpoint=dict(type='CheckpointHook', interval=1)),
            custom_hooks=[dict(type='EMAHook'), IterTimerHook()],
            model=dict(
                neck=dict(type='FPN', in_channels=[8], out_channels=8, num_outs=1, add_extra_convs='on_output'),
                train_cfg=dict(rpn_proposal=dict(nms_pre=2000, nms=dict(nms))),
                test_cfg=dict(
                    rpn=dict(nms=dict(nms, class_agnostic=True)),
                    rcnn=dict(nms=dict(type='soft_nms', iou_threshold=0.5, min_score=0.05)),
                    nms=dict(iou_threshold=0.6, split_thr=1000, max_num=100),
                ),
            ),
            train_dataloader=dict(batch_size=2, drop_last=True, dataset=dict(type='CocoDataset', test_mode=False)),
            val_evaluator=dict(type='CocoMetric', classwise=True, metric='bbox'),
            search=dict(evaluator=dict(metric=dict(type='FasterCocoMetric', classwise=False))),
        )
    )  # fmt: skip


def test_what_is_right_passes_and_stays():
    cfg = detector()
    before = copy.deepcopy(cfg._cfg_dict.to_dict())
    JobSettings.read(cfg).check()
    assert repr(cfg._cfg_dict.to_dict().keys()) == repr(before.keys()) and cfg.model == Config(before).model
    JobSettings.read(Config({})).check()
    cfg.merge_from_dict({'log_level': 10, 'model.test_cfg.nms': None, 'custom_hooks': None, 'default_hooks': None})
    JobSettings.read(cfg).check()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'log_level': 'LOUD'}, "log_level must be one of CRITICAL, ERROR, WARNING, INFO, DEBUG; got 'LOUD'."),
        ({'log_level': 'info'}, "log_level must be one of .*; got 'info'."),
        ({'runner_type': 'Runer'}, "runner_type: 'Runer' is not a registered runner. Similar names: Runner. "),
        (
            {'runner_type': 'FlexibleRunner'},
            "runner_type='FlexibleRunner' is not supported by the tools .*: leave it out.",
        ),
        ({'resume': 'maybe'}, "resume must be True or False; got 'maybe'."),
        ({'env_cfg.cudnn_benchmark': 'maybe'}, "env_cfg.cudnn_benchmark must be True or False; got 'maybe'."),
        ({'env_cfg.cudnn_benchmrk': True}, 'env_cfg.cudnn_benchmrk is not .*; did you mean env_cfg.cudnn_benchmark?'),
        ({'auto_scale_lr.enable': 'yes'}, "auto_scale_lr.enable must be True or False; got 'yes'."),
        ({'auto_scale_lr.enabel': True}, 'auto_scale_lr.enabel is .*; did you mean auto_scale_lr.enable?'),
        ({'randomness.deterministic': 'no'}, "randomness.deterministic must be True or False; got 'no'."),
        ({'train_dataloader.drop_last': 'no'}, "train_dataloader.drop_last must be True or False; got 'no'."),
        ({'train_dataloader.dataset.test_mode': 'no'}, "CocoDataset.test_mode must be True or False; got 'no'."),
        ({'val_evaluator.classwise': 'maybe'}, "CocoMetric.classwise must be True or False; got 'maybe'."),
        (
            {'search.evaluator.metric.classwise': 'maybe'},
            "FasterCocoMetric.classwise must be True or False; got 'maybe'.",
        ),
        ({'default_hooks.chekpoint.interval': 5}, 'default_hooks.chekpoint .*; did you mean default_hooks.checkpoint?'),
        ({'default_hooks.extra': None}, 'default_hooks.extra must be a hook with a type, .*; got None.'),
        (
            {'custom_hooks': [dict(priority=5)]},
            "custom_hooks.0 must be a hook with a type.* {'priority': 5}.",
        ),
        ({'custom_hooks': ['EMAHook']}, "custom_hooks.0 must be a hook with a type, .*; got 'EMAHook'."),
        ({'custom_hooks': dict(type='EMAHook')}, 'custom_hooks must be a list, such as .*'),
        ({'model.test_cfg.nms.type': 'nmss'}, "model.test_cfg.nms.type must be one of nms, soft_nms, .*; got 'nmss'."),
        ({'model.test_cfg.rpn.nms.type': 'NMS'}, "model.test_cfg.rpn.nms.type must be one of nms, .*; got 'NMS'."),
        ({'model.test_cfg.rcnn.nms.type': 'soft'}, "model.test_cfg.rcnn.nms.type must be one of .*; got 'soft'."),
        ({'model.train_cfg.rpn_proposal.nms.type': 'x'}, "model.train_cfg.rpn_proposal.nms.type must be .*; got 'x'."),
        (
            {'model.test_cfg.rcnn.nms.min_scor': 0.1},
            "model.test_cfg.rcnn.nms: soft_nms has no argument 'min_scor'; it takes boxes, scores, iou_threshold, .*",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_key(options, message):
    cfg = detector()
    if 'custom_hooks' in options:
        cfg.custom_hooks = options['custom_hooks']
    else:
        cfg.merge_from_dict(options)
    with pytest.raises(DetNASError, match=f'^{message}'.replace('?', r'\?')) as caught:
        JobSettings.read(cfg).check()
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('start', [launch.run, launch.test])
def test_trainings_and_tests_begin_with_it(start, tmp_path):
    cfg = digits.written('detnas-digits_net_retinanet', tmp_path, model__test_cfg__nms__type='nmss')
    with pytest.raises(DetNASError, match='^model.test_cfg.nms.type must be one of'):
        start(cfg)


def test_a_search_begins_with_it(tmp_path):
    cfg = digits.written('detnas-digits_search_retinanet', tmp_path, model__test_cfg__nms__type='nmss')
    with pytest.raises(DetNASError, match='^model.test_cfg.nms.type must be one of'):
        launch.search(cfg, 'supernet.pth')


@pytest.mark.slow
def test_configs_of_this_package_and_of_mmdet_pass(monkeypatch):
    lines = []
    monkeypatch.setattr(reading, 'print_log', lambda text, **settings: lines.append(text))
    theirs = sorted(Path(mmdet.__path__[0], '.mim', 'configs').glob('*/*.py'))
    ours = sorted(digits.CONFIGS.parent.glob('*/*.py'))
    assert len(ours) > 20 and len(theirs) > 100
    for path in ours + theirs[::25]:
        cfg = Config.fromfile(path)
        reading._check_names(cfg, {})
        JobSettings.read(cfg).check()
    assert not lines


# -- names that nothing reads -----------------------------------------------------------------------------------------

TEXT = """
num_classes = 3
data_root = 'data'
conv_cfg = None
train_pipeline = test_pipeline = []
train_dataset = dict(type='CocoDataset')
model = dict(type='RetinaNet', test_cfg=dict(score_thr=0.05))
train_dataloader = dict(batch_size=2, dataset=train_dataset)
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(reading, 'print_log', lambda text, **settings: lines.append(text))

    def run(text, *options):
        (tmp_path / 'a.py').write_text(text)
        args = parser('').parse_args([str(tmp_path / 'a.py'), *(['--cfg-options', *options] if options else [])])
        return read_config(args), lines

    return run


@pytest.mark.parametrize(
    ('option', 'name'),
    [
        ('trian_dataloader.batch_size=8', 'train_dataloader'),
        ('serach.budget.generations=5', 'search'),
        ('optimizer_wrapper.optimizer.lr=1', 'optim_wrapper'),
        ('loadfrom=x.pth', 'load_from'),
        ('log_levl=ERROR', 'log_level'),
    ],
)
def test_an_option_that_nothing_reads_is_refused(read, option, name):
    key = option.partition('=')[0]
    with pytest.raises(
        DetNASError, match=rf'^--cfg-options {key}: nothing reads {key.partition(".")[0]}; did you mean {name}\?$'
    ):
        read(TEXT, option)


def test_a_name_in_a_file_that_nothing_reads_is_said(read):
    _, lines = read(TEXT + 'val_dataloadr = dict()\n')
    (line,) = lines
    assert line.endswith('a.py: nothing reads val_dataloadr; did you mean val_dataloader?')


@pytest.mark.parametrize(
    ('option', 'line'),
    [
        (
            'model.test_cfg.scor_thr=0.1',
            'model.test_cfg.scor_thr is new, and there is model.test_cfg.score_thr',
        ),
        ('train_dataloader.batchsize=1', 'train_dataloader.batchsize is new, and there is train_dataloader.batch_size'),
        ('model.test_cfg.nms.type=nms', ''),
        ('model.test_cfg._delete_=True', ''),
        ('num_classes=4', ''),
        ('load_from=x.pth', ''),
        ('search.budget.generations=4', ''),
        ('log_level=ERROR', ''),
    ],
)
def test_options_that_are_close_to_others_are_said(read, option, line):
    cfg, lines = read(TEXT, option)
    assert (len(lines) == 1 and line in lines[0]) if line else not lines
    assert cfg.data_root == 'data'
