"""Errors of libraries about a user's input become one line that names it; bugs keep their traceback."""

import os
import re
from pathlib import Path

import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, MODELS, TRANSFORMS
from torch import nn

from detnas_mm.cli import one_line_errors
from detnas_mm.errors import DetNASError, LibraryError, library_errors
from detnas_mm.models import backbone, build_model
from tests import digits

ROOT = Path(__file__).parents[2]
SUPERNET = 'detnas-digits_supernet_retinanet'
BUGS = {
    KeyError: "{}['a bug']",
    RuntimeError: 'raise_(RuntimeError("a bug"))',
    TypeError: 'len(5)',
    AttributeError: 'None.a',
}


def raise_(error):
    raise error


@MODELS.register_module()
class StrangersNeck(nn.Module):
    def __init__(self, bug):
        super().__init__()
        eval(bug)


@HOOKS.register_module()
class StrangersHook(Hook):
    def __init__(self, at_start='', before_step=''):
        eval(at_start or 'None')
        self.before_step = before_step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        eval(self.before_step or 'None')


@DATASETS.register_module()
class StrangersSet(BaseDataset):
    def load_data_list(self):
        raise ValueError('no such folder of mine')


@TRANSFORMS.register_module()
class RefusingStep(BaseTransform):
    def __init__(self, size):
        raise ValueError(f'size must be even; got {size}')

    def transform(self, results):
        return results


@TRANSFORMS.register_module()
class StrangersStep(BaseTransform):
    def __init__(self, does):
        self.does = does

    def transform(self, results):
        eval(self.does, dict(os=os, results=results, __name__=__name__))
        return results


def pipeline(does):
    loading = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
    return [*loading, dict(type=StrangersStep, does=does), dict(type='PackDetInputs')]


# -- what is wrong with a config ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(model__backbone__frozen_stage=1),
            "model: DetNASSupernet has no argument 'frozen_stage'; it takes space, out_indices, .*",
        ),
        (dict(model__neck__foo=1), "model: ChannelMapper has no argument 'foo'; it takes in_channels, .*"),
        (
            dict(model__backbone__type='DetNASSupernet'),
            "model: 'DetNASSupernet' is not a registered model; did you mean 'detnas_mm.DetNASSupernet'\\?",
        ),
        (
            dict(model__backbone__type='detnas_mm.DetNasSupernet'),
            "model: 'detnas_mm.DetNasSupernet' is not a registered model. Similar names: detnas_mm.DetNASSupernet.*",
        ),
        (dict(model__bbox_head__type='RetinaHed'), "model: 'RetinaHed' is not .* Similar names: RetinaHead, .*"),
        (dict(model__backbone__norm_cfg=dict(type='BN', eps='x')), 'model: TypeError: .*'),
        (dict(model__backbone__norm_cfg='BN'), "norm_cfg must be a dict, such as dict.type='BN'.; got 'BN'."),
        (dict(model__backbone__min_loaded='x'), "min_loaded must be a number, such as 300e6; got 'x'."),
        (dict(model__backbone__norm_eval='no'), "DetNASSupernet.norm_eval must be True or False; got 'no'."),
        (dict(model__bbox_head__num_classes='x'), 'model: TypeError: .*'),
        (dict(model__backbone__norm_cfg=dict(type='BN', foo=1)), 'model: TypeError: .* argument .foo.'),
        (
            dict(model__backbone__out_indices=(0, 1, 2, 3)),
            r'model.neck.in_channels is \[64, 128, 256\], but the backbone returns maps of \[32, 64, 128, 256\] '
            r'channels \(its out_indices are \(0, 1, 2, 3\)\): .*',
        ),
        (
            dict(custom_hooks=[dict(type='detnas_mm.PathSamplingHook', seeds=3)]),
            "custom_hooks: PathSamplingHook has no argument 'seeds'; it takes sampler, seed, eval_path.",
        ),
        (
            dict(custom_hooks=[dict(type='detnas_mm.PathSamplingHook', seed=-1)]),
            'PathSamplingHook.seed must be a whole number of at least 0; got -1.',
        ),
        (
            dict(custom_hooks=[dict(type='detnas_mm.ChannelsLastHook', evaluation='no')]),
            "ChannelsLastHook.evaluation must be True or False; got 'no'.",
        ),
        (dict(custom_hooks=5), 'custom_hooks must be a list, such as .*; got 5.'),
        (
            dict(custom_hooks=[dict(type='PathSamplingHook')]),
            "custom_hooks: .* did you mean 'detnas_mm.PathSamplingHook'\\?",
        ),
        (dict(default_hooks__checkpoint__intervall=5), "CheckpointHook has no argument 'intervall'; it takes .*"),
        (dict(default_hooks__logger__interva=5), "default_hooks: LoggerHook has no argument 'interva'; .*"),
        (
            dict(optim_wrapper__optimizer__type='SDG'),
            "optim_wrapper.optimizer: 'SDG' is not a registered optimizer. .*",
        ),
        (dict(optim_wrapper__optimizer__lr='a'), 'optim_wrapper: TypeError: .*'),
        (dict(optim_wrapper__type='AmpOptimWrapper'), r'Training in mixed precision \(--amp.* needs a GPU.*'),
        (dict(param_scheduler=[dict(type='LinearLRR')]), "param_scheduler: 'LinearLRR' is not a registered .*"),
        (dict(train_cfg__type='Loop'), "train_cfg: 'Loop' is not a registered loop. .*"),
        (dict(train_dataloader__dataset__type='CocoDatset'), "train_dataloader: 'CocoDatset' is not .*CocoDataset, .*"),
        (dict(train_dataloader__sampler__foo=1), "train_dataloader: InfiniteSampler has no argument 'foo'; .*"),
        (dict(train_dataloader__dataset__pipeline=pipeline('cv2.resize(5, 5)')[:1] * 2), 'train_dataloader: .*'),
    ],
)
def test_what_is_wrong_in_a_part_of_a_config_is_one_line(train, changes, message):
    with pytest.raises(DetNASError) as caught:
        train(**changes)
    assert re.fullmatch(message, str(caught.value)), caught.value


