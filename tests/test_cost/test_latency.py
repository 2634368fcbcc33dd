"""Measured tables: reading, errors, sums."""

import itertools
import json
import warnings

import numpy as np
import pytest

from detnas_mm.latency import LatencyTable
from detnas_mm.search import Budget, Constraint, UnmeetableConstraint
from detnas_mm.spaces import ChoiceSpace
from detnas_mm.systems.detnas import DetNASSpace, MacsTable
from detnas_mm.systems.mae_det import MAEDetSpace
from detnas_mm.testing import check_cost_model
from tests import latency

TINY = DetNASSpace(dict(stem=4, channels=(8, 12), blocks=(1, 2)))


class Uneven(ChoiceSpace):
    """Two, four and three ids at its positions."""

    choices = (2, 4, 3)

    def spec(self):
        return dict(type='Uneven')

    def parse(self, value):
        return value

    def describe(self, arch):
        return ''.join(map(str, arch.genes))


def test_sums_and_scope(tmp_path):
    found = latency.content(TINY, 'detector', (48, 64))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        table = LatencyTable(TINY, latency.write(tmp_path / 'a.json', TINY, 'detector', (48, 64)))
    expected = 1.25 + found['table_ms'][0][3] + found['table_ms'][1][0] + found['table_ms'][2][2]
    assert table.total([3, 0, 2]) == pytest.approx(expected, rel=1e-12)
    assert table.total('3|02') == table.total([3, 0, 2])
    assert (table.name, table.part, table.input_size) == ('latency', 'detector', (48, 64))
    assert table.scope.startswith('ms an image, detector (RetinaNet), batch 1, float32, at 48x64, on ')
    assert found['device']['name'] in table.scope and 'thread' in table.scope


def test_two_measurements_are_two_scopes(tmp_path):
    """The scope is part of a ledger's first line, so a search does not resume with another table."""
    first = LatencyTable(TINY, latency.write(tmp_path / 'a.json', TINY))
    same = LatencyTable(TINY, latency.write(tmp_path / 'b.json', TINY))
    other = LatencyTable(TINY, latency.write(tmp_path / 'c.json', TINY, constant_ms=1.2500001))
    assert first.scope == same.scope != other.scope


def test_a_constraint_on_latency(tmp_path):
    table = LatencyTable(TINY, latency.write(tmp_path / 'a.json', TINY))
    archs = TINY.sample_many(np.random.default_rng(0), 50)
    limit = float(np.median([table.total(arch) for arch in archs]))
    allowed = Budget(TINY, dict(latency=table), [Constraint('latency', high=limit)]).allows(archs)
    assert allowed.tolist() == [table.total(arch) <= limit for arch in archs] and 0 < allowed.sum() < 50


def test_the_file_is_opened_on_first_use(tmp_path):
    """A search can be parsed without the file; on use, the error names the command that measures it."""
    table = LatencyTable(TINY, tmp_path / 'none.json')
    limits = [Constraint('latency', high=0.1)]
    budget = Budget(TINY, dict(latency=table, macs=MacsTable(TINY)), limits)
    assert table.missing and table.lazy
    for use in (budget.check, table.bounds, table.spec, budget.range_text, lambda: table.scope):
        with pytest.raises(FileNotFoundError, match=r'measure_latency.py CONFIG \[CHECKPOINT\] --out .*none.json'):
            use()
    assert budget.without(['latency']).models.keys() == {'macs'} and budget.without(['latency']).constraints == ()
    latency.write(tmp_path / 'none.json', TINY)
    assert not table.missing
    with pytest.raises(UnmeetableConstraint, match=r'latency ≤ 0.1 .*latency from 1\..*macs from'):
        budget.check()
    (tmp_path / 'none.json').unlink()
    assert table.total('000') > 1, 'it is opened once'


def test_a_constraint_on_something_else_is_refused_before_the_file_is_there(tmp_path):
    costs = dict(latency=LatencyTable(TINY, tmp_path / 'none.json'), macs=MacsTable(TINY))
    with pytest.raises(UnmeetableConstraint, match='No architecture meets macs ≤ 1 .*macs from'):
        Budget(TINY, costs, [Constraint('macs', high=1)])


