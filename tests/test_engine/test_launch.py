import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from detnas_mm.cli import one_line_errors
from detnas_mm.engine import EvolutionSearchHook, inputs, launch
from detnas_mm.engine.config import fit_to_machine
from detnas_mm.errors import DetNASError
from detnas_mm.models import build_model
from detnas_mm.search import Ledger, LedgerError, SearchJob
from tests import digits

ROOT = Path(__file__).parents[2]


def search_cfg(**changes):
    cfg = Config.fromfile(digits.CONFIGS / 'detnas-digits_search_retinanet.py')
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    return cfg


def test_sync_bn_becomes_bn_everywhere_without_a_process_group(capsys):
    cfg = Config(
        dict(
            launcher='none',
            model=dict(
                norm_cfg=dict(type='SyncBN'), neck=[dict(norm_cfg=dict(type='SyncBN', eps=1e-3)), dict(type='GN')]
            ),
        )
    )
    fitted = fit_to_machine(cfg)
    assert fitted.model.norm_cfg.type == 'BN'
    assert fitted.model.neck[0].norm_cfg == dict(type='BN', eps=1e-3)
    assert fitted.model.neck[1].type == 'GN'
    assert 'Replaced SyncBN by BN in 2 layers of the config: single process.' in capsys.readouterr().out
    assert fitted.env_cfg.dist_cfg.timeout >= 7200


def test_a_training_config_becomes_a_search_only_job():
    cfg = search_cfg()
    training = Config.fromfile(digits.CONFIGS / 'detnas-digits_supernet_retinanet.py')
    cfg.train_cfg, cfg.param_scheduler = training.train_cfg, training.param_scheduler
    cfg.custom_hooks = training.custom_hooks
    cfg.resume = True
    job = launch.search_job(cfg, 'supernet.pth', seed=7)
    assert (job.seed, job.cfg.search.seed, job.cfg.load_from) == (7, 7, 'supernet.pth')
    assert job.cfg.train_cfg == training.train_cfg and job.cfg.custom_hooks == training.custom_hooks
    only = launch.search_only(job.cfg)
    assert only.train_cfg == dict(type='EpochBasedTrainLoop', max_epochs=0)
    assert only.load_from == 'supernet.pth' and not only.resume
    assert only.default_hooks.checkpoint is None and only.param_scheduler == []
    assert only.custom_hooks == [*training.custom_hooks, dict(type='detnas_mm.EvolutionSearchHook')]
    assert launch.search_only(only).custom_hooks == only.custom_hooks


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(search__space__space='tiny'), "Unknown DetNAS space 'tiny'"),
        (
            dict(search__strategy__type='Magic'),
            "Unknown search strategy 'Magic'. Registered: EDOStrategy, EvolutionStrategy, ExactStrategy, ListStrat",
        ),
        (dict(search__strategy__size=3), "EvolutionStrategy has no argument 'size'; it takes population"),
        (dict(search__constraints=[dict(cost='latency', high=1)]), "'latency', which the search does not have"),
        (dict(search__constraints=[dict(cost='macs', high=1)]), 'No architecture meets macs ≤ 1'),
        (dict(search__budget__epochs=3), "no keys other than generations; got .*'epochs': 3"),
        (
            dict(search__budget__generations=2.7),
            'generations must be a whole number of at least 1; got 2.7',
        ),
        (dict(search__seed=-1), 'search.seed must be a whole number of at least 0; got -1'),
        (dict(search__objectives=[]), 'search.objectives is empty'),
        (dict(search__constraints='macs'), 'search.constraints must be a list'),
        (dict(search__costs=[dict(type='MacsTable')]), 'search.costs must be a dict by name, such as'),
        (dict(search__constraints=[dict(cost='macs', max=1)]), 'with no keys other than cost, low, high'),
        (dict(search__constraints=[dict(cost='macs', high='300M')]), "'macs' must be a number, .*'300M'"),
        (dict(search__strategy__parents=2.5), 'parents must be a whole number'),
        (
            dict(search__constraints=[dict(cost='macs', low=6.7e6), dict(cost='params', high=82_000)]),
            'candidates drawn meets 6,700,000 ≤ macs and params ≤ 82,000 \\(acceptance rate 0\\)',
        ),
        (dict(search__evaluator__chunk_size=2.5), 'evaluator.chunk_size must be a whole number'),
        (dict(search__evaluator__metric_workers=2), "OneShotEvaluator has no argument 'metric_workers'"),
        (dict(search__evaluator__cache_mb='x'), 'evaluator.cache_mb must be a number'),
        (dict(search__extra=1), r"search: unknown key 'extra'. Keys: space, strategy, evaluator, objectives, costs"),
        (dict(search__export__topk=5), "top_k=.*'topk': 5"),
        (dict(search__export__top_k=0), 'search.export.top_k must be a whole number of at least 1; got 0'),
        (dict(search__export__front_k=0), 'search.export.front_k must be a whole number of at least 1; got 0'),
        (dict(search__evaluator__calibration__images=1), 'calibration must be dict'),
        (dict(search__evaluator__channels_last='no'), "evaluator.channels_last must be True or False; got 'no'"),
        (
            dict(search__evaluator__dataloader=8),
            r'evaluator.dataloader must have batch_size and dataset, as in dict\(batch_size.*; got 8',
        ),
        (
            dict(search__evaluator__calibration__dataloader=3),
            'calibration.dataloader must have batch_size and dataset, as in dict.*; got 3',
        ),
    ],
)
def test_what_is_wrong_in_the_search_section_is_said_at_once(changes, message):
    with pytest.raises(SystemExit, match=f'error: .*{message}'):
        launch.search_job(search_cfg(**changes), 'supernet.pth')