def test_an_assertion_without_a_word_is_quoted(digits_folder, tmp_path):
    cfg = digits.written(SUPERNET, tmp_path, model__neck__in_channels=(64, 128, 256))
    with pytest.raises(LibraryError, match=r'^model: AssertionError: .*in_channels.* \(channel_mapper.py, line \d+\)$'):
        build_model(cfg)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(model__neck=dict(_delete_=True, type='StrangersNeck', bug='raise_(ValueError("4 maps, please"))')),
            'model: StrangersNeck: ValueError: 4 maps, please',
        ),
        (
            dict(custom_hooks=[dict(type='StrangersHook', at_start='int("x")')]),
            "custom_hooks: StrangersHook: ValueError: invalid literal for int.*: 'x'",
        ),
        (
            dict(train_dataloader__dataset=dict(type='StrangersSet', pipeline=[])),
            'train_dataloader: StrangersSet: ValueError: no such folder of mine',
        ),
        (
            dict(train_dataloader__dataset__pipeline=[dict(type='RefusingStep', size=3)]),
            'train_dataloader: RefusingStep: ValueError: size must be even; got 3',
        ),
    ],
)
def test_what_a_strangers_constructor_refuses_is_named_with_key_and_class(
    train, changes, message, tmp_path, monkeypatch
):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        one_line_errors(lambda: train(**changes))
    (file,) = tmp_path.glob('detnas_mm_*.log')
    assert re.fullmatch(f'error: {message} \\(traceback: {file}\\)', str(caught.value)), caught.value
    assert 'test_library_errors.py' in file.read_text()


# -- the first steps of a training --------------------------------------------------------------------------------

PATHS = dict(type='detnas_mm.PathSamplingHook')
ANCHORS = dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3, ratios=[1.0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(optim_wrapper__clip_grad=dict(max_nrm=5)),
            "optim_wrapper.clip_grad: clip_grad_norm_ has no argument 'max_nrm'; it takes parameters, max_norm, .*",
        ),
        (
            dict(optim_wrapper__clip_grad=dict(type='value', max_norm=5)),
            "optim_wrapper.clip_grad: clip_grad_value_ has no argument 'max_norm'; it takes parameters, clip_value, .*",
        ),
        (dict(optim_wrapper__clip_grad=dict(max_norm='x')), '.*retinanet.py, while it is trained: .*Error: .*'),
        (
            dict(custom_hooks=[dict(type='EMAHook', momentm=0.1)]),
            "EMAHook: ExponentialMovingAverage has no argument 'momentm'; it takes model, momentum, .*",
        ),
        (
            dict(custom_hooks=[dict(type='EMAHook', ema_type='ExponentialMovingAvrage')]),
            "EMAHook: 'ExponentialMovingAvrage' is not .* Similar names: ExponentialMovingAverage. .*",
        ),
        (
            dict(custom_hooks=[PATHS, dict(type='EMAHook', momentum=5)]),
            '.*supernet_retinanet.py, while it is trained: AssertionError: momentum must be in range.*',
        ),
        (
            dict(model__bbox_head__anchor_generator=ANCHORS | dict(strides=[8, 16])),
            r'model.bbox_head has 2 strides, \[8, 16\], but the neck returns 3 maps: give .*',
        ),
        (
            dict(train_dataloader__dataset__pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=False),
                dict(type='PackDetInputs'),
            ]),
            ".*supernet_retinanet.py, while it is trained: AttributeError: .*'bboxes'.*",
        ),
    ],
)  # fmt: skip
def test_what_only_the_first_step_finds_wrong_in_a_config_is_one_line(train, changes, message):
    with pytest.raises(DetNASError) as caught:
        train(**changes)
    assert re.fullmatch(message, str(caught.value)), caught.value


