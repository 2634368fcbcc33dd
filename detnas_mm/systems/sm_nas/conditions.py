"""Conditions between factors (``needs`` and ``when``): patterns such as ``'fpn-*'`` that match names of values."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.checks import keyed
from detnas_mm.errors import DetNASError
from detnas_mm.systems.sm_nas.reference import reference_factors

if TYPE_CHECKING:
    from detnas_mm.systems.sm_nas.factors import Value

#: The factors in the order of an architecture's genes.
FACTORS = ('size', 'backbone', 'neck', 'rpn', 'head')
#: Patterns by factor, such as ``{'neck': ['fpn-*']}``.
Condition = Mapping[str, list[str]]


def matches(name: str, patterns: list[str]) -> bool:
    """Returns whether a name matches one of the patterns, such as ``'fpn-*'``."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def read_patterns(where: str, given: Any) -> list[str]:
    """Reads a pattern or a list of patterns.

    Args:
        where: Key in the config, for messages.
        given: Its value.

    Raises:
        DetNASError: If it is neither text nor a list of texts.
    """
    patterns = [given] if isinstance(given, str) else given
    if not isinstance(patterns, list) or not patterns or not all(isinstance(one, str) for one in patterns):
        raise DetNASError(f"{where} must be a name or a list of names, such as 'fpn-*'; got {given!r}.")
    return patterns


def read_fragment(where: str, given: Any) -> dict[str, Any]:
    """Reads an entry of ``when``: patterns by factor and, as ``model``, the part of the model config for them.

    Args:
        where: Key in the config, for messages.
        given: Its value.

    Raises:
        DetNASError: If it has an unknown key, or ``model`` is missing or no dict.
    """
    one = keyed(where, given, (*FACTORS, 'model'), "[dict(neck='fpn-*', model=dict(…))]", ('model',))
    if not isinstance(one['model'], dict):
        raise DetNASError(f'{where}: model must be a dict; got {one["model"]!r}.')
    return {key: value if key == 'model' else read_patterns(f'{where}.{key}', value) for key, value in one.items()}


def condition_of(fragment: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the patterns of an entry of ``when`` without its model."""
    return {key: value for key, value in fragment.items() if key != 'model'}


def check_patterns(table: Mapping[str, Mapping[str, Value]]) -> None:
    """Checks that conditions name other factors, and that each pattern matches a value of the table or of the paper.

    Args:
        table: Values by factor and name.

    Raises:
        DetNASError: If a factor is unknown or the value's own, or a pattern matches nothing; names both.
    """
    reference = reference_factors()
    for value in (value for values in table.values() for value in values.values()):
        conditions = [('needs', value.needs), *(('when', condition_of(one)) for one in value.data['when'])]
        for key, condition in conditions:
            _check_factors(value, condition)
            for factor, patterns in condition.items():
                names = [*table[factor], *reference[factor]]  # a table may leave values of the paper out
                lost = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
                if lost:
                    raise DetNASError(
                        f'search.space.factors: {value.title} has {key} {factor}={lost[0]!r}, which matches no '
                        f'{factor}; there are {", ".join(table[factor])}. Correct the pattern, or remove it.'
                    )


def _check_factors(value: Value, condition: Condition) -> None:
    for factor in condition:
        if factor not in FACTORS or factor == value.factor:
            others = [one for one in FACTORS if one != value.factor]
            raise DetNASError(
                f'search.space.factors: {value.title} has a condition on {factor!r}; it may have some on '
                f'{", ".join(others)}.'
            )


def check_fragments(table: Mapping[str, Mapping[str, Value]], valid: np.ndarray) -> None:
    """Checks that each entry of ``when`` applies to a valid combination.

    Entries of the paper's values may apply to none, since a table may leave values out. A warning names such an entry
    if it has a wildcard (``'fpn-*'``) and the table has values of the user's own, which may have been named wrongly.

    Args:
        table: Values by factor and name.
        valid: Valid combinations as positions of values, shape (combinations, factors).

    Raises:
        DetNASError: If one applies to none; names the value, the condition and the values that there are.
    """
    reference = reference_factors()
    for axis, factor in enumerate(FACTORS):
        known = [_listed(condition_of(one)) for value in reference[factor].values() for one in value.get('when', ())]
        for number, value in enumerate(table[factor].values()):
            rows = valid[valid[:, axis] == number]
            for condition in map(condition_of, value.data['when']):
                if _holds(table, rows, condition):
                    continue
                patterns = ', '.join(f'{key}={" or ".join(map(repr, given))}' for key, given in condition.items())
                there = '; '.join(f'{key} {", ".join(_names(table, rows, key))}' for key in condition)
                text = (
                    f'search.space.factors: {value.title} has when {patterns}, which applies to no valid combination; '
                    f'those with {value.title} have {there}.'
                )
                if condition not in known:
                    raise DetNASError(f'{text} Correct the entry, or remove it.')
                own = [key for key in condition if set(_names(table, rows, key)) - set(reference[key])]
                if any('*' in pattern for key in own for pattern in condition[key]):
                    warnings.warn(
                        f'{text} Its part of the model config is not used. Rename these values, or give {value.title} '
                        f'an entry of `when` for them.',
                        stacklevel=4,
                    )


def _holds(table: Mapping[str, Mapping[str, Value]], rows: np.ndarray, condition: Condition) -> bool:
    fits = np.ones(len(rows), dtype=bool)
    for factor, patterns in condition.items():
        good = np.array([matches(name, patterns) for name in table[factor]])
        fits &= good[rows[:, FACTORS.index(factor)]]
    return bool(fits.any())


def _names(table: Mapping[str, Mapping[str, Value]], rows: np.ndarray, factor: str) -> list[str]:
    used = set(rows[:, FACTORS.index(factor)].tolist())
    return [name for number, name in enumerate(table[factor]) if number in used]


def _listed(condition: Mapping[str, Any]) -> dict[str, list[str]]:
    return {key: [given] if isinstance(given, str) else list(given) for key, given in condition.items()}
