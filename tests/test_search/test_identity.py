"""Rows of two searches are comparable if the specs of their parts are equal, whatever the names."""

from dataclasses import replace

import numpy as np
import pytest

from detnas_mm.cost import AdditiveTable
from detnas_mm.latency import LatencyTable
from detnas_mm.search import Constraint, EvolutionStrategy, ExportSettings, Ledger, LedgerError, Objective
from detnas_mm.systems.detnas import DetNASSpace, MacsTable
from detnas_mm.systems.mae_det import MAEDetSpace, StructureFlops, StructureLatency
from detnas_mm.testing import ToyEvaluator, ToySpace
from tests import latency
from tests.jobs import make_job

from .test_ledger import record

SPACE = ToySpace(6, 4)
TABLE = np.random.default_rng(0).uniform(1, 2, (6, 4))
LIMITS = (Constraint('latency', high=9.0),)
MEASURED = '2026-11-30T12:00Z'


def cost(table=TABLE, constant=0.5, scope='ms, on paper'):
    return AdditiveTable('latency', scope, table, constant)


def job(space=SPACE, costs=None, constraints=LIMITS, objectives=None, **changes):
    settings = dict(strategy=EvolutionStrategy(10, 4), evaluator=ToyEvaluator(), seed=0) | changes
    return make_job(space, objectives, costs or dict(latency=cost()), constraints, **settings)


def begin(path, one):
    """Leaves a ledger that has a row: its header is in force."""
    with Ledger(path, one.header()) as ledger:
        ledger.append(record(0, metrics={'score': 1.0}))


@pytest.fixture
def path(tmp_path):
    begin(tmp_path / 'ledger.jsonl', job())
    return tmp_path / 'ledger.jsonl'


OTHER = TABLE.copy()
OTHER[3, 2] = np.nextafter(OTHER[3, 2], 2)
#: What is changed, and where the refusal finds it.
CHANGES = {
    'one number of a table, in its last bit': (dict(costs=dict(latency=cost(OTHER))), 'budget.costs.latency.table'),
    'a constant': (dict(costs=dict(latency=cost(constant=0.6))), 'budget.costs.latency.table'),
    'the shape of a table': (
        dict(space=ToySpace(4, 6), costs=dict(latency=cost(TABLE.reshape(4, 6)))), 'budget.costs.latency.table',
    ),
    'the type of its numbers': (dict(costs=dict(latency=cost(TABLE.astype(np.float32)))), 'budget.costs.latency.table'),
    'a cost of another name': (dict(costs=dict(time=cost()), constraints=()), 'budget.costs.latency.table'),
    'one more cost': (dict(costs=dict(latency=cost(), other=cost())), 'budget.costs.other.table'),
    'an upper limit': (dict(constraints=[Constraint('latency', high=9.000000001)]), 'budget.constraints'),
    'a lower limit': (dict(constraints=[Constraint('latency', 1.0, 9.0)]), 'budget.constraints'),
    'no limit': (dict(constraints=()), 'budget.constraints'),
    'the space': (dict(space=ToySpace(6, 3), costs=dict(latency=cost(TABLE[:, :3]))), 'space.choices'),
    'a setting of the strategy': (dict(strategy=EvolutionStrategy(10, 5)), 'strategy.parents'),
    'a setting of the evaluator': (dict(evaluator=ToyEvaluator(failing=['000000'])), 'evaluator.failing'),
    'an objective': (dict(objectives=[Objective('score', 'minimize')]), 'objectives'),
    'the seed': (dict(seed=1), 'seed'),
}  # fmt: skip


@pytest.mark.parametrize('changes', CHANGES)
def test_another_spec_is_refused_and_named(path, changes):
    settings, key = CHANGES[changes]
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=f'belongs to another search.* {key}: there .*, now ') as refusal:
        Ledger(path, job(**settings).header())
    assert '\n' not in str(refusal.value) and path.read_bytes() == before


@pytest.mark.parametrize(
    'changes',
    [
        dict(costs=dict(latency=cost(scope='milliseconds an image, measured by somebody else'))),
        dict(generations=99),
        dict(export=ExportSettings(top_k=9)),
        dict(show_progress=True),
    ],
    ids=['scope', 'generations', 'export', 'progress'],
)
def test_what_changes_no_row_is_not_compared(path, changes):
    with Ledger(path, job(**changes).header()) as ledger:
        assert len(ledger.records) == 1


