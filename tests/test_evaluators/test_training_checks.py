"""Trained candidates: what is refused, forecast and said before and while they train."""

import json
import re
import time
from collections import namedtuple

import pytest

from detnas_mm.engine.export import Exporter
from detnas_mm.engine.measure import check_test_set
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.training import forecast, progress
from detnas_mm.evaluators.training.folder import CANDIDATES, work_of
from detnas_mm.evaluators.training.search_val import check_search_val
from detnas_mm.search import SearchJob
from detnas_mm.workers import Outcome, read_result, write_result
from tests import digits
from tests.test_evaluators import training
from tests.test_evaluators.training import FakeWorkers, files


@pytest.mark.parametrize(
    'evaluator, change, text',
    [
        ({}, dict(val_dataloader=None), 'has no val_dataloader. Give it'),
        ({}, dict(val_evaluator=None), 'has no val_evaluator. Give it'),
        ({}, dict(optim_wrapper=None), 'has no optim_wrapper: inherit a config that trains a detector'),
        ({}, dict(train_cfg=dict(by_epoch=True)), 'give it max_epochs of at least 1, or count iterations. To'),
        ({}, dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=6, max_epochs=12)),
         "train_cfg: IterBasedTrainLoop has no argument 'max_epochs'; it takes .*: train_cfg=dict.*_delete_=True"),
        ({}, dict(train_cfg=dict(type='EpochBasedTrainLoop', max_iters=6)), "has no argument 'max_iters'"),
        ({}, dict(train_cfg=dict(max_epochs=2)), "train_cfg has neither type nor by_epoch: {'max_epochs': 2}. Give it"),
        ({}, dict(train_cfg=dict(type='IterBasedTrainLoop', by_epoch=True, max_iters=6)), 'both type and by_epoch'),
        ({}, dict(train_cfg=dict(type='TrainLoop', max_epochs=2)), "train_cfg: 'TrainLoop' is not a registered loop"),
        (dict(workers=dict(type='LocalWorkers', gpus=[])), dict(optim_wrapper=dict(type='AmpOptimWrapper')),
         'is AmpOptimWrapper, which needs a GPU, and LocalWorkers'),
        ({}, dict(model=dict(bbox_head=dict(feat_channels='many'))), 'The candidate .*@.* cannot be built: '),
        (dict(halving=dict(at=[6])), {}, 'candidates train for 6 iterations: each number must be smaller'),
        (dict(halving=dict(at=[3, 2])), {}, r'halving.at must be increasing numbers'),
        (dict(halving=dict(at=[3], keep=1)), {}, 'halving.keep must be more than 0 and less than 1'),
        (dict(halving=dict(keep=0.5)), {}, 'search.evaluator.halving must be a dict such as'),
        (dict(workers=dict(type='Nobody')), {}, "Unknown workers 'Nobody'. Registered: .*LocalWorkers"),
        (dict(time_limit=0), {}, 'evaluator.time_limit must be None or seconds'),
        (dict(keep='some'), {}, "evaluator.keep must be 'front', 'all' or 'none'; got 'some'"),
        (dict(keep='none', inherit=True), {}, 'evaluator.inherit needs weights'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_long(digits_folder, tmp_path, evaluator, change, text):
    cfg = training.config(tmp_path, evaluator)
    cfg.merge_from_dict(change)
    for key, value in change.items():
        if not value or key == 'train_cfg':
            cfg[key] = value
    with pytest.raises(DetNASError, match=text):
        training.job(cfg)


def test_halving_needs_trainings_that_resume_exactly(digits_folder, tmp_path):
    cfg = training.config(tmp_path, dict(halving=dict(at=[2])))
    cfg.train_dataloader.dataset.pipeline.insert(3, dict(type='CachedMosaic', img_scale=(96, 96)))
    with pytest.raises(DetNASError, match='CachedMosaic keeps a random state of its own. Remove halving'):
        training.job(cfg)
    cfg.search.evaluator.halving = None
    lines = []
    training.job(cfg, lines.append)
    assert any('begin again from the start, since CachedMosaic' in line for line in lines)


def test_a_search_val_that_is_the_test_set_is_named(digits_folder, tmp_path):
    cfg = training.config(tmp_path)
    lines = []
    training.job(cfg, lines.append)
    assert lines == []
    cfg.val_dataloader = cfg.test_dataloader
    training.job(cfg, lines.append)
    assert len(lines) == 1 and lines[0].startswith('Search-val is the test set')


def test_a_search_val_of_training_images_is_named():
    def read(val, train):
        part = dict(data_root='data/coco', type='CocoDataset', pipeline=[dict(type='LoadImageFromFile')])
        data = [dict(dataset=dict(part, ann_file=file) | more) for file, more in (val, train)]
        cfg = dict(val_dataloader=data[0], train_dataloader=data[1], val_evaluator=dict(type='CocoMetric'))
        return [line.partition(':')[0] for line in check_search_val(cfg)]

    whole, subset, rest = ('a.json', {}), ('a.json', dict(indices=50)), ('a.json', dict(indices=[50, 51]))
    wrapped = ('', dict(type='RepeatDataset', times=2, dataset=dict(data_root='data/coco', ann_file='a.json')))
    for other in (whole, subset, wrapped):
        assert read(whole, other) == read(subset, other) == ['Search-val is the training set']
    assert read(subset, rest) == read(whole, ('b.json', {})) == []
    assert read(whole, ('a.json', dict(data_root='data/other'))) == []


def test_a_config_without_a_validation_loop_is_evaluated(digits_folder, tmp_path):
    """Each candidate would fail after its training: mmengine refuses a loader and an evaluator without a loop."""
    cfg = training.config(tmp_path)
    cfg.val_cfg = None
    found = training.job(cfg).evaluator.rescoring(cfg.to_dict())
    assert found['val_cfg'] == dict(type='ValLoop') and found['test_cfg'] == dict(type='TestLoop')


@pytest.mark.parametrize('keep', ['front', 'none'])
def test_what_is_exported_must_see_images_as_it_was_trained(digits_folder, tmp_path, keep):
    """Its weights would be wrong in a config with another preprocessor; without weights any config will do."""
    file = tmp_path / 'mine.py'
    own = dict(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=True)
    file.write_text(
        f"_base_ = 'detnas_mm::digits/smnas-digits_structural.py'\nmodel = dict(data_preprocessor=dict(**{own!r}))\n"
    )
    changes = dict(search__export=dict(config=str(file)), search__evaluator__keep=keep)
    job = SearchJob.from_config(digits.written('smnas-digits_structural', tmp_path, **changes))
    if keep == 'none':
        Exporter(job)
    else:
        with pytest.raises(DetNASError, match=r'export.config: model.data_preprocessor.\w+ is .* in .*mine.py, but'):
            Exporter(job)


def test_trained_candidates_are_tested_on_the_test_set_if_they_have_weights(digits_folder, tmp_path):
    check_test_set(training.job(training.config(tmp_path)))
    with pytest.raises(DetNASError, match='--test needs trained nets, but ShortTraining of this config exports none'):
        check_test_set(training.job(training.config(tmp_path, dict(keep='none'))))


def test_several_processes_are_refused(search, monkeypatch):
    monkeypatch.setattr('detnas_mm.engine.search.get_world_size', lambda: 2)
    with pytest.raises(DetNASError, match='ShortTraining runs in one process only: start the search without'):
        search()


def test_a_forecast_before_the_first_training(search, tmp_path):
    lines = []
    workers, _ = search(dict(trials=2), population=2, generations=2, log=lines.append)
    (line,) = [line for line in lines if line.startswith('Forecast: ')]
    assert line.startswith(
        'Forecast: 4 trainings at most (2 generations of 2); 2 to 3 hours with 2 at a time; disk: up to '
    )
    assert [task.key.endswith('-trial-end') for task in workers.tasks[:3]] == [True, True, False]
    assert files(tmp_path / 'search', 'config.py') == files(tmp_path / 'search', 'result.json'), 'no folders of trials'
    lines.clear()
    search(dict(trials=2), population=2, generations=2, log=lines.append)
    assert not any(line.startswith('Forecast') for line in lines), 'nothing is trained'
    stopped = FakeWorkers(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        search(workers=stopped, folder='half', population=2, generations=2)
    lines.clear()
    search(folder='half', population=2, generations=2, log=lines.append)
    (line,) = [line for line in lines if line.startswith('Forecast: ')]
    assert line.startswith('Forecast: 2 trainings at most (2 generations of 2, 2 done); 0.6 to 0.6 minutes'), line


def test_a_trial_that_hangs_ends_the_search_with_what_to_do(search, tmp_path):
    class Hanging(FakeWorkers):
        def _outcome(self, task):
            if '--trial' in task.command:
                self.tasks.append(task)
                limit = float(task.command[task.command.index('--time-limit') + 1])
                write_result(task.folder, task.key, dict(status='failed', reason='late', time_limit=limit))
                return Outcome(read_result(task.folder, task.key))
            return super()._outcome(task)

    hanging = Hanging()
    with pytest.raises(DetNASError, match=r'has not done 6 iterations within 3600 s.*_trial/log.txt.*trials=0 skips'):
        search(dict(trials=1), hanging)
    assert hanging.tasks[0].time_limit == 3600 and hanging.ran == []
    with pytest.raises(DetNASError, match=r'within 60 s.*with a higher search.evaluator.time_limit'):
        search(dict(trials=1, time_limit=60), Hanging(), folder='short')
    lines = []
    search(dict(trials=1), log=lines.append)  # the machine is well again
    assert any('; 1 to 1.5 hours' in line or '; 2 to 3 hours' in line for line in lines), lines


class WithoutTrials(FakeWorkers):
    """Every trial fails; reasons name the architecture if they should differ."""

    def __init__(self, reason):
        super().__init__()
        self.reason = reason

    def _outcome(self, task):
        if '--trial' not in task.command:
            return super()._outcome(task)
        self.tasks.append(task)
        write_result(task.folder, task.key, dict(status='failed', reason=self.reason.format(id=task.folder.name)))
        return Outcome(read_result(task.folder, task.key))


def test_trials_that_all_fail_for_one_reason_end_the_search(search, tmp_path):
    failing = WithoutTrials('KeyError: by_epoch')
    with pytest.raises(DetNASError, match=r'All 2 trial .*: KeyError: by_epoch. See .*_trial/log.txt.*trials=0 skips'):
        search(dict(trials=2), failing)
    assert failing.ran == [] and len(failing.tasks) == 2
    search(dict(trials=2))  # what they lacked was installed: they are tried again
    for place, (trials, reason) in enumerate([(1, 'KeyError'), (2, 'KeyError of {id}'), (2, 'out of memory')]):
        lines = []
        workers, _ = search(dict(trials=trials), WithoutTrials(reason), folder=str(place), log=lines.append)
        assert len(workers.ran) == 4 and any('hours unknown, since all trials failed: ' in line for line in lines)
        assert files(tmp_path / str(place), 'config.py') == files(tmp_path / str(place), 'result.json')


def test_a_disk_that_cannot_hold_it_is_refused(search, monkeypatch):
    Usage = namedtuple('Usage', 'total used free')
    monkeypatch.setattr(forecast.shutil, 'disk_usage', lambda folder: Usage(10**9, 0, 10**6))
    workers = FakeWorkers()
    with pytest.raises(
        DetNASError, match=r'has 1 MB free, and the search may need up to .* MB of checkpoints of running trainings'
    ):
        search(workers=workers)
    assert workers.ran == []


def test_it_says_how_far_candidates_are(search, monkeypatch, tmp_path):
    monkeypatch.setattr(progress, 'EVERY', 0.01)
    monkeypatch.setenv('TQDM_DISABLE', '1')  # lines, not a bar
    lines = []

    class Slow(FakeWorkers):
        def _train(self, task, arch, until):
            note = dict(work=work_of(task.key), done=3.5, until=6, unit='iterations')
            (task.folder / 'progress.json').write_text(json.dumps(note))
            seen = len(lines)
            end = time.monotonic() + 60
            while not any('3.5/6 iterations' in line for line in lines[seen:]):
                assert time.monotonic() < end
                time.sleep(0.01)
            super()._train(task, arch, until)

    search(workers=Slow(), log=lines.append)
    said = [line for line in lines if 'trainings finished' in line]
    assert any(re.fullmatch(r'1 of 4 trainings finished; running: \w{12} 3.5/6 iterations.*', line) for line in said)


def test_a_forecast_that_was_killed_leaves_no_trials(search, tmp_path):
    left = tmp_path / 'search' / CANDIDATES / 'abc_trial'
    left.mkdir(parents=True)
    search()
    assert not left.exists()
