"""The command that trains one candidate of a search, run in this process."""

import os
import socket
import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint

from detnas_mm.checkpoints import load_checkpoint_file
from detnas_mm.engine import candidate, found
from detnas_mm.engine.candidate_training import Training, checkpoint_interval
from detnas_mm.engine.hooks.candidate_hook import CandidateHook, InheritHook
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.training.search_val import judged_on_search_val
from detnas_mm.registry import SPACES, build_from
from detnas_mm.workers import read_result, watchdog
from tests.test_evaluators import training

FLIPPED = dict(type='RandomFlip', prob=0.5)


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make(tmp_path, digits_folder):
    """Writes a candidate's folder; what is given changes its config, which has random flips."""

    def write(name='candidate', arch='RetinaHead@64', by_epoch=False, **changes):
        cfg = training.config(tmp_path / 'search', **changes)
        space = build_from(SPACES, cfg.search.space)
        own = space.configure(
            {k: v for k, v in cfg.to_dict().items() if k not in ('search', 'work_dir')}, space.parse(arch)
        )
        own['train_dataloader']['dataset']['pipeline'].insert(3, FLIPPED)
        if by_epoch:
            own['train_dataloader'] |= dict(
                sampler=dict(type='DefaultSampler', shuffle=True), num_batch_per_epoch=2, num_workers=0
            )
            own['train_cfg'] = dict(by_epoch=True, max_epochs=3)
            own['param_scheduler'] = [dict(type='ExponentialLR', gamma=0.7)]
        folder = tmp_path / name
        folder.mkdir()
        (folder / 'config.py').write_text(Config(own).pretty_text)
        return folder

    return write


def run(folder, key='work-end', *options):
    candidate.main([str(folder), '--key', key, *map(str, options)])
    return read_result(folder, key)


def weights(folder):
    return {name: value.tolist() for name, value in load_checkpoint_file(folder / 'weights.pth')['state_dict'].items()}


@pytest.fixture
def killed(monkeypatch):
    """Ends a training by an exception, as a kill would, after an iteration."""

    class Killed(BaseException):
        pass

    def after(iteration):
        step = CandidateHook.after_train_iter

        def dying(self, runner, batch_idx, data_batch=None, outputs=None):
            step(self, runner, batch_idx, data_batch, outputs)
            if runner.iter + 1 == iteration:
                raise Killed

        monkeypatch.setattr(CandidateHook, 'after_train_iter', dying)
        return Killed

    yield after


@pytest.mark.slow
@pytest.mark.parametrize('by_epoch', [False, True])
def test_stopped_at_a_rung_and_killed_it_ends_as_if_never_stopped(make, killed, monkeypatch, by_epoch):
    whole, again = make('whole', by_epoch=by_epoch), make('again', by_epoch=by_epoch)
    expected = run(whole)
    total, unit, rung = (3, 'epochs', 1) if by_epoch else (6, 'iterations', 3)
    assert expected['status'] == 'ok' and expected[unit] == total and list(expected['rungs']) == [str(total)]
    assert sorted(file.name for file in whole.iterdir()) == ['config.py', 'lock', 'result.json', 'weights.pth']
    state = load_checkpoint_file(whole / 'weights.pth')
    assert set(state) == {'state_dict'}, 'no state of the optimiser'

    paused = run(again, f'work-{rung}', '--until', rung)
    assert paused[unit] == rung and not (again / 'weights.pth').exists() and (again / 'training').is_dir()
    with monkeypatch.context(), pytest.raises(killed(5)):
        run(again)
    monkeypatch.undo()
    assert read_result(again, 'work-end') is None and read_result(again, f'work-{rung}') == paused
    ended = run(again)
    assert ended['metrics'] == expected['metrics'] and weights(again) == weights(whole)
    assert ended['rungs'] == {str(rung): paused['metrics'], str(total): expected['metrics']}
    assert paused['metrics'] != expected['metrics']

    other = make('other', by_epoch=by_epoch, randomness__seed=1)
    run(other)
    assert weights(other) != weights(whole), 'this test could not fail'


@pytest.mark.slow
def test_its_metrics_are_those_of_a_test_of_what_is_exported_and_stand(make, tmp_path):
    folder = make(arch='RetinaHead@96')
    result = run(folder)
    cfg = Config(judged_on_search_val(Config.fromfile(folder / 'config.py').to_dict()))
    (tmp_path / 'exported.py').write_text(cfg.pretty_text)
    values = found.tested(tmp_path / 'exported.py', folder / 'weights.pth', tmp_path / 'test')
    values = {name: value for name, value in values.items() if value != -1}  # COCO's word for no boxes of that size
    assert values.keys() == {name for name, value in result['metrics'].items() if value is not None}
    assert result['metrics']['coco/bbox_mAP_50'] > 0
    for name, value in values.items():
        assert abs(result['metrics'][name] - value) <= 5.1e-4
    assert any(result['metrics'][name] != value for name, value in values.items()), 'all digits'
    assert result['peak_memory_mb']['CPU'] > 100 and result['made_with']['threads'] == 1
    before = (folder / 'result.json').stat().st_mtime_ns
    run(folder)
    assert (folder / 'result.json').stat().st_mtime_ns == before


