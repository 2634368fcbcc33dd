"""Architectures are values: immutable, hashable, the same text on every machine."""

import dataclasses
import json

import numpy as np
import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.spaces import Architecture


def test_it_is_an_immutable_value():
    arch = Architecture((1, 2, (3, 'a', None)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        arch.genes = (1,)
    assert arch == Architecture([1, 2, [3, 'a', None]]) and hash(arch) == hash(Architecture([1, 2, [3, 'a', None]]))
    assert arch != Architecture((1, 2, (3, 'a'))) and {arch: 1}[Architecture((1, 2, [3, 'a', None]))] == 1


def test_id_is_stable():
    # Ledgers on disk name architectures by this id: it may never change.
    assert Architecture((2, 1, 2, 0)).id == '4cc80171b557'
    assert Architecture((2, 1, 2, 0)).id != Architecture((2, 1, (2, 0))).id


def test_numpy_genes_are_plain_numbers():
    arch = Architecture(tuple(np.array([3, 1])))
    assert arch == Architecture((3, 1)) and arch.id == Architecture((3, 1)).id
    assert json.dumps(arch.to_json()) == '[3, 1]'


def test_json_round_trip():
    arch = Architecture((1, ('x', (0.5, None)), True))
    text = json.dumps(arch.to_json())
    assert text == '[1, ["x", [0.5, null]], true]'
    assert Architecture.from_json(json.loads(text)) == arch


@pytest.mark.parametrize('gene', [{'a': 1}, {1}, object(), np.zeros(1), np.zeros(2), 1j])
def test_other_genes_are_refused(gene):
    with pytest.raises(DetNASError, match='must be numbers, strings, None'):
        Architecture((1, gene))