def test_positions_may_have_unequal_numbers_of_choices(tmp_path):
    space = Uneven()
    table = LatencyTable(space, latency.write(tmp_path / 'a.json', space))
    rows = latency.content(space)['table_ms']
    assert [len(row) for row in rows] == [2, 4, 3]
    check_cost_model(table, space)
    ids = np.array(list(itertools.product(*map(range, space.choices))))
    sums = [1.25 + sum(row[i] for row, i in zip(rows, one, strict=True)) for one in ids]
    assert table.totals(ids) == pytest.approx(sums, rel=1e-12)
    assert table.bounds() == pytest.approx((min(sums), max(sums)), rel=1e-12)
    with pytest.raises(ValueError, match='At position 0 ids must lie between 0 and 1; got 0 to 3'):
        table.totals(np.array([[0, 3, 2], [2, 0, 0]]))
    with pytest.raises(ValueError, match=r'rows of \[2, 4, 4\]; this space has choices \(2, 4, 3\)'):
        wrong = [*rows[:2], [*rows[2], 1.0]]
        LatencyTable(space, latency.write(tmp_path / 'b.json', space, table_ms=wrong)).bounds()


def test_spaces_without_choices_are_refused(tmp_path):
    with pytest.raises(ValueError, match='needs a space with one choice at each position; got '):
        LatencyTable(MAEDetSpace(), tmp_path / 'a.json')
    table = LatencyTable(dict(type='DetNASSpace', space='small'), latency.write(tmp_path / 'a.json', DetNASSpace()))
    assert len(table.choices) == 20 and table.bounds()[0] > 0


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        (dict(space=DetNASSpace('small')), 'was measured with space .*this search has .*Measure again'),
        (dict(part='backbone'), 'with part detector; this search has backbone'),
        (dict(input_size=(96, 128)), r'with input_size \(96, 96\); this search has \(96, 128\)'),
        (dict(part='head'), "'backbone' or 'detector'; got 'head'"),
        (dict(input_size='96'), 'input_size must be'),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path, arguments, match):
    file = latency.write(tmp_path / 'a.json', TINY)
    with pytest.raises(ValueError, match=match):
        LatencyTable(**(dict(space=TINY, file=file) | arguments)).bounds()
    LatencyTable(TINY, file, 'detector', (96, 96)).bounds()


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(schema=99), 'its schema is 99'),
        (dict(part='head'), "part is 'head'"),
        (dict(device=dict(kind='cpu')), 'device is'),
        (dict(device=dict(kind='tpu', name='x')), 'device is'),
        (dict(constant_ms='1.0'), "constant_ms is '1.0'"),
        (dict(constant_ms=-1.0), 'must be positive'),
        (dict(table_ms=[[1.0, 2.0], [1.0]]), r'rows of \[2, 1\]; this space has choices \(4, 4, 4\)'),
        (dict(table_ms=[[1.0, 'x']]), 'rows of numbers'),
        (dict(table_ms=[[1.0, 1.0, 1.0, float('nan')]] * 3), 'must be positive numbers'),
        (dict(table_ms=[1.0, 2.0]), 'a row for every position'),
        (dict(table_ms=[[], [], []]), 'a row for every position'),
        (dict(table_ms=[[10**400]]), 'rows of numbers'),
        (dict(constant_ms=10**400), 'rows of numbers'),
        (dict(table_ms=[[1.0, 2.0]] * 3), r'rows of \[2, 2, 2\]; this space has choices'),
    ],
)
def test_damaged_files_are_refused(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        LatencyTable(TINY, latency.write(tmp_path / 'a.json', TINY, **changes)).bounds()


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
        LatencyTable(TINY, tmp_path / 'a.json').bounds()


@pytest.mark.parametrize('name', latency.content(TINY))
def test_every_field_is_required(tmp_path, name):
    found = latency.content(TINY)
    del found[name]
    (tmp_path / 'a.json').write_text(json.dumps(found))
    with pytest.raises(ValueError, match=f'it lacks {name}'):
        LatencyTable(TINY, tmp_path / 'a.json').bounds()


def test_another_device_is_warned_of(tmp_path):
    device = dict(kind='cpu', name='Analytical Engine', threads=1)
    with pytest.warns(UserWarning, match='measured on Analytical Engine, 1 thread; this machine has'):
        LatencyTable(TINY, latency.write(tmp_path / 'a.json', TINY, device=device)).bounds()
    gpu = dict(kind='cuda', name='GPU of another world')
    with pytest.warns(UserWarning, match='measured on GPU of another world; this machine has'):
        LatencyTable(TINY, latency.write(tmp_path / 'b.json', TINY, device=gpu)).bounds()
