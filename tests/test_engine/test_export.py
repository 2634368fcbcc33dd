"""Export of a found net: two configs and weights; the training config is compared with the search's."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from detnas_mm.cli import typed
from detnas_mm.engine import launch
from detnas_mm.engine.export import Exporter
from detnas_mm.models import build_model
from detnas_mm.search import Evaluator, SearchJob
from tests import digits, jobs

from .test_zero_shot_search import DETECTOR, SEARCH

TRAINING = digits.CONFIGS / 'detnas-digits_net_retinanet.py'
ARCH = '0|1|23|0'


def job_of(work_dir, name='retinanet', **changes):
    return SearchJob.from_config(digits.written(f'detnas-digits_search_{name}', work_dir, **changes))


def mine(folder, text, base=TRAINING):
    """A training config of a user's, which inherits one of this package's."""
    path = folder / 'mine.py'
    path.write_text(f'_base_ = {str(base)!r}\n{text}\n')
    return str(path)


class Weights(Evaluator):
    """Gives random weights and a test."""

    def setup(self, job, model=None):
        self.job = job

    def spec(self):
        return dict(type='Weights')

    def evaluate(self, archs):
        pytest.fail('an export evaluates nothing')

    def weights(self, arch):
        searched = self.job.space.configure(self.job.cfg, arch)
        return build_model(Config(searched)).state_dict()

    def rescoring(self, cfg):
        return cfg | dict(test_dataloader='search-val')


def written(job, folder):
    """The files of a net that an exporter writes: their contents by name."""
    job.evaluator = evaluator = Weights()
    evaluator.setup(job)
    job.evaluator.needs_model = True
    files = Exporter(job).write(job.space.parse(ARCH), folder / 'net', dict(id='x'))
    assert files['config'] == folder / 'net.py' and files['search_val'] == folder / 'net_search_val.py'
    configs = {key: Config.fromfile(files[key]) for key in ('config', 'search_val')}
    return configs | dict(checkpoint=torch.load(files['checkpoint'], weights_only=True))


# -- two configs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('source', [str(TRAINING), 'detnas_mm::digits/detnas-digits_net_retinanet.py'])
def test_the_training_config_is_the_one_named_with_the_net_in_it(tmp_path, source):
    """Its own data, schedule and thresholds; the searched config gives the other one."""
    job = job_of(tmp_path, search__export__config=source)
    found = written(job, tmp_path)
    plain = Config.fromfile(TRAINING)
    own, searched = found['config'], found['search_val']
    for key in (
        'train_dataloader',
        'val_dataloader',
        'test_dataloader',
        'train_cfg',
        'optim_wrapper',
        'param_scheduler',
    ):
        assert own.get(key) == plain.get(key), key
    assert own.model.test_cfg.max_per_img == 100 and own.model.bbox_head == plain.model.bbox_head
    assert searched.model.test_cfg.max_per_img == 20 and searched.test_dataloader == 'search-val'
    assert own.model.backbone.arch == searched.model.backbone.arch == ARCH
    for cfg in (own, searched):
        assert not {'search', 'work_dir', 'load_from', 'launcher', 'resume'} & set(cfg)
        assert 'SearchHook' not in cfg.pretty_text and 'PathSampling' not in cfg.pretty_text
        build_model(cfg).load_state_dict(found['checkpoint']['state_dict'], strict=True)
    assert found['checkpoint']['meta'].pop('dataset_meta')['classes'] == plain.metainfo.classes
    assert found['checkpoint']['meta'] == dict(id='x')


def test_without_a_training_config_it_is_the_searched_one(tmp_path):
    found = written(job_of(tmp_path, search__export__config=None), tmp_path)
    assert found['config'].model == found['search_val'].model
    assert found['config'].model.test_cfg.max_per_img == 20 and found['config'].get('test_dataloader') is None


@pytest.mark.parametrize('kind', ['dict', '[dict'])
def test_checkpoints_that_a_part_would_load_are_taken_out(tmp_path, kind):
    """They are of another net, or of a classifier, and the exported checkpoint holds all weights."""
    init = f"init_cfg={kind}(type='Pretrained', checkpoint='nowhere.pth', prefix='backbone.'){kind[:-4] and ']'}"
    other = "init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth')"
    source = mine(tmp_path, f'model = dict(backbone=dict({init}), neck=dict({other}))')
    kept = dict(type='Kaiming', layer='Conv2d')
    job = job_of(
        tmp_path, search__export__config=source, model__backbone__init_cfg=kept, model__bbox_head__init_cfg=kept
    )
    found = written(job, tmp_path)
    for cfg in (found['config'], found['search_val']):
        assert 'init_cfg' not in cfg.model.backbone and 'init_cfg' not in cfg.model.neck
    assert found['search_val'].model.bbox_head.init_cfg == kept


def test_a_search_without_a_model_exports_the_training_config_alone(tmp_path):
    """Whose model may be another one; the exported config keeps all of it but the backbone."""
    source = tmp_path / 'train.py'
    source.write_text(
        Config(dict(model=DETECTOR, train_dataloader=dict(batch_size=2), train_cfg=dict(max_epochs=3))).pretty_text
    )
    search = SEARCH | dict(export=dict(config=str(source)))
    lines = []
    job, best = jobs.run(Config(dict(search=search, work_dir=str(tmp_path / 'work'))), lines.append)
    (entry,) = json.loads((job.work_dir / 'best.json').read_text())
    found = Config.fromfile(job.work_dir / entry['config'])
    assert not {'checkpoint', 'search_val'} & set(entry)
    assert found.model.backbone == dict(DETECTOR['backbone'], arch=best[0].arch) and found.train_cfg.max_epochs == 3
    assert lines[-1] == f'Train it: {typed("train.py", job.work_dir / entry["config"])}'


# -- refused before the search -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'source',
    ['nowhere.py', 'detnas_mm::digits/nowhere.py', 'nobody::digits/net.py', 'net.txt', 'broken.py', 'fails.py'],
)
def test_a_training_config_that_cannot_be_read_is_refused(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    Path('net.txt').write_text('model = dict()')
    Path('broken.py').write_text('model = dict(')
    Path('fails.py').write_text('import math\nmodel = dict(depth=math.nowhere)')
    with pytest.raises(ValueError, match=f'^search.export.config: {source} cannot be read .*Give a config file, or'):
        Exporter(job_of(tmp_path, search__export__config=source))
    with pytest.raises(ValueError, match='search.export.config must be a config file'):
        job_of(tmp_path, search__export__config=3)


@pytest.mark.parametrize(
    'text, what',
    [
        ('model = dict(bbox_head=dict(num_classes=3))', r'bbox_head.retina_cls.weight .*\(6, 48, .* but \(20, 48, '),
        (
            "model = dict(neck=dict(norm_cfg=dict(_delete_=True, type='BN')))",
            r'neck.convs.0.conv.bias .*None in .* \(48,\) in the s',
        ),
        (
            "model = dict(backbone=dict(channel_split='even_odd'))",
            "model.backbone.channel_split .*'even_odd' .*'shuffle'",
        ),
        ('model = dict(backbone=dict(norm_cfg=dict(eps=1e-3)))', 'model.backbone.norm_cfg .*0.001.* in the searched'),
        (
            'model = dict(data_preprocessor=dict(mean=[1, 2, 3], std=[1, 1, 1]))',
            r'model.data_preprocessor.mean .*\[1, 2, 3\] .*None in the searched',
        ),
        (
            'model = dict(data_preprocessor=dict(pad_size_divisor=16))',
            'model.data_preprocessor.pad_size_divisor .*16 .*32',
        ),
    ],
)
def test_a_training_config_of_another_net_is_refused(tmp_path, text, what):
    """Other parameters, or other settings that decide what a backbone computes and sees; both places are named."""
    source = mine(tmp_path, text)
    with pytest.raises(ValueError, match=f'^search.export.config: {what}') as refused:
        Exporter(job_of(tmp_path, search__export__config=source))
    assert source in str(refused.value) and 'the searched config' in str(refused.value)
    Exporter(job_of(tmp_path, search__export__config=mine(tmp_path, '')))


@pytest.mark.parametrize(
    'text',
    [
        "model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))",  # computes the same
        'model = dict(backbone=dict(frozen_stages=2, norm_eval=True, with_cp=True))',
        'model = dict(test_cfg=dict(score_thr=0.3))',
        "model = dict(backbone=dict(arch='1|1|11|1'))",
        "model = dict(data_preprocessor=dict(_scope_='mmdet', type='mmdet.DetDataPreprocessor'))",  # as in mmdet::…
    ],
)
def test_what_decides_nothing_may_differ(tmp_path, text):
    Exporter(job_of(tmp_path, search__export__config=mine(tmp_path, text)))


def test_preprocessing_beside_the_model_is_compared_as_well(tmp_path):
    """Tests the folder in which mmpretrain has it."""
    base = digits.CONFIGS / 'detnas-digits_net_cls.py'
    Exporter(job_of(tmp_path, 'cls', search__export__config=mine(tmp_path, '', base)))
    source = mine(tmp_path, 'data_preprocessor = dict(mean=[1, 2, 3])', base)
    with pytest.raises(ValueError, match=r'data_preprocessor.mean is \[1, 2, 3\] in .*mine.py, but .* in the searched'):
        Exporter(job_of(tmp_path, 'cls', search__export__config=source))


def test_a_training_config_that_could_not_be_read_once_written_is_refused(tmp_path):
    """Before the search; the file and the setting are named."""
    source = mine(tmp_path, 'import math\nmodel = dict(test_cfg=dict(limits=[1, math.inf]))')
    with pytest.raises(ValueError, match=r'^search.export.config: .*mine.py: .* model.test_cfg.limits.1 is inf, which'):
        Exporter(job_of(tmp_path, search__export__config=source))


def test_what_cannot_be_loaded_again_is_not_written(tmp_path):
    """A checkpoint is read back; the draft goes."""
    job = job_of(tmp_path)
    job.evaluator = Weights()
    job.evaluator.setup(job)
    with pytest.raises(ValueError, match='holds more than tensors and plain values'):
        Exporter(job).write(job.space.parse(ARCH), tmp_path / 'net', dict(space=job.space))
    assert not list(tmp_path.glob('*.pth')) and not list(tmp_path.glob('.*.pth'))


def test_a_space_that_does_not_fit_is_refused(tmp_path):
    source = mine(tmp_path, 'model = dict(backbone=dict(out_indices=(2, 3, 4)))')
    with pytest.raises(ValueError, match=r'out_indices of the config is \(2, 3, 4\), but .* have 4 stages'):
        Exporter(job_of(tmp_path, search__export__config=source))


def test_it_is_refused_before_anything_is_trained(digits_folder, tmp_path):
    """A hook that searches after a training looks before it."""
    search = digits.written('detnas-digits_search_retinanet', tmp_path).search
    search.export.config = mine(tmp_path, 'model = dict(bbox_head=dict(num_classes=3))')
    runner = digits.runner(
        'detnas-digits_supernet_retinanet', tmp_path / 'work', search=search, train_cfg__max_iters=1,
        custom_hooks=[dict(type='detnas_mm.PathSamplingHook'), dict(type='detnas_mm.EvolutionSearchHook')],
    )  # fmt: skip
    with pytest.raises(ValueError, match='^search.export.config: .*retina_cls'):
        runner.train()
    assert runner.iter == 0 and not (tmp_path / 'work' / 'ledger.jsonl').exists()


def test_by_the_tools_it_is_refused_before_a_model_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: pytest.fail('a Runner was built'))
    changes = dict(search__export__config='nowhere.py', load_from='supernet.pth')
    cfg = digits.written('detnas-digits_search_retinanet', tmp_path / 'work', **changes)
    for start in (launch.run, launch.search):
        with pytest.raises((ValueError, SystemExit), match='search.export.config: .*nowhere.py'):
            start(cfg)
    assert not (tmp_path / 'work').exists()
