"""Ways to start a search: the launcher passes its job to the hook; with any other train script the hook parses its own.

The supernet is a Faster R-CNN with SyncBN in backbone, neck and head, of random weights.
"""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import mmdet
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from detnas_mm.cli import parser
from detnas_mm.engine import EvolutionSearchHook, launch
from detnas_mm.engine import search as search_module
from detnas_mm.engine.config import read_config
from detnas_mm.errors import DetNASError
from detnas_mm.models import build_model
from detnas_mm.search import SearchJob, read_ledger
from tests import digits

from .test_config import norms

ROOT = Path(__file__).parents[2]
NAME = 'detnas-digits_search_fpn'
SMALL = dict(
    search__strategy__population=2, search__strategy__parents=1, search__strategy__mutation=1,
    search__strategy__crossover=1, search__budget__generations=1, search__evaluator__calibration__num_images=20,
    search__export__top_k=1, model__test_cfg__rcnn__score_thr=0.0, model__test_cfg__rcnn__max_per_img=10,
)  # fmt: skip


def written(folder, **changes):
    return digits.written(NAME, folder, **SMALL | changes)


@pytest.fixture(scope='module')
def supernet(digits_folder, tmp_path_factory):
    """A checkpoint of random weights."""
    folder = tmp_path_factory.mktemp('random')
    torch.manual_seed(0)
    model = build_model(written(folder))
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'supernet.pth')
    return str(folder / 'supernet.pth')


def by_the_tool(folder, supernet):
    """Runs a search as tools/search.py does."""
    options = [f'{key.replace("__", ".")}={value}' for key, value in SMALL.items()]
    words = [
        str(digits.CONFIGS / f'{NAME}.py'),
        '--work-dir',
        str(folder),
        '--cfg-options',
        *options,
        'log_level=ERROR',
    ]
    launch.search(read_config(parser('').parse_args(words)), supernet)


def by_train(folder, supernet):
    """Trains as tools/train.py does."""
    launch.run(written(folder, load_from=supernet))


def by_the_hook(folder, supernet):
    """Trains as any other train script does: a Runner of the config as written."""
    Runner.from_cfg(written(folder, load_from=supernet)).train()


DOORS = dict(tool=by_the_tool, train=by_train, hook=by_the_hook)


@contextmanager
def parsings():
    """Notes each parsing of a search section."""
    parsed, parse = [], SearchJob.from_config.__func__
    with pytest.MonkeyPatch.context() as patch:
        noted = classmethod(lambda *args, **kwargs: parsed.append(args) or parse(*args, **kwargs))
        patch.setattr(SearchJob, 'from_config', noted)
        yield parsed


@pytest.fixture(scope='module')
def doors(supernet, tmp_path_factory):
    """The same search by each door: folders, and how often the section was parsed."""
    found = {}
    for name, start in DOORS.items():
        folder = tmp_path_factory.mktemp(name) / 'work'
        with parsings() as parsed:
            start(folder, supernet)
        found[name] = folder, len(parsed)
    return found


def rows(folder):
    return [(row.id, row.arch, row.status, row.metrics, row.costs) for row in read_ledger(folder / 'ledger.jsonl')[1]]


def exported(folder):
    best = json.loads((folder / 'best.json').read_text())[0]
    return {key: folder / best[key] for key in ('config', 'search_val', 'checkpoint')}


@pytest.mark.slow
@pytest.mark.parametrize('name', DOORS)
def test_the_section_is_parsed_once(doors, name):
    assert doors[name][1] == 1


@pytest.mark.parametrize('start', [launch.run, launch.search])
def test_the_section_is_parsed_once_without_a_model(tmp_path, start):
    cfg = Config.fromfile(digits.CONFIGS / 'maedet-digits_search_retinanet.py')
    cfg.work_dir = str(tmp_path)
    with parsings() as parsed:
        start(cfg)
    assert len(parsed) == 1 and (tmp_path / 'best.json').is_file()


@pytest.mark.slow
def test_every_door_leads_to_the_same_rows(doors):
    first, *others = (rows(folder) for folder, _ in doors.values())
    assert len(first) == 2 and all(row[2] == 'ok' for row in first)
    assert others == [first, first]


@pytest.mark.slow
@pytest.mark.parametrize('name', DOORS)
def test_sync_bn_is_exported_as_sync_bn(doors, name):
    """Though it was searched on one process without a GPU; in the search's own config, too."""
    files = exported(doors[name][0])
    for config in (files['config'], files['search_val'], doors[name][0] / 'search_config.py'):
        assert norms(Config.fromfile(config)) == ['SyncBN'] * 3, config


@pytest.mark.slow
@pytest.mark.parametrize('name', DOORS)
def test_both_exported_configs_load_the_weights_strictly(doors, name):
    files = exported(doors[name][0])
    weights = torch.load(files['checkpoint'], weights_only=True)['state_dict']
    for key in ('config', 'search_val'):
        build_model(Config.fromfile(files[key])).load_state_dict(weights, strict=True)


@pytest.mark.slow
def test_the_searchs_config_is_the_one_that_was_written(doors, supernet):
    cfg = written(doors['tool'][0], load_from=supernet)
    read = Config.fromfile(doors['tool'][0] / 'search_config.py')
    cfg.pop('experiment_name')  # digits.written made it up
    assert read.to_dict() == cfg.to_dict()


