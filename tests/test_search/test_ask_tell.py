"""The loop of strategies that ask and are given rows: what it writes, and how it resumes."""

from dataclasses import replace

import numpy as np
import pytest

from detnas_mm.cost import AdditiveTable
from detnas_mm.errors import DetNASError
from detnas_mm.search import Evaluation, EvolutionStrategy, LedgerError, Objective, RandomStrategy
from detnas_mm.search.strategies import ask_tell
from detnas_mm.systems.detnas import DetNASSpace

from .conftest import CountingEvaluator


def test_it_finds_better_ones_than_random_search(make_search):
    evolved = make_search(generations=8)
    drawn = make_search(strategy=RandomStrategy(10), generations=8, folder='b')
    assert evolved.run()[0].metrics['acc'] > drawn.run()[0].metrics['acc']


@pytest.mark.parametrize('stop_after', [0, 1, 10, 17, 39])
def test_stopped_and_started_again_it_ends_as_if_never_stopped(make_search, stop_after):
    whole = make_search()
    best = whole.run()
    cut = make_search(CountingEvaluator(stop_after=stop_after), folder='b')
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    cut.ledger.close()
    prefix = cut.ledger.path.read_bytes()
    again = make_search(folder='b')
    assert [r.id for r in again.run()] == [r.id for r in best]
    assert again.rows() == whole.rows()
    assert again.ledger.path.read_bytes()[: len(prefix)] == prefix
    assert len(again.evaluator.asked) == 40 - stop_after
    assert {r.attempt for r in again.ledger.records[stop_after:]} == {2 if stop_after else 1}


def test_a_finished_search_evaluates_nothing_more_and_a_longer_budget_goes_on(make_search):
    first = make_search(generations=2)
    first.run()
    first.ledger.close()
    second = make_search(generations=2)
    second.run()
    assert second.evaluator.asked == []
    second.ledger.close()
    third = make_search(generations=3)
    third.run()
    assert len(third.evaluator.asked) == 10
    longer = make_search(generations=3, folder='b')
    longer.run()
    assert third.rows() == longer.rows()


def test_failures_are_recorded_with_the_reason_and_never_win(make_search):
    trial = make_search(generations=1)
    winner = trial.run()[0]
    search = make_search(CountingEvaluator(fail={winner.id}), folder='b')
    assert winner.id not in {r.id for r in search.run()}
    (failed,) = [r for r in search.ledger.records if not r.ok]
    assert (failed.id, failed.status, failed.reason, failed.metrics) == (winner.id, 'failed', 'asked to', {})


def test_an_objective_that_the_evaluator_does_not_give_ends_the_search_at_once(make_search):
    search = make_search(CountingEvaluator(together=True), objective=Objective('mAP'))
    with pytest.raises(
        ValueError, match="'mAP' is neither a metric of the evaluator on these images, which are \\['acc'\\]"
    ):
        search.run()
    assert len(search.evaluator.asked) == 1 and search.ledger.records == []


def test_a_search_in_which_nothing_succeeds_ends_after_a_generation(make_search):
    lines = []
    search = make_search(CountingEvaluator(fail='all'), log=lines.append)
    with pytest.raises(DetNASError, match='^All 10 candidates failed: asked to. Remove the cause, .*ledger.jsonl'):
        search.run()
    assert len(search.ledger.records) == 10 and '10 nets, 10 failed;' in lines[-1]


def test_rows_of_a_strategy_that_draws_otherwise_are_refused(make_search):
    first = make_search(generations=1)
    first.run()
    first.ledger.close()
    other = make_search(strategy=EvolutionStrategy(population=9, parents=4), generations=2)
    with pytest.raises(LedgerError, match='not the candidates that this search proposes'):
        other.run()


def test_it_logs_every_generation(make_search):
    lines = []
    make_search(log=lines.append, generations=3, high=1e9).run()
    assert 'excludes nothing' in lines[0]
    assert [line.split(':')[0] for line in lines[1:]] == [f'generation {i}/3' for i in (1, 2, 3)]
    for part in ('acc best', 'median', 'best so far', 'MACs 2', ' M, params 1.', 'acceptance rate'):
        assert part in lines[-1]


@pytest.mark.parametrize('generations', [0, -1])
def test_no_generations_are_refused(make_search, generations):
    with pytest.raises(ValueError, match='generations'):
        make_search(generations=generations)


