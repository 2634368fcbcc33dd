"""Trained candidates, as the search sees them: what runs the trainings is a fake that writes their results at once."""

import json
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.training import progress
from detnas_mm.evaluators.training.folder import CANDIDATES, Candidate, own_training, settings_digest, work_of
from detnas_mm.evaluators.training.rows import evaluation_of
from detnas_mm.search import read_ledger
from detnas_mm.workers import Outcome, WorkersBroken, write_result
from tests.test_evaluators.training import SCORES, FakeWorkers, files, rows


def test_rows_keep_the_order_asked_for_and_say_what_was_trained(search, tmp_path):
    lines = []
    workers, found = search(log=lines.append)
    assert sorted(arch for arch, _ in workers.ran) == sorted(SCORES)
    assert [row['arch'] for row in found] == [arch for arch, _ in reversed(workers.ran)]
    for row in found:
        assert row['metrics'] == {'coco/bbox_mAP': SCORES[row['arch']], 'of/training': 1.0}
        assert row['status'] == 'ok' and row['details'] == dict(iterations=6)
    task = workers.tasks[0]
    assert task.command[1:4] == ('-m', 'detnas_mm.engine.candidate', str(task.folder)) and task.time_limit is None
    assert task.folder.parent == tmp_path / 'search' / CANDIDATES
    header = read_ledger(tmp_path / 'search' / 'ledger.jsonl')[0]['evaluator']
    assert header['workers'] == dict(threads=1) and header['schedule'] == '6 iterations' and 'count' not in str(header)
    best = json.loads((tmp_path / 'search' / 'best.json').read_text())
    assert [entry['arch'] for entry in best] == ['GFLHead@96', 'GFLHead@64']
    for entry in best:
        state = torch.load(tmp_path / 'search' / entry['checkpoint'], weights_only=True)['state_dict']
        assert float(state['score']) == pytest.approx(SCORES[entry['arch']])
        exported = (tmp_path / 'search' / entry['search_val']).read_text()
        assert exported.count('instances_search_val.json') == 4 and 'instances_test' not in exported
    assert any(line.startswith('Re-score it on search-val: ') for line in lines)


HALVED = dict(halving=dict(at=[2, 4], keep=0.5))