@pytest.mark.slow
def test_another_work_begins_from_the_start_and_weights_are_inherited_as_far_as_they_fit(make):
    folder = make()
    first = run(folder, 'work-3', '--until', 3)
    own = run(folder, 'other-end')
    assert list(own['rungs']) == ['6'] and own['metrics'] != first['metrics']
    child = make('child')
    inherited = run(child, 'child-end', '--inherit', folder / 'weights.pth')
    shared, of = inherited['inherited']
    assert shared == of and inherited['metrics'] != own['metrics']
    other = make('other', arch='GFLHead@64')
    shared, of = run(other, 'child-end', '--inherit', folder / 'weights.pth')['inherited']
    assert 0 < shared < of


def test_a_larger_backbone_inherits_what_fits_unless_the_training_was_resumed(tmp_path):
    def backbone(code):
        return MODELS.build(dict(type='detnas_mm.SMNASBackbone', code=code, base=8))

    parent = backbone('1-2-1-1')
    for value in parent.state_dict().values():
        value.copy_(torch.rand_like(value, dtype=torch.float))
    file = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=parent.state_dict()), file)
    with pytest.raises(DetNASError, match='Not loaded: stages'):
        load_checkpoint(backbone('11-2-1-1'), str(file), strict=False)
    for iteration in (0, 3):
        child = backbone('11-2-1-1')
        before = {name: value.clone() for name, value in child.state_dict().items()}
        InheritHook(file).before_train(SimpleNamespace(iter=iteration, model=child))
        shared = parent.state_dict() if iteration == 0 else {}
        assert len(shared) < len(before)
        for name, value in child.state_dict().items():
            torch.testing.assert_close(value, shared.get(name, before[name]), rtol=0, atol=0)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_and_no_detections_are_failures(make):
    folder = make(optim_wrapper__optimizer__lr=1e30, optim_wrapper__clip_grad=None)
    result = run(folder)
    assert result['status'] == 'failed' and result['reason'].endswith(' is not finite at iteration 2')
    assert sorted(file.name for file in folder.iterdir()) == ['config.py', 'lock', 'result.json']
    blind = make('blind', model__test_cfg__score_thr=1.0)
    assert run(blind)['reason'] == 'no detections on search-val'


@pytest.mark.slow
def test_out_of_memory_is_a_failure_and_a_broken_machine_is_none(make, monkeypatch):
    def breaking(error):
        def step(self, *args, **kwargs):
            raise error

        monkeypatch.setattr(CandidateHook, 'after_train_iter', step)

    for error, reason in (
        (RuntimeError('[enforce fail] DefaultCPUAllocator: not enough memory: you tried'), 'out of memory'),
        (MemoryError(), 'out of memory'),
        (ZeroDivisionError('division by zero'), 'ZeroDivisionError: division by zero'),
    ):
        folder = make(type(error).__name__)
        breaking(error)
        assert run(folder)['reason'] == reason
    for error in (RuntimeError('CUDA error: device not ready'), OSError('Input/output error')):
        folder = make(f'{type(error).__name__}_of_machine')
        breaking(error)
        with pytest.raises(Exception, match=str(error)):
            run(folder)
        assert not (folder / 'result.json').exists() and (folder / 'training').is_dir()


@pytest.mark.slow
def test_a_trial_tells_how_long_an_iteration_takes(make):
    for folder, total in ((make(), 6), (make('epochs', by_epoch=True), 6)):
        result = run(folder, 'work-trial-end', '--trial', 4)
        assert result['iterations'] == total and 0 < result['iteration'] < 60
        assert 'metrics' not in result


def test_checkpoints_come_as_often_as_the_config_says_and_at_the_end():
    by_iteration = dict(by_epoch=False, interval=200)
    assert checkpoint_interval(by_iteration, False, 1000, 1000) == 200
    assert checkpoint_interval(by_iteration, False, 1000, 300) == 150
    assert checkpoint_interval(by_iteration, False, 1000, 307) == 307
    assert checkpoint_interval(dict(interval=1), False, 1000, 1000) == 100
    assert checkpoint_interval(dict(by_epoch=False, interval=10_000), False, 1000, 1000) == 100
    assert checkpoint_interval(by_iteration, True, 12, 12) == 1


def test_a_limit_of_time_counts_earlier_starts_and_is_a_failed_result(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog.os, '_exit', lambda status: None)
    training = SimpleNamespace(folder=tmp_path, work='work', before=59.9, seconds=60.0)
    with candidate.Result(training, 'work-end', 60.0).limited():
        time.sleep(0.3)
    result = read_result(tmp_path, 'work-end')
    assert (result['status'], result['time_limit'], result['cores']) == ('failed', 60.0, os.cpu_count())
    assert result['host'] == socket.gethostname() and result['load'] >= 0
    assert result['reason'] == 'not finished within the limit of 60 s'


def test_weights_of_a_later_rung_are_not_judged_at_an_earlier_one(make, monkeypatch):
    folder = make()
    (folder / 'progress.json').write_text('{"work": "work", "done": 5, "seconds": 7.0}')
    (folder / 'training').mkdir()
    monkeypatch.setattr(Training, '_resumes', lambda self: True)
    monkeypatch.setattr(Training, '_position', lambda self: 5)
    assert Training(folder, 'work-end', None).before == 7 and (folder / 'training').is_dir()
    assert Training(folder, 'work-3', 3).before == 0 and not (folder / 'training').exists()
