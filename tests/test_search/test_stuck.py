"""A search that is stuck says so once, with what helps."""

from types import SimpleNamespace

import pytest

from detnas_mm.registry import STRATEGIES
from detnas_mm.search import (
    Budget,
    Constraint,
    EvolutionStrategy,
    Ledger,
    Objective,
    ParetoStrategy,
    PopulationEvolution,
    ProvingStrategy,
    RandomStrategy,
)
from detnas_mm.search.stuck import stuck_line
from detnas_mm.systems.mae_det import MAEDetSpace, StructureFlops
from detnas_mm.testing import ToyCost, ToyEvaluator, ToySpace
from tests.jobs import make_job

SPACE = ToySpace(8, 4)
#: Costs are 1 to 25; about one in a thousand has no more than 4.
TIGHT, NARROW = Constraint('toy', high=4), Constraint('toy', 13, 13)


class Flat(ToyEvaluator):
    """All candidates score alike."""

    @staticmethod
    def _scores(codes):
        return codes[:, 0] * 0.0


def job_of(*constraints, strategy=None, objectives=None, **changes):
    settings = dict(strategy=strategy, evaluator=ToyEvaluator(), generations=6) | changes
    return make_job(SPACE, objectives or [Objective('score')], dict(toy=ToyCost(SPACE)), constraints, **settings)


def stuck_lines(path, *constraints, **settings):
    """Returns the log lines of a search about being stuck, with the number of the generation before."""
    lines = []
    job = job_of(*constraints, log=lines.append, **settings)
    job.prepare()
    job.evaluator.setup(job)
    with Ledger(path, job.header()) as ledger:
        job.strategy.run(job.evaluator, ledger)
    return [
        (int(before.split()[1].split('/')[0]), line)
        for before, line in zip(lines, lines[1:])
        if line.startswith('The search is stuck')
    ]


def begins(constraints, accepted, improved):
    """The generations in which a line is written."""
    job = job_of(*constraints)
    return [n for n in range(1, len(accepted) + 1) if stuck_line(job, accepted[:n], improved[:n])]


@pytest.mark.parametrize(
    ('constraints', 'accepted', 'improved', 'expected'),
    [
        ([TIGHT], '000000', '111111', [3]),
        ([TIGHT], '001000', '111111', [6]),
        ([TIGHT], '000100000', '111111111', [3, 7]),
        ([TIGHT], '001001001', '111111111', []),
        ([TIGHT], '00', '11', []),
        ([TIGHT], '111111', '100000', []),
        ([NARROW], '111111', '100000', [4]),
        ([NARROW], '1111111111', '1000100010', [4, 8]),
        ([NARROW], '000000', '100000', [3, 4]),
        ([Constraint('toy', low=24)], '111111', '100000', [4]),
        ([Constraint('toy', low=20)], '111111', '100000', []),
        ([Constraint('toy', 10, 13)], '111111', '100000', []),
        ([Constraint('toy', 10, 13)], '000000', '111111', [3]),
        ([Constraint('toy', 1, 25)], '000000', '100000', []),
        ([], '000000', '100000', []),
    ],
)
def test_when_it_begins(constraints, accepted, improved, expected):
    shares = [0.5 if sign == '1' else 0.04 for sign in accepted]
    assert begins(constraints, shares, [sign == '1' for sign in improved]) == expected


def test_what_helps():
    low = stuck_line(job_of(NARROW, TIGHT), [0.01] * 3, [True] * 3)
    assert low.startswith('The search is stuck within 13 ≤ toy ≤ 13 and toy ≤ 4: in 3 generations hardly any')
    assert '(1.0%, 1.0%, 1.0%)' in low and 'drop the lower bound of toy in search.constraints' in low
    assert 'search.budget.generations' in low and 'exact' not in low and '\n' not in low
    high = stuck_line(job_of(TIGHT), [0.01] * 3, [True] * 3)
    assert 'raise the upper limit of toy in search.constraints' in high and 'lower bound' not in high
    space = MAEDetSpace()
    budget = Budget(space, dict(flops=StructureFlops(space)), [Constraint('flops', 187.99e8, 188e8)])
    exact = stuck_line(SimpleNamespace(space=space, budget=budget), [0.5] * 4, [True, False, False, False])
    assert '3 generations brought no new best' in exact
    assert 'let exact search, which takes upper limits alone, find the best' in exact and "'ExactStrategy'" in exact
    assert issubclass(STRATEGIES.get(space.exact_strategy), ProvingStrategy), 'what is named is there'


@pytest.mark.parametrize(
    ('strategy', 'constraint'),
    [
        (lambda: RandomStrategy(4), Constraint('toy', 5, 6)),
        (lambda: RandomStrategy(4), TIGHT),
        (lambda: EvolutionStrategy(4, 2, mutation_prob=1.0, max_attempts=5000), Constraint('toy', 5, 6)),
        (lambda: PopulationEvolution(8, 200, 50), TIGHT),
    ],
)
def test_low_acceptance_is_said_once_and_by_a_search_that_is_resumed_too(strategy, constraint, tmp_path):
    (whole,) = stuck_lines(tmp_path / 'a.jsonl', constraint, strategy=strategy())
    assert whole[0] == 3 and 'hardly any of the candidates drawn was accepted' in whole[1]
    path = tmp_path / 'b.jsonl'
    assert stuck_lines(path, constraint, strategy=strategy(), generations=2) == []
    assert stuck_lines(path, constraint, strategy=strategy()) == [whole]


@pytest.mark.parametrize(
    ('strategy', 'high'),
    [
        (lambda: PopulationEvolution(8, 200, 50), 4),
        (lambda: EvolutionStrategy(4, 2, mutation_prob=1.0, max_attempts=5000), 4),
        (lambda: PopulationEvolution(8, 200, 50), 20),
    ],
)
def test_a_search_that_was_stopped_after_the_line_says_it_again(strategy, high, tmp_path):
    stuck, path = high == 4, tmp_path / 'a.jsonl'
    lines = []
    for generations, expected in ((4, 1), (4, 1), (6, 1)):
        lines.clear()
        job = job_of(Constraint('toy', high=high), log=lines.append, strategy=strategy(), generations=generations)
        job.prepare()
        job.evaluator.setup(job)
        with Ledger(path, job.header()) as ledger:
            job.strategy.run(job.evaluator, ledger)
        assert sum(line.startswith('The search is stuck') for line in lines) == expected * stuck, lines


TWO = [Objective('score'), Objective('toy', 'minimize')]


@pytest.mark.parametrize(
    ('strategy', 'settings'),
    [
        (lambda: PopulationEvolution(8, 50, 50, mutation_prob=0.3), {}),
        (lambda: EvolutionStrategy(4, 2, max_attempts=2000), {}),
        (lambda: ParetoStrategy(4, 2, max_attempts=2000), dict(objectives=TWO)),
    ],
)
def test_no_new_best_in_a_narrow_window_is_said(strategy, settings):
    ((generation, line),) = stuck_lines(None, NARROW, strategy=strategy(), evaluator=Flat(), **settings)
    assert generation == 4 and '3 generations brought no new best' in line
    assert stuck_lines(None, Constraint('toy', high=20), strategy=strategy(), evaluator=Flat(), **settings) == []


def test_a_search_that_has_used_up_what_is_near_is_not_stuck():
    """Crossovers of parents that are alike are all known: acceptance is low, but no constraint is to blame."""
    strategy = EvolutionStrategy(20, 2, max_attempts=2000)
    assert stuck_lines(None, Constraint('toy', high=20), strategy=strategy, generations=8) == []
