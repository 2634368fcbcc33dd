"""Candidates whose machine was lost: no row, retries, and finally an error that says how to resume."""

from pathlib import Path

import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.search import EvolutionStrategy, RandomStrategy
from detnas_mm.testing import ToyEvaluator, toy_job

from .conftest import Search

GENERATIONS, POPULATION = 4, 6
TOOL = Path(__file__).parents[2] / 'tools' / 'search.py'


def search(path, lost=(), retries=2, log=None, work_dir=None, make=EvolutionStrategy):
    """A search over a toy space, in which candidates are lost as often as ``lost`` says, by text."""
    evaluator = ToyEvaluator(lost=dict(lost))
    evaluator.retries = retries
    job = toy_job(make(POPULATION, max_attempts=1000), evaluator=evaluator)
    job.log, job.work_dir = log or job.log, work_dir
    return Search(job, path)


@pytest.fixture
def whole(tmp_path):
    """A search in which nothing is lost."""
    done = search(tmp_path / 'whole.jsonl')
    done.run()
    return done


@pytest.mark.parametrize(
    'times', [{0: 2}, {3: 1}, {5: 2}, {1: 2, 3: 1, 4: 2}, dict.fromkeys(range(1, 6), 1), {7: 1, 20: 2, 23: 2}]
)
def test_they_are_tried_again_and_rows_keep_the_order_asked_for(tmp_path, whole, times):
    """Places of candidates, and how often each is lost: twice is what two retries make good."""
    texts = [row.arch for row in whole.ledger.records]
    lines = []
    lost = {texts[place]: count for place, count in times.items()}
    again = search(tmp_path / 'lost.jsonl', lost, log=lines.append)
    ranked = whole.objectives[0].best_first(whole.ledger.records)
    assert [row.id for row in again.run()] == [row.id for row in ranked]
    assert again.rows() == whole.rows()
    assert {text: again.evaluator.asked.count(text) - 1 for text in texts} == dict.fromkeys(texts, 0) | lost
    assert any(line.startswith('Lost at attempt 1 of 3: ') and '(the machine went away)' in line for line in lines)


def test_others_are_not_evaluated_again_and_go_to_the_disk_as_far_as_order_allows(tmp_path, whole):
    texts = [row.arch for row in whole.ledger.records]
    again = search(tmp_path / 'lost.jsonl', {texts[4]: 1})
    seen = []
    evaluate = again.evaluator.evaluate

    def watched(archs):
        for evaluation in evaluate(archs):
            seen.append((len(again.ledger.records), len(archs)))
            yield evaluation

    again.evaluator.evaluate = watched
    again.run()
    first, others, retry = seen[0], seen[1:6], seen[6]
    assert first == (0, 1) and retry == (4, 1), 'those before the lost one have rows by then, those behind it wait'
    assert others == [(1, 5), (2, 5), (3, 5), (4, 5), (4, 5)]


@pytest.mark.parametrize('place', [0, 1, 9, 23])
def test_a_search_stops_with_the_command_that_resumes_it(tmp_path, monkeypatch, whole, place):
    monkeypatch.chdir(tmp_path)
    texts = [row.arch for row in whole.ledger.records]
    folder = tmp_path / 'my runs'
    lines = []
    cut = search(folder / 'ledger.jsonl', {texts[place]: 99}, log=lines.append, work_dir=folder)
    with pytest.raises(DetNASError) as error:
        cut.run()
    assert str(error.value) == (
        f'{texts[place]} was lost 3 times: the machine went away. Earlier rows are kept. Check the machines, then '
        f"resume with the same command: python {TOOL} '{folder}/search_config.py' --work-dir '{folder}'; or, to record "
        f"it as failed: python {TOOL} '{folder}/search_config.py' --work-dir '{folder}' --fail-lost"
    )
    assert cut.evaluator.asked.count(texts[place]) == 3
    assert sum(line.startswith('Lost at attempt') for line in lines) == 3
    assert cut.rows() == whole.rows()[:place], 'no row for the lost one, nor for those that were asked for behind it'
    cut.ledger.close()
    again = search(folder / 'ledger.jsonl')
    again.run()
    assert again.rows() == whole.rows()
    assert again.evaluator.asked == texts[place:], 'what has a row is not evaluated again'


def test_a_search_in_memory_names_no_command(whole):
    texts = [row.arch for row in whole.ledger.records]
    with pytest.raises(DetNASError, match='Check the machines, then resume with the same command$'):
        search(None, {texts[2]: 3}).run()


def test_what_is_lost_each_time_is_a_failed_row_if_the_user_says_so(tmp_path, whole):
    texts = [row.arch for row in whole.ledger.records]
    again = search(tmp_path / 'lost.jsonl', {texts[3]: 99})
    again.job.fail_lost = True
    again.run()
    rows = again.ledger.records
    assert [row.arch for row in rows[:6]] == texts[:6] and len(rows) == len(texts)
    assert [row.reason for row in rows if not row.ok] == ['lost 3 times: the machine went away']


@pytest.mark.parametrize('retries', [0, 1, 5])
def test_an_evaluator_says_how_often(tmp_path, whole, retries):
    texts = [row.arch for row in whole.ledger.records]
    fine = search(tmp_path / 'fine.jsonl', {texts[8]: retries}, retries)
    fine.run()
    assert fine.rows() == whole.rows()
    cut = search(tmp_path / 'cut.jsonl', {texts[8]: retries + 1}, retries)
    with pytest.raises(DetNASError, match=f'{texts[8]} was lost {retries + 1} times'):
        cut.run()
    assert cut.evaluator.asked.count(texts[8]) == retries + 1


def test_a_machine_that_takes_all_with_it(tmp_path):
    """Every candidate of every generation is lost once: each generation is evaluated twice."""
    make = RandomStrategy
    whole = search(tmp_path / 'whole.jsonl', make=make)
    whole.run()
    texts = [row.arch for row in whole.ledger.records]
    again = search(tmp_path / 'lost.jsonl', dict.fromkeys(texts, 1), make=make)
    again.run()
    assert again.rows() == whole.rows() and len(again.evaluator.asked) == 2 * GENERATIONS * POPULATION


def test_an_evaluation_that_is_lost_is_no_success():
    """Code that reads only the status must not mistake it for one."""
    evaluator = ToyEvaluator(lost={'000000': 1})
    job = toy_job(evaluator=evaluator)
    evaluator.setup(job)
    first, second = (next(evaluator.evaluate([job.space.smallest()])) for _ in range(2))
    assert (first.status, first.lost, first.metrics) == ('lost', 'the machine went away', {})
    assert second.status == 'ok' and second.metrics