def test_limits_are_written_as_numbers(path):
    with pytest.raises(LedgerError) as refusal:
        Ledger(path, job(constraints=[Constraint('latency', 2.0)]).header())
    assert (
        'budget.constraints: there [{"cost": "latency", "low": null, "high": 9.0}], '
        'now [{"cost": "latency", "low": 2.0, "high": null}]'
    ) in str(refusal.value)


def structure_latency(folder, **changes):
    space = MAEDetSpace('authors')
    file = latency.write_structures(folder / f'{len(list(folder.iterdir()))}.json', space, points=3, **changes)
    return dict(space=space, costs=dict(latency=StructureLatency(space, file)), constraints=())


def block_latency(folder, **changes):
    space = DetNASSpace('small')
    file = latency.write(folder / f'{len(list(folder.iterdir()))}.json', space, **changes)
    return dict(space=space, costs=dict(latency=LatencyTable(space, file)), constraints=())


@pytest.mark.parametrize('measured', [structure_latency, block_latency])
def test_measured_tables_are_compared_by_their_numbers(tmp_path, measured):
    """Not by date and place, which their scope names."""
    (tmp_path / 'tables').mkdir()
    first = measured(tmp_path / 'tables')
    begin(tmp_path / 'ledger.jsonl', job(**first))
    again = measured(tmp_path / 'tables', measured=MEASURED)
    scopes = [settings['costs']['latency'].scope for settings in (first, again)]
    assert scopes[0] != scopes[1] and MEASURED in scopes[1]
    Ledger(tmp_path / 'ledger.jsonl', job(**again).header()).close()
    other = measured(tmp_path / 'tables', constant_ms=1.2500001)
    with pytest.raises(LedgerError, match='budget.costs.latency.table: there'):
        Ledger(tmp_path / 'ledger.jsonl', job(**other).header())


def test_multiples_are_no_milliseconds(tmp_path):
    settings = structure_latency(tmp_path)
    begin(tmp_path / 'ledger.jsonl', job(**settings))
    space, file = settings['space'], tmp_path / '0.json'
    settings['costs'] = dict(latency=StructureLatency(space, file, relative_to='resnet50'))
    with pytest.raises(
        LedgerError, match='latency.relative_to: there nothing, now "resnet50".*latency.unit_ms: there nothing, now'
    ):
        Ledger(tmp_path / 'ledger.jsonl', job(**settings).header())


@pytest.mark.parametrize(
    ('space', 'kind', 'size'), [('small', MacsTable, (224, 320)), ('authors', StructureFlops, (480, 640))]
)
def test_counts_are_compared_with_their_input_size(tmp_path, space, kind, size):
    whole = DetNASSpace(space) if kind is MacsTable else MAEDetSpace(space)
    settings = [dict(space=whole, costs=dict(macs=kind(whole, *args)), constraints=()) for args in ((), (size,), ())]
    begin(tmp_path / 'ledger.jsonl', job(**settings[0]))
    with pytest.raises(LedgerError, match=rf'costs.macs.input_size: there .*, now \[{size[0]}, {size[1]}\]'):
        Ledger(tmp_path / 'ledger.jsonl', job(**settings[1]).header())
    Ledger(tmp_path / 'ledger.jsonl', job(**settings[2]).header()).close()


def test_parts_may_be_missing_where_the_search_is_a_training_run(tmp_path):
    """Then its header says so, and a search with a strategy is another one."""
    training = job(strategy=None, evaluator=None)
    assert training.header()['strategy'] is None and training.header()['evaluator'] is None
    begin(tmp_path / 'ledger.jsonl', training)
    with Ledger(tmp_path / 'ledger.jsonl', replace(training, generations=3).header()) as ledger:
        assert len(ledger.records) == 1
    with pytest.raises(
        LedgerError, match='evaluator: there null, now nothing; .*strategy.parents: there nothing, now 4'
    ):
        Ledger(tmp_path / 'ledger.jsonl', job().header())