@pytest.mark.slow
def test_it_can_be_searched_again(doors, tmp_path):
    """In its folder it resumes; in another it ends with the same rows."""
    folder = tmp_path / 'work'
    shutil.copytree(doors['tool'][0], folder)
    before = (folder / 'ledger.jsonl').read_bytes()
    for work_dir in (folder, tmp_path / 'other'):
        cfg = Config.fromfile(folder / 'search_config.py')
        cfg.work_dir, cfg.experiment_name = str(work_dir), f'again-{id(cfg)}'
        launch.search(cfg)
        assert rows(work_dir) == rows(doors['tool'][0])
    assert (folder / 'ledger.jsonl').read_bytes() == before


@pytest.mark.slow
def test_mmdets_own_train_script_searches_as_well(doors, supernet, tmp_path):
    """In another folder, by a config that inherits one of this package's; it imports the package when it needs it."""
    options = [f'{key.replace("__", ".")}={value}' for key, value in SMALL.items()]
    (tmp_path / 'mine.py').write_text(f"_base_ = '{digits.CONFIGS / NAME}.py'\nload_from = {supernet!r}\n")
    script = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'train.py'
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', str(script), 'mine.py', '--work-dir', 'work', '--cfg-options', *options],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert rows(tmp_path / 'work') == rows(doors['tool'][0])
    for config in exported(tmp_path / 'work')['search_val'], tmp_path / 'work' / 'search_config.py':
        assert norms(Config.fromfile(config)) == ['SyncBN'] * 3
    again = [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / 'search.py')]
    done = subprocess.run(
        [*again, 'work/search_config.py', '--work-dir', 'work'], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'Resuming from work/ledger.jsonl: it holds 2 evaluated candidates.' in done.stdout + done.stderr


# -- what is refused before anything is built --------------------------------------------------------------------------


@pytest.fixture
def nothing_is_built(monkeypatch):
    def build(cfg):
        raise AssertionError('a Runner was built')

    monkeypatch.setattr(Runner, 'from_cfg', build)


@pytest.mark.parametrize('missing', [['strategy'], ['evaluator'], ['strategy', 'evaluator']])
@pytest.mark.parametrize('start', [launch.search, launch.run])
def test_what_the_search_lacks_is_named(tmp_path, nothing_is_built, start, missing):
    cfg = written(tmp_path / 'work', load_from=None if 'evaluator' in missing else 'nowhere.pth')
    for key in missing:
        del cfg.search[key]
    expected = f'EvolutionSearchHook needs {" and ".join(f"search.{key}" for key in missing)}, such as'
    with pytest.raises(ValueError, match=expected):
        start(cfg)
    assert not (tmp_path / 'work').exists()
    hook = EvolutionSearchHook()
    with pytest.raises(ValueError, match=expected):
        hook.check(SearchJob.from_config(cfg))


def test_an_evaluator_with_workers_of_its_own_is_one_process(monkeypatch, tmp_path):
    cfg = Config.fromfile(digits.CONFIGS / 'maedet-digits_search_retinanet.py')
    cfg.work_dir = str(tmp_path / 'work')
    job = launch.search_job(cfg)
    job.evaluator.all_ranks = False
    monkeypatch.setattr(search_module, 'get_world_size', lambda: 2)
    with pytest.raises(ValueError, match='EntropyScore runs in one process only: start the search without a launcher'):
        launch.run(cfg, job=job)
    assert not (tmp_path / 'work').exists()
    hook = EvolutionSearchHook()
    hook.job = job
    runner = SimpleNamespace(_resume=False, logger=SimpleNamespace(info=print), cfg=dict(train_cfg=dict(max_epochs=9)))
    with pytest.raises(ValueError, match='EntropyScore runs in one process only'):  # before the training
        hook.before_run(runner)
    monkeypatch.undo()
    assert launch.run(cfg, job=job)


OWN_WORKERS = """
from detnas_mm.registry import EVALUATORS
from detnas_mm.testing.toy import ToyEvaluator

@EVALUATORS.register_module()
class OwnWorkers(ToyEvaluator):
    all_ranks = False
"""
TOY_SEARCH = """
custom_imports = dict(imports=['own_workers'])
search = dict(
    space=dict(type='ToySpace'),
    strategy=dict(type='RandomStrategy', population=3),
    evaluator=dict(type='OwnWorkers'),
    objectives=[dict(name='score')],
    budget=dict(generations=1),
)
"""


@pytest.mark.slow
def test_nor_is_it_started_as_several_processes(tmp_path):
    (tmp_path / 'own_workers.py').write_text(OWN_WORKERS)
    (tmp_path / 'toy.py').write_text(TOY_SEARCH)
    env = os.environ | dict(
        PYTHON=sys.executable, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]), OMP_NUM_THREADS='1',
        MAX_RESTARTS='0',
    )  # fmt: skip
    tools = ROOT / 'tools'
    two = ['bash', tools / 'dist_search.sh', 'toy.py', '2', '--work-dir', 'work']
    refused = subprocess.run(two, cwd=tmp_path, capture_output=True, text=True, env=env)
    assert refused.returncode != 0
    assert 'error: OwnWorkers runs in one process only: start the search without a launcher' in refused.stderr
    assert not (tmp_path / 'work' / 'ledger.jsonl').exists()
    one = [sys.executable, tools / 'search.py', 'toy.py', '--work-dir', 'work']
    assert subprocess.run(one, cwd=tmp_path, capture_output=True, text=True, env=env).returncode == 0
    assert len(rows(tmp_path / 'work')) == 3


def test_the_base_of_hooks_searches_nothing(tmp_path, nothing_is_built):
    """A config that names it would train and never search, without an error."""
    cfg = written(tmp_path, load_from='supernet.pth')
    cfg.custom_hooks = [dict(type='detnas_mm.SearchHook')]
    with pytest.raises(DetNASError, match='SearchHook is a base class and does not search'):
        launch.run(cfg)