class Dropping(CountingEvaluator):
    """Drops, after a quarter of 400 images, who has few of gene 3; notes how many rows it had been shown by then."""

    def observe(self, records):
        self.shown = len(records)

    def remark(self, records):
        return f'{sum(record.status == "dropped" for record in records)} of {len(records)} dropped so far'

    def evaluate(self, archs):
        for arch, evaluation in zip(archs, super().evaluate(archs), strict=True):
            part = {'100': evaluation.metrics}
            if arch.genes.count(3) < 4:
                details = dict(images=100, partial=part)
                yield Evaluation(dropped=f'no prospect after {self.shown} rows', details=details)
            else:
                yield replace(evaluation, details=dict(images=400, partial=part))


def test_dropped_candidates_say_so_and_never_win(make_search):
    lines = []
    search = make_search(Dropping(), generations=3, log=lines.append)
    best = search.run()
    rows = search.ledger.records
    dropped = [row for row in rows if row.status == 'dropped']
    assert len(rows) == 30 and 0 < len(dropped) < 30
    assert {row.reason for row in dropped} == {
        f'no prospect after {10 * g} rows' for g in {r.generation for r in dropped}
    }
    assert all(not row.ok and row.metrics == {} for row in dropped)
    assert all(row.details['images'] == 100 and 'acc' in row.details['partial']['100'] for row in dropped)
    assert best == search.objectives[0].best_first(row for row in rows if row.status == 'ok')
    chosen = {parent for row in rows for parent in row.parents}
    assert chosen and not chosen & {row.id for row in dropped}
    for generation in range(3):
        own = sum(row.generation == generation for row in dropped)
        so_far = sum(row.generation <= generation for row in dropped)
        nets = '10 nets' + (f', {own} dropped early' if own else '')
        remark = f'({so_far} of {10 * generation + 10} dropped so far)'
        assert lines[generation].startswith(f'generation {generation + 1}/3: {nets} {remark}; ')
        assert 'failed' not in lines[generation]


def test_a_generation_that_is_dropped_whole_has_a_line_all_the_same(make_search):
    class DroppingLater(Dropping):
        def evaluate(self, archs):
            for evaluation in super(Dropping, self).evaluate(archs):
                yield Evaluation(dropped='no prospect') if self.shown else evaluation

    lines = []
    make_search(DroppingLater(), generations=2, log=lines.append).run()
    assert '10 nets, 10 dropped early (10 of 20 dropped so far); acceptance rate' in lines[1]
    assert 'median' in lines[0] and 'median' not in lines[1]


def test_a_search_with_dropped_rows_resumes_as_if_never_stopped(make_search):
    whole = make_search(Dropping(), generations=3)
    whole.run()
    cut = make_search(Dropping(stop_after=17), generations=3, folder='b')
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    cut.ledger.close()
    again = make_search(Dropping(), generations=3, folder='b')
    again.run()
    assert again.rows() == whole.rows()
    assert any(row['status'] == 'dropped' for row in whole.rows())


def test_what_no_line_of_json_can_hold_stays_out_of_metrics_and_details(make_search):
    class Partly(CountingEvaluator):
        def evaluate(self, archs):
            for evaluation in super().evaluate(archs):
                metrics = evaluation.metrics | {'other': float('-inf')}
                details = {'partial': {'100': {'acc': 1.0, 'recall': float('nan')}}, 'seconds': float('inf')}
                details['losses'] = [3.0, [float('nan'), 1]]
                yield replace(evaluation, metrics=metrics, details=details)

    search = make_search(Partly(), generations=1)
    search.run()
    assert all(
        row['details'] == {'partial': {'100': {'acc': 1.0}}, 'losses': [3.0, [None, 1]]} for row in search.rows()
    )
    assert all(row['status'] == 'ok' and list(row['metrics']) == ['acc'] for row in search.rows())


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
def test_an_objective_that_is_no_finite_number_is_a_failure_and_final(make_search, value):
    class Diverging(CountingEvaluator):
        """Every third candidate diverges."""

        def _one_by_one(self, archs):
            for evaluation in super()._one_by_one(archs):
                bad = len(self.asked) % 3 == 0
                yield replace(evaluation, metrics={'acc': value, 'loss': 9.0}) if bad else evaluation

    search = make_search(Diverging(), generations=2)
    ranked = search.run()
    rows = search.ledger.records
    failed = [row for row in rows if not row.ok]
    assert [row.index for row in failed] == [2, 5, 8, 11, 14, 17]
    assert {(row.status, row.reason) for row in failed} == {('failed', f'acc is {value}')}
    assert all(row.metrics == {'loss': 9.0} for row in failed), 'what can be written is'
    assert len(ranked) == 14 and not {row.id for row in failed} & {row.id for row in ranked}
    assert not {row.id for row in failed} & {parent for row in rows for parent in row.parents}
    search.ledger.close()
    again = make_search(Diverging(), generations=2)
    again.run()
    assert again.evaluator.asked == [], 'failures are not evaluated again'


