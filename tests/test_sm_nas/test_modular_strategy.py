"""The evolution of the second stage: its contract, its draws, and the candidates that it spares."""

from contextlib import suppress

import numpy as np
import pytest

from detnas_mm.cost import CostModel
from detnas_mm.errors import DetNASError
from detnas_mm.search import Constraint, Evaluation, Evaluator, Ledger, Objective
from detnas_mm.systems.sm_nas.modular import ModularSpace
from detnas_mm.systems.sm_nas.strategies import MEASURED, ModularStrategy
from detnas_mm.testing import ToySpace, check_strategy, toy_job
from tests.jobs import make_job

from .seeds import FASTER, RETINA18, derived

BOTH = (Objective('score'), Objective('toy', 'minimize'))


def no_larger(space, first, second):
    return first != second and all(a <= b for a, b in zip(first.genes, second.genes, strict=True))


@pytest.fixture
def ordered(monkeypatch):
    """Gives the toy space an order: digits that are no larger come before."""
    monkeypatch.setattr(ToySpace, 'precedes', no_larger, raising=False)


# -- the contract ---------------------------------------------------------------------------------------------------


def test_it_keeps_the_contract_of_strategies():
    check_strategy(lambda: ModularStrategy(pruning=False), BOTH)


def test_it_keeps_the_contract_of_strategies_with_pruning(ordered):
    strategies = []

    def make():
        strategies.append(ModularStrategy())
        return strategies[-1]

    check_strategy(make, BOTH)
    assert sum(bool(strategy.pruned) for strategy in strategies) > 3  # or it was checked without any


