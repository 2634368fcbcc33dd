"""Tables that were measured: read, refused, added up."""

import json
import warnings

import numpy as np
import pytest

from detnas_mm.latency import LatencyTable
from detnas_mm.search import Budget, Constraint
from detnas_mm.systems.detnas import DetNASSpace
from tests import latency

TINY = dict(stem=4, channels=(8, 12), blocks=(1, 2))


def test_sums_and_scope(tmp_path):
    found = latency.content(TINY, 'detector', (48, 64))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        table = LatencyTable(TINY, latency.write(tmp_path / 'a.json', TINY, 'detector', (48, 64)))
    expected = 1.25 + found['table_ms'][0][3] + found['table_ms'][1][0] + found['table_ms'][2][2]
    assert table.total([3, 0, 2]) == pytest.approx(expected, rel=1e-12)
    assert (table.name, table.part, table.input_size) == ('latency', 'detector', (48, 64))
    assert table.scope.startswith('ms an image, detector (RetinaNet), batch 1, float32, at 48x64, on ')
    assert found['device']['name'] in table.scope and 'thread' in table.scope


def test_two_measurements_are_two_scopes(tmp_path):
    """The scope stands in a ledger's first line, so a search does not go on with another table."""
    first = LatencyTable(TINY, latency.write(tmp_path / 'a.json', TINY))
    same = LatencyTable(TINY, latency.write(tmp_path / 'b.json', TINY))
    other = LatencyTable(TINY, latency.write(tmp_path / 'c.json', TINY, constant_ms=1.2500001))
    assert first.scope == same.scope != other.scope


def test_a_constraint_on_latency(tmp_path):
    space = DetNASSpace(TINY)
    table = LatencyTable(space, latency.write(tmp_path / 'a.json', TINY))
    archs = space.sample_many(np.random.default_rng(0), 50)
    limit = float(np.median([table.total(arch) for arch in archs]))
    allowed = Budget(space, dict(latency=table), [Constraint('latency', high=limit)]).allows(archs)
    assert allowed.tolist() == [table.total(arch) <= limit for arch in archs] and 0 < allowed.sum() < 50


def test_a_missing_file_is_told_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'measure_latency.py CONFIG \[CHECKPOINT\] --out .*none.json'):
        LatencyTable(TINY, tmp_path / 'none.json')


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        (dict(space='small'), 'was measured with space .*this search has .*Measure again'),
        (dict(part='backbone'), 'with part detector; this search has backbone'),
        (dict(input_size=(96, 128)), r'with input_size \(96, 96\); this search has \(96, 128\)'),
        (dict(part='head'), "'backbone' or 'detector'; got 'head'"),
        (dict(input_size='96'), 'input_size must be'),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path, arguments, match):
    file = latency.write(tmp_path / 'a.json', TINY)
    with pytest.raises(ValueError, match=match):
        LatencyTable(**(dict(space=TINY, file=file) | arguments))
    LatencyTable(TINY, file, 'detector', (96, 96))


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(schema=99), 'its schema is 99'),
        (dict(part='head'), "part is 'head'"),
        (dict(device=dict(kind='cpu')), 'device is'),
        (dict(device=dict(kind='tpu', name='x')), 'device is'),
        (dict(constant_ms='1.0'), "constant_ms is '1.0'"),
        (dict(constant_ms=-1.0), 'must be positive'),
        (dict(table_ms=[[1.0, 2.0], [1.0]]), 'rows of numbers, equally long'),
        (dict(table_ms=[[1.0, 'x']]), 'rows of numbers'),
        (dict(table_ms=[[1.0, 1.0, 1.0, float('nan')]] * 3), 'must be positive numbers'),
        (dict(table_ms=[1.0, 2.0]), 'a row for every block'),
        (dict(table_ms=[[10**400]]), 'rows of numbers'),
        (dict(constant_ms=10**400), 'rows of numbers'),
        (dict(table_ms=[[1.0, 2.0]] * 3), r'has the shape \(3, 2\); this space has 3 blocks of 4'),
    ],
)
def test_damaged_files_are_refused(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        LatencyTable(TINY, latency.write(tmp_path / 'a.json', TINY, **changes))


@pytest.mark.parametrize(
    ('text', 'match'),
    [
        ('{', 'no JSON'),
        ('[1]', 'holds list'),
        ('{}', 'it lacks schema, part'),
        ('\x00', 'no JSON'),
        ('[' * 100_000, 'no JSON'),
        ('1' * 5000, 'no JSON'),
    ],
    ids=lambda text: text[:8],
)
def test_other_files_are_refused(tmp_path, text, match):
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises(ValueError, match=match):
        LatencyTable(TINY, tmp_path / 'a.json')


@pytest.mark.parametrize('name', latency.content(TINY))
def test_every_field_is_required(tmp_path, name):
    found = latency.content(TINY)
    del found[name]
    (tmp_path / 'a.json').write_text(json.dumps(found))
    with pytest.raises(ValueError, match=f'it lacks {name}'):
        LatencyTable(TINY, tmp_path / 'a.json')


def test_another_device_is_warned_of(tmp_path):
    device = dict(kind='cpu', name='Analytical Engine', threads=1)
    with pytest.warns(UserWarning, match='measured on Analytical Engine, 1 thread; this machine has'):
        LatencyTable(TINY, latency.write(tmp_path / 'a.json', TINY, device=device))
    gpu = dict(kind='cuda', name='GPU of another world')
    with pytest.warns(UserWarning, match='measured on GPU of another world; this machine has'):
        LatencyTable(TINY, latency.write(tmp_path / 'b.json', TINY, device=gpu))
