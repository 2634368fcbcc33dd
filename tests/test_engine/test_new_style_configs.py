"""Configs whose types are classes: searched as those with texts are; what is written for later can be read."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm.cli import one_line_errors
from detnas_mm.config_types import is_hook, type_name
from detnas_mm.engine import EvolutionSearchHook, SearchHook, launch
from detnas_mm.engine.config import config_text, fit_to_machine, write_config
from detnas_mm.engine.export import Exporter
from detnas_mm.engine.search import export_row
from detnas_mm.models import build_model

from .test_launch import search_cfg

CLASSES = {
    'detnas_mm.EvolutionSearchHook': 'detnas_mm.engine',
    'detnas_mm.DetNASSupernet': 'detnas_mm.systems.detnas',
    'DetNASSpace': 'detnas_mm.systems.detnas',
    'MacsTable': 'detnas_mm.systems.detnas',
    'OneShotEvaluator': 'detnas_mm.evaluators',
    'EvolutionStrategy': 'detnas_mm.search',
    'RetinaNet': 'mmdet.models',
    'CocoDataset': 'mmdet.datasets',
    'PackDetInputs': 'mmdet.datasets.transforms',
    'FasterCocoMetric': 'mmdet.evaluation',
    'nms': 'mmcv.ops',
    'BN': 'torch.nn',
    'CheckpointHook': 'mmengine.hooks',
    'IterBasedTrainLoop': 'mmengine.runner',
}
SMALL = dict(
    search__strategy__population=3, search__strategy__parents=2, search__strategy__mutation=2,
    search__strategy__crossover=1, search__budget__generations=1, search__evaluator__calibration__num_images=40,
    model__test_cfg__score_thr=0.001,
)  # fmt: skip


def new_style(cfg, path):
    """Writes a config with classes in the place of many of its types."""
    text, imports = cfg.pretty_text, []
    for kind, module in CLASSES.items():
        name = 'SyncBatchNorm' if kind == 'BN' else type_name(kind)
        changed = text.replace(f"type='{kind}'", f'type={name}')
        imports += [f'from {module} import {name}\n'] if changed != text else []
        text = changed
    assert len(imports) >= 10
    path.write_text(''.join(imports) + text)
    return Config.fromfile(path)


def named(node):
    """A config in which types are names alone."""
    if isinstance(node, dict):
        return {key: type_name(value) if key == 'type' else named(value) for key, value in node.items()}
    return [named(item) for item in node] if isinstance(node, (list, tuple)) else node


def test_what_the_launcher_makes_of_one(tmp_path):
    """One hook that searches; BN without a process group; and what is exported can be read, its SyncBN included."""
    cfg = search_cfg(**SMALL)
    cfg.model.neck.norm_cfg = dict(type='BN')
    cfg.search.export.config = None  # that one's neck has no norm
    cfg.custom_hooks = [dict(type='detnas_mm.EvolutionSearchHook')]
    new = new_style(cfg, tmp_path / 'new.py')
    new.launcher = 'none'
    assert fit_to_machine(new).model.neck.norm_cfg.type == 'BN'
    job = launch.search_job(new, 'supernet.pth')
    assert len(launch.search_only(job.cfg).custom_hooks) == len(launch.search_only(new).custom_hooks) == 1
    searched = job.space.configure(Exporter(job).searched, job.space.parse('0|0|00|0'))
    write_config(Config(job.evaluator.rescoring(searched)), tmp_path / 'exported.py')
    read = Config.fromfile(tmp_path / 'exported.py')
    assert read.model.backbone.type == 'detnas_mm.DetNASNet'
    assert read.model.neck.norm_cfg == dict(type='torch.nn.modules.batchnorm.SyncBatchNorm')
    assert read.custom_hooks == [dict(type='detnas_mm.ChannelsLastHook', evaluation=True)] and 'search' not in read
    assert type_name(read.test_evaluator.type) == 'FasterCocoMetric'
    assert any(isinstance(module, _BatchNorm) for module in build_model(read).neck.modules())


@pytest.fixture(scope='module')
def searches(retinanet_supernet, tmp_path_factory):
    """The same search by a config with texts and by one with classes: folders and what was logged."""
    found = {}
    for name in ('texts', 'classes'):
        folder = tmp_path_factory.mktemp(name)
        cfg = search_cfg(**SMALL)
        if name == 'classes':
            cfg = new_style(cfg, folder / 'new.py')
        cfg.work_dir, cfg.launcher, cfg.experiment_name = str(folder / 'work'), 'none', f'{name}-{id(cfg)}'
        launch.search(cfg, str(retinanet_supernet))
        found[name] = folder / 'work'
    return found


def rows(folder):
    lines = [json.loads(line) for line in (folder / 'ledger.jsonl').read_text().splitlines()]
    return [{key: row[key] for key in ('id', 'arch', 'metrics', 'costs', 'attempt')} for row in lines[1:]]


@pytest.mark.slow
def test_the_search_is_the_same_and_runs_once(searches):
    texts, classes = searches.values()
    assert len(rows(texts)) == 3 and rows(texts) == rows(classes)
    (log,) = classes.glob('*/*.log')
    assert log.read_text().count('Train it further, from these weights: ') == 1


@pytest.mark.slow
def test_what_it_exports_can_be_read_and_gives_the_fitness(searches, tmp_path):
    texts, classes = searches.values()
    best = json.loads((classes / 'best.json').read_text())[0]
    read, other = (Config.fromfile(folder / best['search_val']) for folder in (classes, texts))
    assert '<class' not in read.pretty_text and read.test_evaluator.type != other.test_evaluator.type
    read.experiment_name = other.experiment_name = None
    assert named(read.to_dict()) == named(other.to_dict())
    read.experiment_name = f'test-{id(read)}'
    read.work_dir, read.load_from, read.launcher = str(tmp_path), str(classes / best['checkpoint']), 'none'
    tested = Runner.from_cfg(fit_to_machine(read)).test()
    assert tested['coco/bbox_mAP'] == pytest.approx(best['metrics']['coco/bbox_mAP'], abs=5.1e-4)


@pytest.mark.slow
def test_its_own_config_goes_on_with_the_search_and_exports_rows(searches, retinanet_supernet):
    folder = searches['classes']
    before = rows(folder)
    files = export_row(folder, before[0]['id'])
    assert all(path.is_file() for path in files.values()) and set(files) == {'config', 'checkpoint', 'search_val'}
    assert Config.fromfile(files['config']).model.backbone.arch == before[0]['arch']
    cfg = Config.fromfile(folder / 'search_config.py')
    assert [is_hook(hook, SearchHook, 'mmdet') for hook in cfg.custom_hooks].count(True) == 1
    cfg.experiment_name = f'again-{id(cfg)}'
    launch.search(cfg, str(retinanet_supernet))
    assert rows(folder) == before


@pytest.mark.parametrize(
    'value, said',
    [
        (Path('data/digits'), r'a.b.0.c is PosixPath\(.data/digits.\), which cannot be written to a config file'),
        (math.inf, 'a.b.0.c is inf, which'),
        (torch.uint8, 'a.b.0.c is torch.uint8, which'),
        ([1, torch.zeros(1)], r'a.b.0.c.1 is tensor\(\[0.\]\), which'),
        ({'class': 1}, "a.b.0.c is {'class': 1}, which"),
        ('{{ fileBasename }}', "a.b.0.c is '{{ fileBasename }}', which"),
    ],
)
def test_what_would_not_be_read_as_it_is_is_named(value, said):
    with pytest.raises(ValueError, match=said):
        config_text(Config(dict(a=dict(b=[dict(c=value, d='kept')]))))


def test_it_is_refused_before_anything_is_searched_trained_or_loaded(tmp_path):
    cfg = search_cfg(search__evaluator__dataloader__dataset__data_root=Path('data/digits'))
    cfg.work_dir = str(tmp_path / 'work')
    with pytest.raises(
        SystemExit, match='^error: A search writes its config.* search.evaluator.dataloader.dataset.dat'
    ):
        one_line_errors(lambda: launch.search(cfg, 'nowhere.pth'))
    with pytest.raises(ValueError, match='A search writes its config'):  # under another train script
        runner = SimpleNamespace(cfg=cfg, _resume=False, work_dir=str(tmp_path / 'work'))
        runner._train_loop = runner._val_loop = runner._test_loop = None
        EvolutionSearchHook().before_run(runner)
    assert not (tmp_path / 'work').exists()