def test_a_search_wants_its_section_and_its_checkpoint():
    with pytest.raises(SystemExit, match='no `search` section'):
        launch.search(Config.fromfile(digits.CONFIGS / 'detnas-digits_net_cls.py'), 'x.pth')
    with pytest.raises(SystemExit, match='needs a trained supernet. Give its checkpoint'):
        launch.search(search_cfg())


def test_checkpoints_that_run_code_are_refused_unless_trusted(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / 'ran'), 'w'))

    torch.save(dict(state_dict=dict(weight=torch.zeros(1)), extra=Evil()), tmp_path / 'evil.pth')
    with pytest.raises(SystemExit, match='--trust-checkpoint'):
        inputs.check_checkpoint(str(tmp_path / 'evil.pth'), False)
    assert not (tmp_path / 'ran').exists()
    inputs.check_checkpoint(str(tmp_path / 'evil.pth'), True)
    with pytest.raises(SystemExit, match='no checkpoint'):
        inputs.check_checkpoint(str(tmp_path / 'absent.pth'), False)


def test_backbones_are_not_loaded_from_files_that_run_code(tmp_path):
    """The weights that init_cfg names, as well as the ones that load_from names."""

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / 'ran'), 'w'))

    torch.save(dict(state_dict=dict(), extra=Evil()), tmp_path / 'evil.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'evil.pth'), prefix='backbone.')
    cfg = Config(dict(model=dict(type='RetinaNet', backbone=dict(type='detnas_mm.DetNASNet', init_cfg=[init]))))
    with pytest.raises(SystemExit, match='--trust-checkpoint'):
        launch.run(cfg)
    assert not (tmp_path / 'ran').exists()


def test_a_missing_data_folder_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv('DETNAS_DIGITS', str(tmp_path / 'digits'))
    cfg = Config.fromfile(digits.CONFIGS / 'detnas-digits_net_cls.py')
    made = (
        r'train_dataloader: no folder \S*/digits/ \(data_root of CustomDataset\).*: python .*make_digits.py /.*digits$'
    )
    with pytest.raises(SystemExit, match=made):
        launch.run(cfg)
    cfg.train_dataloader.dataset.data_root = 'data/nowhere/'
    seen = r'no folder data/nowhere/ \(data_root of CustomDataset, looked for in /.*\).*see the READMEs of configs/'
    with pytest.raises(SystemExit, match=seen):
        launch.run(cfg)


def test_a_second_search_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    cfg = search_cfg()
    cfg.work_dir, cfg.load_from = str(tmp_path), 'no such checkpoint.pth'
    with Ledger(tmp_path / 'ledger.jsonl', {}):
        with pytest.raises(LedgerError, match=f'ledger.jsonl is in use by process {os.getpid()} on'):
            launch.run(cfg)
        cfg.launcher = 'pytorch'
        for rank in '0', '1':
            monkeypatch.setenv('RANK', rank)
            with pytest.raises(LedgerError if rank == '0' else SystemExit, match='in use|there is no checkpoint'):
                launch.run(cfg)
        assert sorted(path.name for path in tmp_path.iterdir()) == ['ledger.jsonl', 'ledger.lock']
    cfg.launcher = 'none'
    with pytest.raises(SystemExit, match='there is no checkpoint'):
        launch.run(cfg)


def test_a_search_section_that_no_hook_runs_is_refused():
    cfg = search_cfg()
    cfg.custom_hooks = [dict(type='detnas_mm.PathSamplingHook')]
    with pytest.raises(SystemExit, match='no hook that runs it.*tools/search.py'):
        launch.run(cfg)


def test_models_are_built_with_the_preprocessing_that_stands_beside_them():
    cfg = Config.fromfile(digits.CONFIGS / 'detnas-digits_search_cls.py')
    cfg.data_preprocessor.update(mean=[100.0] * 3, std=[50.0] * 3)
    assert build_model(cfg).data_preprocessor.mean.flatten().tolist() == [100.0] * 3


def test_what_the_package_refuses_is_one_line_and_what_is_a_bug_is_not():
    with pytest.raises(SystemExit, match='^error: Block 0 of .* allowed are 0'):
        one_line_errors(lambda: MODELS.build(dict(type='detnas_mm.DetNASNet', arch='9' * 20)))
    with pytest.raises(TypeError):
        one_line_errors(lambda: MODELS.build(dict(type='detnas_mm.DetNASNet')))
    with pytest.raises(ZeroDivisionError):
        one_line_errors(lambda: 1 / 0)


def test_ctrl_c_is_no_traceback_and_says_what_to_type(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        one_line_errors(main)
    assert stopped.value.code == 130
    assert 'resume a search with the same command' in capsys.readouterr().err


@pytest.mark.parametrize('tool', ['train', 'test', 'search'])
def test_the_tools_teach(tool):
    out = subprocess.run(
        [sys.executable, ROOT / 'tools' / f'{tool}.py', '--help'], capture_output=True, text=True, check=True
    ).stdout
    assert 'examples:' in out and '--cfg-options' in out and '--local' not in out


def test_a_missing_config_is_one_line():
    done = subprocess.run([sys.executable, ROOT / 'tools' / 'search.py', 'nowhere.py'], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: there is no config 'nowhere.py'")


@pytest.mark.parametrize('name', ['detnas-digits_supernet_retinanet', 'detnas-digits_search_retinanet'])
def test_a_supernet_is_not_tested(name):
    command = [sys.executable, ROOT / 'tools' / 'test.py', digits.CONFIGS / f'{name}.py', 'x.pth']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'A supernet cannot be tested, only its subnets' in done.stderr.strip().splitlines()[-1]
    assert 'tools/export_subnet.py FOLDER ID' in done.stderr and 'Traceback' not in done.stderr


def test_config_dict_options_reach_the_section():
    cfg = search_cfg(search__budget__generations=3)
    assert isinstance(cfg.search, ConfigDict) and SearchJob.from_config(cfg).generations == 3


@pytest.mark.parametrize('epochs', [0, 12])
def test_a_search_only_job_refuses_a_checkpoint_of_another_model(epochs):
    model = torch.nn.ModuleDict(dict(backbone=torch.nn.Linear(1, 1), head=torch.nn.Linear(1, 1)))
    cfg = Config(dict(train_cfg=dict(max_epochs=epochs), load_from='step1.pth'))
    runner = SimpleNamespace(cfg=cfg, model=model)
    hook, whole = EvolutionSearchHook(), model.state_dict()
    hook.after_load_checkpoint(runner, dict(state_dict=whole))
    hook.after_load_checkpoint(runner, dict(state_dict={f'module.{key}': value for key, value in whole.items()}))
    part = dict(state_dict={key: value for key, value in whole.items() if key.startswith('backbone')})
    other = dict(state_dict=whole | {'head.bias': torch.zeros(20)})  # of other classes: mmengine only warns
    if epochs:  # what is missing will be trained
        hook.after_load_checkpoint(runner, part)
        hook.after_load_checkpoint(runner, other)
    else:
        with pytest.raises(ValueError, match='step1.pth lacks 2 of the 4 tensors of this model, such as head.bias: '):
            hook.after_load_checkpoint(runner, part)
        with pytest.raises(ValueError, match=r'lacks 1 of the 4 tensors .* head.bias \(\(20,\) there, \(1,\) here\): '):
            hook.after_load_checkpoint(runner, other)


def test_missing_annotations_are_named_before_anything_is_built(tmp_path):
    (tmp_path / 'here.json').write_text('{}')
    dataset = dict(type='CocoDataset', data_root=str(tmp_path), ann_file='here.json')
    inputs.JobInputs.read(Config(dict(search=dict(dataset=dataset)))).check()
    with pytest.raises(SystemExit, match=f'search: no file {tmp_path}/gone.json .ann_file'):
        inputs.JobInputs.read(Config(dict(search=dict(dataset=dataset | dict(ann_file='gone.json'))))).check()
    with pytest.raises(SystemExit, match='no file gone.json'):
        inputs.JobInputs.read(Config(dict(search=dict(metric=dict(type='CocoMetric', ann_file='gone.json'))))).check()


def test_a_job_without_a_model_reads_what_its_search_names_alone():
    """Neither checkpoints, nor data, nor heads of the model that stands in its config."""
    init = dict(type='Pretrained', checkpoint='backbone.pth')
    dataset = dict(type='CocoDataset', ann_file='some.json')
    head = dict(type='RetinaHead', num_classes=3)
    cfg = Config(
        dict(
            default_scope='mmdet',
            load_from='supernet.pth',
            model=dict(type='RetinaNet', backbone=dict(init_cfg=init), bbox_head=head),
            train_dataloader=dict(dataset=dataset),
            search=dict(evaluator=dict(dataloader=dict(dataset=dataset))),
            custom_hooks=[dict(type='detnas_mm.EvolutionSearchHook'), dict(type='NobodysHook')],
        )
    )
    read = inputs.JobInputs.read(cfg)
    assert (read.checkpoint, read.pretrained) == ('supernet.pth', ('backbone.pth',))
    assert [one.key for one in read.sets] == ['train_dataloader.dataset', 'search.evaluator.dataloader.dataset']
    assert [head.key for head in read.heads] == ['model.bbox_head']
    assert read.hooks == (EvolutionSearchHook,) and read.searches and read.trains
    read = inputs.JobInputs.read(cfg, model=False)
    assert (read.checkpoint, read.pretrained, read.heads, read.loaders) == (None, (), (), {})
    assert [one.key for one in read.sets] == ['search.evaluator.dataloader.dataset']


def test_a_work_dir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit, match='file is a file; give a folder'):
        launch.run(Config(dict(work_dir=str(tmp_path / 'file'))))
    with pytest.raises(SystemExit, match='file is a file; give a folder'):
        launch.run(Config(dict(work_dir=str(tmp_path / 'file' / 'folder'))))


def test_a_work_dir_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs.os, 'access', lambda path, mode: path != tmp_path)  # root may write anywhere
    with pytest.raises(SystemExit, match=f'new/folder: {tmp_path} is not writable; give another folder'):
        launch.run(Config(dict(work_dir=str(tmp_path / 'new' / 'folder'))))


def test_a_search_without_a_model_looks_for_its_own_data_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, 'run_search', lambda job: ['found'])
    monkeypatch.setattr(launch, 'measure_found', lambda job: None)
    cfg = Config.fromfile(ROOT / 'configs' / 'mae_det' / 'maedet_search_gfl_coco.py')
    cfg.work_dir, cfg.load_from = str(tmp_path), 'nowhere.pth'  # neither it nor COCO is read
    assert launch.run(cfg) == ['found']
    job = launch.search_job(cfg)
    cfg.search.evaluator.dataloader = dict(dataset=dict(data_root='nowhere/'))
    with pytest.raises(SystemExit, match='search: no folder nowhere/'):
        launch.run(cfg, job=job)