@pytest.mark.parametrize(
    'settings, text',
    [
        (dict(population=0), 'population must be'),
        (dict(random=1.5), r'random must lie in \[0, 1\]'),
        (dict(mutation_prob=0), r'mutation_prob must lie in \(0, 1\]'),
        (dict(pruning='no'), 'pruning must be True or False'),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, text):
    with pytest.raises(DetNASError, match=text):
        ModularStrategy(**settings)


@pytest.mark.parametrize(
    'objectives, text',
    [
        (BOTH[:1], 'needs two objectives'),
        (
            (BOTH[0], Objective('other', 'minimize')),
            r"one of the costs \['toy'\] with direction minimize; got \['score', 'other'\]",
        ),
        ((BOTH[0], Objective('toy')), 'with direction minimize'),
        ((*BOTH, Objective('third')), 'objectives must be a metric and one of the costs'),
        (BOTH, 'ToySpace has no partial order'),
    ],
)
def test_what_it_cannot_serve_is_refused(objectives, text):
    with pytest.raises(DetNASError, match=text):
        toy_job(ModularStrategy(), objectives)


# -- a modular search -----------------------------------------------------------------------------------------------


class Blocks(CostModel):
    """Milliseconds by a formula, with spread; notes what it is asked to measure."""

    name, scope = 'ms', 'a formula'

    def __init__(self, spread=0.0):
        self.width = spread
        self.asked = []

    def spec(self):
        return dict(type='Blocks')

    def totals(self, ids):
        return (ids[:, 7:] > 0).sum(1) * 1.0 + ids[:, 1] / 16 + ids[:, 2] / 64

    def bounds(self):
        return 0.0, float('inf')

    def measure(self, archs):
        self.asked.append(list(archs))

    def spread(self, arch):
        return self.width


class Formula(Evaluator):
    """More blocks up to ten and more channels are good, and so is luck; every seventh depth fails."""

    def __init__(self, left=None, epochs=12):
        self.left = left
        self.epochs = epochs

    def setup(self, job, model=None):
        self.space = job.space

    def spec(self):
        return dict(type='Formula')

    def evaluate(self, archs):
        for arch in archs:
            if self.left is not None:
                if not self.left:
                    raise KeyboardInterrupt
                self.left -= 1
            codes = self.space.encode([arch])[0]
            depth = int((codes[7:] > 0).sum())
            if depth % 7 == 0:
                yield Evaluation(failure='every seventh depth fails')
                continue
            luck = int(arch.id, 16) % 100 / 2000
            value = 0.3 + 0.01 * min(depth, 10) + codes[1] / 3000 + codes[2] / 9000 + luck
            yield Evaluation(dict(mAP=float(value)), details=dict(epochs=self.epochs))


@pytest.fixture(scope='module')
def space():
    return ModularSpace([FASTER, RETINA18], base_move=0.2, neck_move=0.2)


def search(space, ledger=None, cost=None, evaluator=None, generations=6, constraints=(), seed=0, log=None, **settings):
    strategy = ModularStrategy(**dict(dict(population=12), **settings))
    job = make_job(
        space, [Objective('mAP'), Objective('ms', 'minimize')], dict(ms=cost or Blocks()), constraints,
        strategy=strategy, evaluator=evaluator or Formula(), generations=generations, seed=seed,
        **({} if log is None else dict(log=log)),
    )  # fmt: skip
    job.prepare()
    job.evaluator.setup(job)
    with Ledger(ledger, job.header()) as rows:
        strategy.run(job.evaluator, rows)
        return strategy, rows.records


def texts(records):
    return [(record.arch, record.origin, record.parents, record.status) for record in records]


def test_seeds_are_the_first_rows(space):
    _, rows = search(space, generations=1)
    assert [(row.arch, row.origin) for row in rows[:2]] == [
        (space.describe(point), 'seed') for point in space.starting_points
    ]
    assert {row.origin for row in rows[2:]} == {'random'} and len(rows) == 12
    _, rows = search(space, generations=1, population=1)
    assert [row.origin for row in rows] == ['seed', 'seed']


def test_seeds_that_break_a_constraint_are_named(space):
    lines = []
    _, rows = search(space, generations=1, constraints=[Constraint('ms', high=17)], log=lines.append)
    assert not any(row.origin == 'seed' and row.arch.startswith('seed1') for row in rows)
    named = [line for line in lines if 'does not meet the constraints' in line]
    assert len(named) == 1 and space.describe(space.starting_points[0]) in named[0]


def test_parents_are_drawn_from_the_whole_front(space):
    _, rows = search(space, pruning=False, random=0.0, generations=5, population=40)
    ids = {row.id: row for row in rows}
    parents = {row.parents[0] for row in rows if row.generation == 4 and row.origin == 'mutation'}
    before = [row for row in rows if row.generation < 4 and row.ok]
    front = {
        row.id
        for row in before
        if not any(
            other.metrics['mAP'] >= row.metrics['mAP'] and other.costs['ms'] <= row.costs['ms']
            and (other.metrics['mAP'], other.costs['ms']) != (row.metrics['mAP'], row.costs['ms'])
            for other in before
        )
    }  # fmt: skip
    assert parents <= front and len(parents) > len(front) / 2 and len(front) > 4
    assert all(ids[parent].ok for parent in parents)


@pytest.mark.parametrize('share', [0.0, 0.2, 1.0])
def test_so_many_are_drawn_at_random(space, share):
    _, rows = search(space, pruning=False, random=share, generations=6, population=40)
    later = [row.origin for row in rows if row.generation]
    assert abs(later.count('random') / len(later) - share) < 0.1


def test_candidates_are_spared_and_noted(space):
    strategy, rows = search(space, generations=8)
    whole = search(space, generations=8, pruning=False)[0]
    notes = strategy.artifacts()['pruning.json']
    assert len(notes['spared']) >= 3 and len(rows) == 96
    assert not {note['arch'] for note in notes['spared']} & {row.arch for row in rows}
    assert notes['spreads'] == {row.id: 0.0 for row in rows if row.ok}
    assert whole.artifacts()['pruning.json']['spared'] == []
    by_text = {row.arch: row for row in rows}
    for note in notes['spared']:
        larger, faster = by_text[note['larger']], by_text[note['faster']]
        assert larger.ok and faster.ok and max(larger.generation, faster.generation) < note['generation']
        assert space.precedes(space.parse(note['arch']), space.parse(note['larger']))
        assert faster.metrics['mAP'] >= larger.metrics['mAP'] and note['cost'] >= faster.costs['ms']
    assert f'{len(notes["spared"])} spared so far' in strategy.remark


def test_ties_within_the_spread_spare_nothing(space):
    assert search(space, generations=8)[0].pruned
    assert not search(space, generations=8, cost=Blocks(spread=1000.0))[0].pruned


def test_only_what_is_in_doubt_is_measured_beforehand_and_all_together(space):
    cost = Blocks()
    strategy, rows = search(space, cost=cost, generations=8)
    asked = [batch for batch in cost.asked if batch]
    spared = {note['arch'] for note in strategy.pruned}
    measured = {space.describe(arch) for batch in asked for arch in batch}
    assert measured == spared | {row.arch for row in rows}
    assert max(map(len, asked)) > 8


def test_a_generation_measures_a_limited_number_and_logs_it(space, monkeypatch):
    """Without a limit, a cost by which everything is dropped is measured for all that can be drawn."""
    monkeypatch.setattr(ModularSpace, 'precedes', lambda space, first, second: len(first.genes[2]) % 16 > 0)
    monkeypatch.setattr(Blocks, 'totals', lambda cost, ids: np.full(len(ids), 100.0))
    monkeypatch.setattr(Formula, 'evaluate', lambda self, archs: (Evaluation(dict(mAP=0.5)) for _ in archs))
    cost, lines = Blocks(), []
    strategy, rows = search(space, cost=cost, generations=2, log=lines.append)
    first, second = ([row for row in rows if row.generation == number] for number in range(2))
    batches = [len(batch) for batch in cost.asked if batch]
    assert len(first) == len(second) == 12 and batches[-1] == 12
    assert sum(batches) - len(rows) == len(strategy.pruned) == MEASURED * 12
    assert all(len(row.arch.split('_')[2]) % 16 == 0 for row in second)
    logged = [line for line in lines if 'pruning: 48 candidates measured before training, 48 of them' in line]
    assert len(logged) == 1 and 'dropped unmeasured; 48 spared so far' in logged[0]


def test_rows_of_another_budget_spare_nothing(space):
    class Growing(Formula):
        """Trains every candidate for longer than the one before."""

        def evaluate(self, archs):
            for evaluation in super().evaluate(archs):
                self.epochs += 1
                yield evaluation

    assert not search(space, generations=8, evaluator=Growing())[0].pruned


@pytest.mark.parametrize('left', [1, 2, 30, 61])
def test_a_killed_search_draws_the_same(space, tmp_path, left):
    whole, rows = search(space, tmp_path / 'whole.jsonl', generations=8)
    stopped = tmp_path / 'stopped.jsonl'
    with suppress(KeyboardInterrupt):
        search(space, stopped, generations=8, evaluator=Formula(left))
    resumed, again = search(space, stopped, generations=8)
    assert texts(again) == texts(rows) and resumed.artifacts() == whole.artifacts() and whole.pruned
    assert texts(rows) != texts(search(space, seed=1, generations=8)[1])


def test_a_space_that_is_used_up_ends_the_search(tmp_path):
    shallow = "backbone=dict(_delete_=True, type='detnas_mm.SMNASBackbone', code='1-2-2-12', base=64)"
    seed = derived(tmp_path / 'mine.py', RETINA18, f'model = dict({shallow})')
    space = ModularSpace(seed, base=(64,), neck=(256,), depth=(5, 5))
    assert space.size == 40
    _, rows = search(space, pruning=False, generations=100, population=7, max_attempts=150)
    assert len({row.arch for row in rows}) == len(rows) > 0.7 * space.size


def test_draws_are_of_the_generator_alone(space):
    first, second = (search(space, generations=3)[1] for _ in range(2))
    assert texts(first) == texts(second)
    np.random.seed(1)
    assert texts(search(space, generations=3)[1]) == texts(first)