class AskedCost(AdditiveTable):
    """Notes what it is asked, together with the evaluator."""

    def __init__(self, space, seen):
        super().__init__('asked', 'nothing', np.zeros((len(space.choices), max(space.choices))))
        self.seen = seen

    def setup(self, job):
        self.seen.append(('setup', job.seed))

    def measure(self, archs):
        self.seen.append(('measure', [arch.id for arch in archs]))


class ExpectingEvaluator(CountingEvaluator):
    """The same."""

    def expect(self, proposals):
        self.seen.append(('expect', [(p.arch.id, p.parents) for p in proposals]))

    def evaluate(self, archs):
        self.seen.append(('evaluate', [arch.id for arch in archs]))
        yield from super().evaluate(archs)


@pytest.mark.parametrize('stop_after', [None, 7])
def test_whole_generations_are_measured_and_expected_before_they_are_evaluated(make_search, stop_after):
    def search(stop_after):
        seen = []
        evaluator = ExpectingEvaluator(stop_after=stop_after)
        evaluator.seen = seen
        strategy = EvolutionStrategy(population=5, parents=3)
        cost = AskedCost(DetNASSpace('small'), seen)
        return make_search(evaluator, strategy, generations=2, costs=dict(asked=cost)), seen

    done, seen = search(stop_after)
    begun = 0
    if stop_after:
        with pytest.raises(KeyboardInterrupt):
            done.run()
        done.ledger.close()
        begun = len(done.ledger.records)
        done, seen = search(None)
    done.run()
    rows = done.ledger.records
    expected = [('setup', 0)]
    for first in (0, 5):
        missing = [row.id for row in rows[max(first, begun) : first + 5]]
        if missing:
            expected.append(('measure', missing))
            expected.append(('expect', [(row.id, row.parents) for row in rows[first : first + 5]]))
            alone = 1 if not begun and not first else 0
            expected += [('evaluate', part) for part in (missing[:alone], missing[alone:]) if part]
    assert seen == expected and any(row.parents for row in rows)


def test_drawing_ends_and_says_how_far_it_is(make_search, monkeypatch):
    lines = []
    search = make_search(log=lines.append)
    monkeypatch.setattr(ask_tell, 'EVERY', 0.0)
    search.strategy._drawn = search.strategy._accepted = 0
    assert search.strategy.draw_new(3, lambda count: []) == [], 'a draw that finds nothing'
    assert lines[-1].startswith('Drawing candidates: 0 so far in this generation, 0 of them new and within ')


def test_an_error_of_the_search_ends_what_is_evaluated(make_search):
    ended = []

    class Working(CountingEvaluator):
        first_alone = False

        def evaluate(self, archs):
            try:
                yield from super().evaluate(archs)
            finally:
                ended.append(len(self.asked))

    search = make_search(Working(), objective=Objective('AP'))
    with pytest.raises(DetNASError, match="'AP' is neither a metric") as caught:
        search.run()
    assert ended == [1] and caught, 'though the error is still there'


class DearCost(AskedCost):
    """One that is measured, and compared with the rows of an earlier start."""

    dear = True

    def confirm(self, known):
        self.seen.append(('confirm', sorted(arch.id for arch in known), set(known.values())))


@pytest.mark.parametrize('stop_after', [7, 10])
def test_rows_of_an_earlier_start_are_confirmed_before_more_is_evaluated(make_search, stop_after):
    def search(stop_after=None):
        seen = []
        cost = DearCost(DetNASSpace('small'), seen)
        evaluator = CountingEvaluator(stop_after=stop_after)
        strategy = EvolutionStrategy(population=5, parents=3)
        return make_search(evaluator, strategy, generations=3, costs=dict(asked=cost)), seen

    def confirmed(seen):
        return [entry[1:] for entry in seen if entry[0] == 'confirm' and entry[1]]

    first, seen = search(stop_after)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    first.ledger.close()
    assert confirmed(seen) == [] and len(first.ledger.records) == stop_after
    again, seen = search()
    again.run()
    again.ledger.close()
    assert confirmed(seen) == [(sorted(row.id for row in first.ledger.records), {0.0})]
    finished, seen = search()
    finished.run()
    assert confirmed(seen) == [], 'nothing more is evaluated'
