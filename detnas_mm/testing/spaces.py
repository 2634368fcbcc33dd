"""Conformance suite for search spaces: one function to call in the test of a new space."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from detnas_mm.spaces import Architecture, ArraySpace, SearchSpace
from detnas_mm.testing.common import check_json, check_light_import, check_repeatable
from detnas_mm.testing.configs import check_configure

#: Number of architectures drawn; in a space of two, all are equal by chance with probability 2**-63.
DRAWS = 64


def check_search_space(space: SearchSpace, seed: int = 0, cfg: Mapping[str, Any] | None = None) -> None:
    """Checks that a space fulfils the contract of :class:`~detnas_mm.spaces.SearchSpace`.

    Drawn architectures are members, are hashable, and can be written to text and JSON and read back. Random operations
    use only the given generator and do not change their arguments. Non-members raise a ValueError. The module loads
    without torch. ``configure`` returns a new config of plain values, another one for another architecture.

    Args:
        space: The space to check.
        seed: Seed of the drawn architectures. A space must pass for every seed.
        cfg: Config of the search. With it, whole configs are checked as well: ``check`` accepts it, everything outside
            of the model stays, and two nets are written as files, built, and run up to the neck on one image. Without
            it ``configure`` gets an empty config, and is not checked if it refuses that by a ValueError.

    Raises:
        AssertionError: If the contract is violated; says how.
    """
    spec = copy.deepcopy(space.spec())
    _check_description(space)
    archs = space.sample_many(np.random.default_rng(seed), DRAWS)
    _check_draws(space, archs, seed)
    for arch in archs:
        _check_member(space, arch)
    _check_identity(archs)
    _check_mutation(space, archs, seed)
    _check_crossover(space, archs, seed)
    _check_refusals(space)
    _check_encoding(space, archs)
    if isinstance(space, ArraySpace):
        _check_codes(space, archs, seed)
    check_configure(space, archs, cfg)
    check_light_import(space)
    assert space.spec() == spec, f'{space!r} was changed by using it: spec() was {spec}, now is {space.spec()}.'


def _check_description(space: SearchSpace) -> None:
    assert isinstance(space.size, int) and space.size > 0, f'size must be a positive int; got {space.size!r}.'
    check_json('spec()', space.spec())


def _check_draws(space: SearchSpace, archs: list[Architecture], seed: int) -> None:
    assert len(archs) == DRAWS, f'sample_many(rng, {DRAWS}) gave {len(archs)} architectures.'
    assert list(space.sample_many(np.random.default_rng(seed), 0)) == [], 'sample_many(rng, 0) must be empty.'
    if space.size > 1:
        assert len(set(archs)) > 1, f'{DRAWS} draws from a space of {space.size} are all equal: {archs[0]}.'
    check_repeatable('sample', space.sample, seed)
    check_repeatable('sample_many', lambda rng: space.sample_many(rng, 5), seed)


def _check_member(space: SearchSpace, arch: Architecture) -> None:
    assert isinstance(arch, Architecture), f'sample gave {arch!r}; an Architecture is needed.'
    space.validate(arch)
    text = space.describe(arch)
    assert isinstance(text, str) and text, f'describe gave {text!r} for {arch}; a text is needed.'
    loaded = Architecture.from_json(json.loads(json.dumps(arch.to_json())))
    for name, again in (
        ('parse(arch)', space.parse(arch)),
        ('parse(describe(arch))', space.parse(text)),
        ('parse(arch.to_json())', space.parse(arch.to_json())),
        ('a round trip through JSON', loaded),
    ):
        assert again == arch, f'{name} gave {again}; it must give {arch} back.'
        assert hash(again) == hash(arch) and again.id == arch.id, f'{name} changed hash or id of {arch}.'


def _check_identity(archs: list[Architecture]) -> None:
    distinct = set(archs)
    ids = {arch.id for arch in distinct}
    assert len(ids) == len(distinct), f'{len(distinct)} architectures share {len(ids)} ids.'


def _check_mutation(space: SearchSpace, archs: list[Architecture], seed: int) -> None:
    rng = np.random.default_rng([seed, 1])
    changed = False
    for arch in archs:
        before = arch.to_json()
        assert space.mutate(arch, rng, 0.0) == arch, f'mutate with probability 0 changed {arch}.'
        mutant = space.mutate(arch, rng, 1.0)
        space.validate(mutant)
        changed |= mutant != arch
        assert arch.to_json() == before, f'mutate changed its parent {before}.'
    assert changed or space.size == 1, f'mutate with probability 1 changed none of {DRAWS} architectures.'
    check_repeatable('mutate', lambda rng: space.mutate(archs[0], rng, 0.5), seed)


def _check_crossover(space: SearchSpace, archs: list[Architecture], seed: int) -> None:
    rng = np.random.default_rng([seed, 2])
    for first, second in zip(archs, archs[1:], strict=False):
        space.validate(space.crossover(first, second, rng))
        twin = space.crossover(first, first, rng)
        assert twin == first, f'crossover of {first} with itself gave {twin}.'
    check_repeatable('crossover', lambda rng: space.crossover(archs[0], archs[-1], rng), seed)


def _check_refusals(space: SearchSpace) -> None:
    for what in (Architecture(()), Architecture(('no such choice',)), '', 'no architecture', [], None, object()):
        calls: list[tuple[str, Callable[[Any], Any]]] = [('parse', space.parse)]
        if isinstance(what, Architecture):
            calls.append(('validate', space.validate))
        for name, call in calls:
            try:
                call(what)
            except ValueError as error:
                assert str(error), f'{name}({what!r}) raised a ValueError without a message.'
            except Exception as error:
                raise AssertionError(f'{name}({what!r}) must raise a ValueError; it raised {error!r}.') from error
            else:
                raise AssertionError(f'{name}({what!r}) must raise a ValueError; it returned.')


def _check_encoding(space: SearchSpace, archs: list[Architecture]) -> None:
    table = space.encode(archs)
    assert isinstance(table, np.ndarray) and table.ndim == 2 and len(table) == len(archs), (
        f'encode must give an array of shape ({len(archs)}, genes); got {getattr(table, "shape", table)!r}.'
    )
    assert np.issubdtype(table.dtype, np.integer), f'encode must give integers; got {table.dtype}.'
    for row, arch in zip(table, archs, strict=True):
        assert (space.encode([arch])[0] == row).all(), f'encode of {arch} depends on its neighbours.'
    assert len(np.unique(table, axis=0)) == len(set(archs)), 'encode gives equal rows for different architectures.'


def _check_codes(space: ArraySpace, archs: list[Architecture], seed: int) -> None:
    """Checks the array methods of a space against its methods for one architecture."""
    codes = space.encode(archs)
    assert space.decode(codes) == archs, 'decode(encode(archs)) must give the architectures back.'
    assert space.contains(codes).all(), 'contains() refuses members.'
    assert not space.contains(codes + 10**9).any(), 'contains() accepts rows that are no members.'
    drawn = space.sample_codes(np.random.default_rng(seed), DRAWS)
    assert drawn.shape == codes.shape and space.contains(drawn).all(), 'sample_codes draws rows that are not members.'
    for arch in space.decode(drawn):
        space.validate(arch)
    rng = np.random.default_rng([seed, 4])
    before = codes.copy()
    assert (space.mutate_codes(codes, rng, 0.0) == codes).all(), 'mutate_codes with probability 0 changes rows.'
    for kinds in (None, *([kind] for kind in space.gene_kinds)):
        mutants = space.mutate_codes(codes, rng, 1.0, kinds)
        assert space.contains(mutants).all(), f'mutate_codes of {kinds} makes rows that are no members.'
        assert (codes == before).all(), 'mutate_codes changes the rows that it is given.'
        assert kinds or (mutants != codes).any(), 'mutate_codes with probability 1 changes nothing.'
    check_repeatable('mutate_codes', lambda rng: space.mutate_codes(codes, rng, 0.5).tolist(), seed)