@pytest.mark.slow
def test_bugs_of_ours_and_of_strangers_in_a_training_keep_their_traceback(train, monkeypatch):
    wrongly = 'torch.nn.functional.conv2d(torch.ones(1, 1, 2, 2), torch.ones(1, 3, 1, 1))'
    for hook in (
        dict(type='StrangersHook', before_step=wrongly),
        dict(type='StrangersHook', before_step='torch.optim.SGD([], momentm=1)'),
    ):
        with pytest.raises((RuntimeError, TypeError)) as caught:
            train(custom_hooks=[PATHS, hook])
        assert type(caught.value) in (RuntimeError, TypeError)
    ours = dict(__name__='detnas_mm.engine.path_samplers', torch=torch)
    monkeypatch.setattr('detnas_mm.engine.UniformPathSampler.sample', eval(f'lambda *_: {wrongly}', ours))
    with pytest.raises(RuntimeError, match='channels') as caught:
        train()
    assert type(caught.value) is RuntimeError


@pytest.mark.parametrize(
    ('modules', 'kind'),
    [
        (['mmengine.runner', 'torch.optim'], LibraryError),
        (['mmengine.runner', 'detnas_mm.registry', 'mmengine.registry'], LibraryError),
        (['mmengine.runner', 'strangers.hook', 'torch.optim'], TypeError),
        (['mmengine.runner', 'detnas_mm.models.layers', 'torch.nn'], TypeError),
        (['mmengine.runner', 'strangers.hook'], TypeError),
        (['mmengine.runner', 'detnas_mm.engine.runner'], TypeError),
    ],
)
def test_errors_that_came_through_libraries_alone(modules, kind):
    call = len
    for name in reversed(modules):
        module = dict(__name__=name, call=call)
        exec('def outer(): call()', module)
        call = module['outer']
    start = dict(__name__='detnas_mm.engine.runner', call=call, library_errors=library_errors)
    exec('def train():\n    with library_errors("it", alone=True):\n        call()', start)
    with pytest.raises((LibraryError, TypeError)) as caught:
        start['train']()
    assert type(caught.value) is kind


def test_a_device_without_memory_is_one_line():
    with pytest.raises(LibraryError, match='^it: OutOfMemoryError: 2 GiB'), library_errors('it', alone=True):
        raise torch.OutOfMemoryError('2 GiB')


# -- bugs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('error', BUGS)
def test_a_bug_in_ours_or_in_a_strangers_class_keeps_its_traceback(error, digits_folder, tmp_path, monkeypatch):
    cfg = digits.written(SUPERNET, tmp_path)
    monkeypatch.setitem(vars(backbone), 'raise_', raise_)
    cfg.model.neck = dict(type='StrangersNeck', bug=BUGS[error])
    with pytest.raises(error) as caught:
        build_model(cfg)
    assert type(caught.value) is error
    monkeypatch.setattr(backbone.Backbone, '__init__', eval(f'lambda *_, **__: {BUGS[error]}', vars(backbone)))
    with pytest.raises(error) as caught:
        build_model(cfg)
    assert type(caught.value) is error and any(entry.name == '<lambda>' for entry in caught.traceback)


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 1])
def test_data_that_libraries_cannot_read_are_one_line_and_a_strangers_bugs_are_not(train, workers):
    loader = dict(train_dataloader__num_workers=workers)
    with pytest.raises(KeyError, match='a bug'):
        train(**loader, train_dataloader__dataset__pipeline=pipeline("{}['a bug']"))
    with pytest.raises(DetNASError, match=r"^train_dataloader: AttributeError: 'str' object has no"):
        train(**loader, train_dataloader__dataset__pipeline=pipeline("results.update(img='')"))


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line(train):
    with pytest.raises(LibraryError, match=r'^train_dataloader: RuntimeError: DataLoader worker .* exited'):
        train(train_dataloader__num_workers=1, train_dataloader__dataset__pipeline=pipeline('os._exit(3)'))


# -- the line and the traceback's file ----------------------------------------------------------------------------


def test_the_line_names_a_file_with_the_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))

    def refused_by_library():
        build_model(Config(dict(model=dict(type='mmdet.RetinaHead', num_classes=2))))

    with pytest.raises(SystemExit) as caught:
        one_line_errors(refused_by_library)
    (file,) = tmp_path.glob('detnas_mm_*.log')
    assert re.fullmatch(f'error: model: TypeError: .*in_channels.* \\(traceback: {file}\\)', str(caught.value))
    text = file.read_text()
    assert 'Traceback' in text and 'build_from_cfg' in text and 'in_channels' in text


def test_our_own_refusals_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))

    def refused():
        build_model(Config(dict(model=dict(type='detnas_mm.DetNASNet', arch='coco-fpn-300m', depth=3))))

    with pytest.raises(SystemExit, match="^error: model: DetNASNet has no argument 'depth'; it takes [a-z_, ]+.$"):
        one_line_errors(refused)
    assert not list(tmp_path.glob('detnas_mm_*'))