@pytest.mark.parametrize('evaluator, stop_after', [(None, 1), (None, 3), (HALVED, 1), (HALVED, 3), (HALVED, 6)])
def test_stopped_and_started_again_it_ends_as_if_never_stopped(search, tmp_path, evaluator, stop_after):
    whole, expected = search(evaluator, folder='whole', population=2, generations=2)
    assert stop_after < len(whole.ran)
    stopped = FakeWorkers(stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        search(evaluator, stopped, population=2, generations=2)
    again, found = search(evaluator, population=2, generations=2)
    assert found == expected
    assert sorted(stopped.ran + again.ran, key=str) == sorted(whole.ran, key=str), 'nothing was trained twice'


def test_what_another_budget_has_left_is_not_taken(search, tmp_path):
    search()
    (tmp_path / 'search' / 'ledger.jsonl').unlink()
    same, _ = search()
    assert same.ran == []
    (tmp_path / 'search' / 'ledger.jsonl').unlink()
    longer, found = search(change=lambda cfg: cfg.train_cfg.update(max_iters=8))
    assert len(longer.ran) == 4
    (tmp_path / 'search' / 'ledger.jsonl').unlink()
    threads = FakeWorkers()
    threads.threads = 2
    assert len(search(workers=threads)[0].ran) == 4


def test_halving_lets_the_best_share_go_on_and_says_who_did(search, tmp_path):
    workers, found = search(dict(halving=dict(at=[2, 4], keep=0.5)))
    by_arch = {row['arch']: row for row in found}
    assert [until for _, until in workers.ran] == ['2'] * 4 + ['4'] * 2 + [None]
    assert {arch: row['status'] for arch, row in by_arch.items()} == dict(zip(SCORES, ['dropped'] * 3 + ['ok']))
    assert by_arch['RetinaHead@96']['reason'] == 'not among the best 2 of 4 after 2 iterations'
    assert by_arch['GFLHead@64']['reason'] == 'not among the best 1 of 2 after 4 iterations'
    assert by_arch['GFLHead@64']['details']['partial']['coco/bbox_mAP'] == 0.3
    assert by_arch['GFLHead@64']['metrics'] == {} and by_arch['GFLHead@64']['details']['iterations'] == 4
    assert set(by_arch['GFLHead@96']['details']['rungs']) == {'2', '4'}
    assert files(tmp_path / 'search', 'training') == [], 'dropped ones leave no checkpoints'
    turned, found = search(dict(halving=dict(at=[2], keep=0.25)), FakeWorkers(turning=True), folder='turned')
    assert [row['arch'] for row in found if row['status'] == 'ok'] == ['RetinaHead@64'], 'by what it had at the rung'


def test_failures_at_a_rung_neither_go_on_nor_count(search):
    workers, found = search(dict(halving=dict(at=[2], keep=0.5)), FakeWorkers(failing={'GFLHead@96': 'loss is nan'}))
    by_arch = {row['arch']: row for row in found}
    assert by_arch['GFLHead@96']['status'] == 'failed' and by_arch['GFLHead@64']['status'] == 'ok'
    assert by_arch['RetinaHead@64']['reason'] == 'not among the best 2 of 3 after 2 iterations'


def test_a_failure_names_its_log_and_is_final_unless_asked_for(search, tmp_path):
    failing = FakeWorkers(failing={'GFLHead@96': 'loss is not finite at iteration 2'})
    _, found = search(workers=failing)
    (row,) = [row for row in found if row['status'] == 'failed']
    assert row['reason'] == f'loss is not finite at iteration 2; log: candidates/{row["id"]}/log.txt'
    again, same = search()
    assert again.ran == [] and same == found
    lines = []
    again, new = search(retry=True, log=lines.append)
    assert again.ran == [('GFLHead@96', None)], 'rows behind it are taken from their results'
    assert [row['status'] for row in new] == ['ok'] * 4
    assert [row['id'] for row in new] == [row['id'] for row in found]
    assert any(line.startswith('Evaluated again: 1 row that failed') for line in lines)
    before = read_ledger(tmp_path / 'search' / 'ledger_before_1.jsonl')[1]
    assert [row.status for row in before].count('failed') == 1
    lines = []
    assert search(retry=True, log=lines.append)[0].ran == [] and any('nothing to evaluate again' in x for x in lines)


def test_rows_that_failed_by_their_time_are_taken_up_when_there_is_more(search):
    host = socket.gethostname()
    late = dict(reason='not finished within the limit of 60 s', time_limit=60.0, host=host, load=3.5, cores=2)
    _, found = search(dict(time_limit=60), FakeWorkers(failing={'RetinaHead@64': late}))
    (row,) = [row for row in found if row['status'] == 'failed']
    assert row['details'] == dict(time_limit=60.0, host=host, load=3.5, cores=2)
    assert search(dict(time_limit=60))[0].ran == [] and search(dict(time_limit=30))[0].ran == []
    more, new = search(dict(time_limit=90))
    assert more.ran == [('RetinaHead@64', None)] and more.tasks[0].time_limit == 90
    assert '--time-limit' in more.tasks[0].command and [row['status'] for row in new] == ['ok'] * 4


def test_lost_ones_are_tried_again_then_failed_then_the_workers_are_broken(search):
    workers, found = search(workers=FakeWorkers(lost={'GFLHead@64': 2}))
    assert workers.ran.count(('GFLHead@64', None)) == 3 and [row['status'] for row in found] == ['ok'] * 4
    _, found = search(workers=FakeWorkers(lost={'GFLHead@64': 9}), folder='one')
    (row,) = [row for row in found if row['status'] == 'failed']
    assert row['reason'].startswith('killed 3 times') and 'memory?' in row['reason']
    assert row['reason'].endswith(f'log: candidates/{row["id"]}/log.txt') and row['details'] == dict(
        peak_memory_mb=1024
    )
    with pytest.raises(WorkersBroken, match=r'search.py .*search_config\.py'):
        search(workers=FakeWorkers(lost=dict.fromkeys(SCORES, 9)), folder='all')


def test_one_that_is_lost_last_is_a_failed_row_if_the_user_says_so_and_can_be_resumed(search, tmp_path):
    """Nothing else finishes after it, at every start: without the option the search would never end."""
    lost = {'GFLHead@64': 9}
    with pytest.raises(WorkersBroken, match=r'record it as failed and resume: python \S*search.py .* --fail-lost; to'):
        search(workers=FakeWorkers(lost=lost), change=only_gfl)
    with pytest.raises(WorkersBroken):
        search(workers=FakeWorkers(lost=lost), change=only_gfl)
    _, found = search(workers=HalfTrained(lost=lost), change=only_gfl, give_up=True)
    assert [row['status'] for row in found] == ['failed', 'ok']
    assert found[0]['reason'].startswith('killed 3 times by signal 9 (SIGKILL); memory?')
    assert read_ledger(tmp_path / 'search' / 'ledger.jsonl')[1][0].host == 'node7'
    half = tmp_path / 'search' / CANDIDATES / found[0]['id'] / 'training' / 'half'
    assert half.is_file(), 'nothing that was computed is deleted'
    again, found = search(change=only_gfl, retry=True)
    assert [row['status'] for row in found] == ['ok', 'ok'] and again.ran == [('GFLHead@64', None)]


def only_gfl(cfg):
    cfg.search.pop('strategy')
    cfg.search.strategy = dict(type='ListStrategy', archs=['GFLHead@64', 'GFLHead@96'])


class HalfTrained(FakeWorkers):
    """Leaves a checkpoint of what is lost, on another machine."""

    def _outcome(self, task):
        (task.folder / 'training').mkdir(exist_ok=True)
        (task.folder / 'training' / 'half').touch()
        return replace(super()._outcome(task), host='node7')


def test_rows_name_the_machine_that_trained(search, tmp_path):
    class Elsewhere(FakeWorkers):
        def _train(self, task, arch, until):
            super()._train(task, arch, until)
            result = json.loads((task.folder / 'result.json').read_text())
            write_result(task.folder, task.key, result | dict(host=f'node of {arch}'))

    search(dict(halving=dict(at=[2], keep=0.5)), Elsewhere())
    records = read_ledger(tmp_path / 'search' / 'ledger.jsonl')[1]
    assert {record.status for record in records} == {'ok', 'dropped'}
    assert all(record.host == f'node of {record.arch}' for record in records)


def test_settings_that_change_no_result_are_not_in_the_ledger(search, tmp_path):
    search()
    assert search(dict(time_limit=50, retries=5, keep='all', trials=3))[0].ran == []
    with pytest.raises(DetNASError, match='evaluator.halving'):
        search(dict(halving=dict(at=[2])))
    for changed in (dict(batch_size=5), dict(num_workers=3)):
        with pytest.raises(DetNASError, match='evaluator.trained_and_judged_as'):
            search(change=lambda cfg, changed=changed: cfg.train_dataloader.update(changed))
    threads = FakeWorkers()
    threads.threads = 2
    with pytest.raises(DetNASError, match='evaluator.workers.threads'):
        search(workers=threads)
    assert Path(tmp_path / 'search' / 'ledger.jsonl').is_file()


class LateWorkers(FakeWorkers):
    """One candidate is stopped by the limit of time after its last rung."""

    def _train(self, task, arch, until):
        super()._train(task, arch, until)
        result = json.loads((task.folder / 'result.json').read_text())
        if not until and arch == 'GFLHead@96':
            rungs = {rung: values for rung, values in result['rungs'].items() if rung != '6'}
            late = dict(status='failed', reason='late', time_limit=60.0, rungs=rungs)
            write_result(task.folder, task.key, late)
            note = dict(work=work_of(task.key), done=5, until=6, unit='iterations')
            (task.folder / 'progress.json').write_text(json.dumps(note))


@pytest.mark.parametrize('row', [True, False])
def test_one_that_goes_on_keeps_what_it_had_at_its_rungs(search, tmp_path, row):
    """If it were trained beyond the rung, it would be evaluated there with its later weights."""
    halved = dict(halving=dict(at=[2], keep=0.5))
    _, found = search(halved | dict(time_limit=60), LateWorkers())
    assert sorted(one['status'] for one in found) == ['dropped', 'dropped', 'failed', 'ok']
    if not row:  # killed before it was written
        (tmp_path / 'search' / 'ledger.jsonl').unlink()
    more, new = search(halved | dict(time_limit=90))
    assert more.ran == [('GFLHead@96', None)]
    assert {one['arch']: one['status'] for one in new} == dict(zip(SCORES, ['dropped', 'dropped', 'ok', 'ok']))


@pytest.mark.parametrize(
    'change, same',
    [
        (dict(model=dict(test_cfg=dict(nms=dict(iou_threshold=0.9)))), False),
        (dict(model=dict(test_cfg=dict(nms=dict(iou_threshold=0.5))), test_cfg=dict(type='Other')), True),
        (dict(model=dict(test_cfg=dict(nms=dict(iou_threshold=0.5))), default_hooks=dict(logger=None)), True),
    ],
)
def test_what_decides_a_score_is_in_its_digest(change, same):
    own = dict(model=dict(test_cfg=dict(nms=dict(iou_threshold=0.5))), test_cfg=dict(type='TestLoop'))
    assert (settings_digest(own | change) == settings_digest(own)) is same


@pytest.mark.parametrize(
    'change, alike',
    [
        (dict(), True),
        (dict(model=dict(type='GFL'), test_dataloader=dict(batch_size=9)), True),
        (dict(train_dataloader=dict(pipeline=[dict(type='Resize', scale=(96, 96)), dict(type='RandomFlip')])), True),
        (dict(train_dataloader=dict(pipeline=[dict(type='Resize', scale=(64, 64))])), False),
        (dict(optim_wrapper=dict(optimizer=dict(lr=0.2))), False),
    ],
)
def test_candidates_that_train_in_another_way_are_marked(tmp_path, change, alike):
    """Seeds of a search may bring other augmentation; such rows are on a joint front with their like alone."""
    pipeline = [dict(type='Resize', scale=(64, 64)), dict(type='RandomFlip')]
    cfg = dict(model=dict(type='FCOS'), train_dataloader=dict(pipeline=pipeline))
    cfg['optim_wrapper'] = dict(optimizer=dict(lr=0.1))
    found = own_training(cfg | change, cfg)
    assert (found is None) is alike
    outcome = Outcome(dict(status='ok', metrics={}, iterations=6))
    row = evaluation_of(Candidate('0a', tmp_path, 'work', own_training=found), outcome, 6)
    assert row.details == dict(iterations=6) | ({} if alike else dict(own_training=found))


def test_what_has_come_to_a_rung_is_under_way_to_the_next(tmp_path):
    write_result(tmp_path, 'work-2', dict(status='ok'))
    note = dict(work='work', done=3, until=4, unit='epochs')
    (tmp_path / 'progress.json').write_text(json.dumps(note))
    one = Candidate('abc', tmp_path, 'work')
    assert progress.Watched(None, [one], 4).line() == '0 of 1 training finished; running: abc 3/4 epochs'
    assert progress.Watched(None, [one], 2).line() == '1 of 1 training finished'


def test_one_that_is_lost_at_a_rung_is_not_compared_when_the_search_resumes(search, tmp_path):
    """It has its row as failed, and the others have been compared without it."""
    halved = dict(halving=dict(at=[2], keep=0.5))
    order = list(SCORES)
    listed = dict(type='ListStrategy', archs=order)
    search = partial(
        search, halved, change=lambda cfg: cfg.search.pop('strategy') and cfg.search.update(strategy=listed)
    )
    scores = dict(zip(order, (0.1, 0.9, 0.2, 0.3)))
    _, expected = search(FakeWorkers(scores, lost={order[1]: 3}), folder='whole')
    assert [row['status'] for row in expected] == ['dropped', 'failed', 'ok', 'ok']
    with pytest.raises(KeyboardInterrupt):
        search(FakeWorkers(scores, lost={order[1]: 3}, stop_after=6))
    assert [row['status'] for row in rows(tmp_path / 'search')] == ['dropped', 'failed']
    again, found = search(FakeWorkers(scores))
    assert found == expected and order[1] not in [arch for arch, _ in again.ran]
    retried, found = search(FakeWorkers(scores), retry=True)
    assert retried.ran == [(order[1], '2'), (order[1], None)]
    assert [row['status'] for row in found] == ['dropped', 'ok', 'dropped', 'ok']
