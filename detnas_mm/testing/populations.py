"""Conformance suite for strategies that evolve a population in arrays: one function to call in their tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detnas_mm.search import Budget, Constraint, Objective, Population, PopulationEvolution, UnmeetableConstraint
from detnas_mm.spaces import ArraySpace
from detnas_mm.testing.common import check_json, check_light_import, check_repeatable
from detnas_mm.testing.strategies import check_runs, toy_job
from detnas_mm.testing.toy import ToyCost, ToyEvaluator, ToySpace

GENERATIONS = 4
SPACE = ToySpace(12, 4)
#: Met by about a third of the space.
LIMIT = Constraint('toy', high=17)


def check_population_strategy(make: Callable[[], PopulationEvolution]) -> None:
    """Checks that a strategy fulfils the contract of :class:`~detnas_mm.search.PopulationEvolution`.

    A generation depends only on the seed, its number and the population before it, so a search that resumes from a
    snapshot gives the same result as an uninterrupted one. Members are of the space, meet the constraints, are unique,
    are sorted by their scores, best first; the best is never lost; drawn and scored candidates are counted; a
    constraint that nothing meets raises an error. All ranks find the same.

    The checks use a :class:`~detnas_mm.testing.toy.ToySpace` of 12 digits, whose smallest member ``'000000000000'``
    meets the constraint.

    Args:
        make: Builds a new strategy. Small ones, such as ``PopulationEvolution(16, 200, 50)``, are checked faster.

    Raises:
        AssertionError: If the contract is violated; says how.
    """
    check_json('spec()', make().spec())
    check_light_import(make())
    _check_generations(make)
    _check_unmeetable(make)
    check_runs(lambda **changes: toy_job(make(), constraint=LIMIT, space=SPACE, **changes))


def _score(codes: np.ndarray) -> np.ndarray:
    return ToyEvaluator().score_codes(codes)


def _set_up(make: Callable[[], PopulationEvolution], constraint: Constraint = LIMIT, seed: int = 0) -> tuple[
    PopulationEvolution, ArraySpace, Budget
]:  # fmt: skip
    strategy = make()
    job = toy_job(strategy, [Objective('score')], constraint, seed, SPACE)
    return strategy, SPACE, job.budget


def _check_generations(make: Callable[[], PopulationEvolution]) -> None:
    strategy, space, budget = _set_up(make)
    population: Population | None = None
    for generation in range(GENERATIONS):
        before = population

        def again(_: object, generation: int = generation, before: Population | None = before) -> str:
            return _text(_set_up(make)[0].advance(generation, before, _score))

        unchanged = before and _text(before)
        population = strategy.advance(generation, before, _score)
        where = f'generation {generation}'
        assert unchanged == (before and _text(before)), f'{where} changed the population before it.'
        assert again(None) == _text(population), (
            f'{where} of a new strategy differs, although the population before it is the same: it must depend only on '
            f'the seed, its number and that population, since a resumed search has only the last snapshot.'
        )
        check_repeatable(f'advance({generation}, …)', again, 0)
        _check_population(where, population, before, space, budget)
    other = _set_up(make, seed=1)[0].advance(0, None, _score)
    first = _set_up(make)[0].advance(0, None, _score)
    assert _text(other) != _text(first), 'generation 0 is the same for two seeds.'


def _check_population(
    where: str, population: Population, before: Population | None, space: ArraySpace, budget: Budget
) -> None:
    codes, gains, born = population.codes, population.gains, population.born
    assert len(codes) == len(gains) == len(born) > 0, f'{where} has {len(codes)} members, {len(gains)} gains, '\
        f'{len(born)} dates of birth.'  # fmt: skip
    assert space.contains(codes).all(), f'{where} has members that are not in the space.'
    assert budget.allows_codes(codes).all(), f'{where} has members that do not meet {budget.constraints[0]}.'
    assert len(np.unique(codes, axis=0)) == len(codes), f'{where} has duplicate members.'
    assert np.allclose(gains, _score(codes), rtol=1e-12), f'{where} has gains that differ from the scores.'
    assert (np.diff(gains) <= 0).all(), f'{where} is not sorted by gain, best first.'
    drawn, evaluated = (0, 0) if before is None else (before.drawn, before.evaluated)
    assert drawn < population.drawn and evaluated <= population.evaluated <= population.drawn + len(codes), (
        f'{where} counts {population.drawn} drawn and {population.evaluated} scored; before: {drawn} and {evaluated}.'
    )
    if before is not None:
        assert gains[0] >= before.gains[0], f'{where} has lost the best: {gains[0]}, and {before.gains[0]} before.'


def _check_unmeetable(make: Callable[[], PopulationEvolution]) -> None:
    """Checks the error for a limit between two neighbouring costs, which is within the bounds but met by nothing."""
    strategy = make()
    if strategy.start:
        return  # setup() has raised and named the constraint
    lowest = ToyCost(SPACE).bounds()[0]
    strategy, *_ = _set_up(make, Constraint('toy', low=lowest + 0.25, high=lowest + 0.75))
    try:
        strategy.advance(0, None, _score)
    except UnmeetableConstraint as error:
        assert 'acceptance rate' in str(error), f'the error must name the acceptance rate; it says: {error}'
    else:
        raise AssertionError('advance(0, None, …) must raise UnmeetableConstraint where no candidate meets them.')


def _text(population: Population) -> str:
    return repr([array.tolist() for array in (population.codes, population.gains, population.born)]) + str(
        (population.drawn, population.evaluated)
    )