@pytest.mark.parametrize('classes, fits', [(('a', 'b'), True), (('a', 'b', 'c'), False)])
def test_heads_of_trained_candidates_are_held_against_the_data_and_not_the_one_of_the_config(
    classes, fits, tmp_path, monkeypatch
):
    """A whole detector takes the place of the config's, which may have the 80 classes of COCO."""
    from detnas_mm.evaluators import ShortTraining
    from detnas_mm.search import Budget, Objective
    from detnas_mm.systems.sm_nas import StructuralSpace

    monkeypatch.setattr(launch, 'run_search', lambda job: ['found'])
    resize = dict(type='Resize', scale=(64, 64), keep_ratio=True)
    pipeline = [dict(type='LoadImageFromFile'), resize]
    data = dict(dataset=dict(type='CocoDataset', metainfo=dict(classes=classes), pipeline=pipeline))
    model = dict(
        type='RetinaNet', backbone=dict(type='ResNet', depth=18), bbox_head=dict(type='RetinaHead', num_classes=80)
    )
    cfg = Config(
        dict(default_scope='mmdet', work_dir=str(tmp_path), model=model, train_dataloader=data, val_dataloader=data)
    )
    space = StructuralSpace(num_classes=2)
    job = SearchJob(space, [Objective('mAP')], Budget(space, {}), evaluator=ShortTraining(), cfg=cfg)
    if fits:
        assert launch.run(cfg, job=job, at_end=None) == ['found']
        return
    with pytest.raises(DetNASError, match='num_classes is 2, but train_dataloader.dataset has 3 classes'):
        launch.run(cfg, job=job, at_end=None)
