import csv
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from detnas_mm.search import Ledger, LedgerError, analysis, read_ledger

from .test_ledger import of_schema_2, record

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'ledger.py'
HEADER = {'objectives': [{'name': 'acc', 'direction': 'maximize'}], 'seed': 0}


def write(folder, *rows, **changes):
    with Ledger(folder / 'ledger.jsonl', HEADER | changes, {'torch': '2.10'}) as ledger:
        ledger.extend(record(i, **row) for i, row in enumerate(rows))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(
        tmp_path / 'a',
        dict(arch_id='x', metrics={'acc': 0.5}, costs={'macs': 50}),
        dict(arch_id='y', metrics={'acc': 0.7}, costs={'macs': 90}, generation=1, origin='mutation', parents=('x',)),
        dict(arch_id='z', metrics={}, costs={'macs': 10}, generation=1, status='failed', reason='no detections'),
        dict(arch_id='w', metrics={'acc': 0.4}, costs={'macs': 60}, generation=1),
    )


def run(capsys, *arguments):
    sys.argv = [str(TOOL), *map(str, arguments)]
    runpy.run_path(str(TOOL), run_name='__main__')
    return capsys.readouterr().out


def ids(output):
    return [line.split()[0] for line in output.splitlines()[1:]]


def test_the_best_the_front_and_selections(folder, capsys):
    out = run(capsys, folder)
    assert out.startswith('4 rows, 1 failed, 0 dropped early; best: 3') and ids(out) == ['y', 'x', 'w']
    assert 'acc 0.7  macs 90  generation 1  mutation' in out
    assert ids(run(capsys, folder, '--top', 1)) == ['y']
    assert ids(run(capsys, folder, '--by', 'macs:minimize')) == ['x', 'w', 'y']
    assert ids(run(capsys, folder, '--front', 'acc', 'macs:minimize')) == ['y', 'x']
    assert ids(run(capsys, folder, '--where', 'macs<=60')) == ['x', 'w']
    assert ids(run(capsys, folder, '--where', 'macs>50', 'origin=mutation')) == ['y']
    assert run(capsys, folder, '--where', 'reason=no detections').startswith(
        '1 row, 1 failed, 0 dropped early; best: 0'
    )
    assert run(capsys, folder, '--where', 'acc=None').startswith('1 row, 1 failed')


def test_ids_of_digits_are_text(tmp_path, capsys):
    folder = write(tmp_path / 'a', dict(arch_id='012345678901', arch='00|1'), dict(arch_id='1e5', arch='1'))
    assert ids(run(capsys, folder, '--where', 'id=012345678901')) == ['012345678901']
    assert ids(run(capsys, folder, '--where', 'id!=012345678901')) == ['1e5']
    assert ids(run(capsys, folder, '--where', 'arch=1')) == ['1e5']
    assert ids(run(capsys, folder, '--where', 'id=100000')) == []


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--where', 'macs'], 'is not a condition'),
        (['--where', 'mAP>3'], "'mAP' is not a name in the rows. Names: acc, macs, index"),
        (['--where', 'macs>many'], 'must be compared with a number, such as .*>0.5'),
        (['--where', 'macs==50'], "'macs==50': a value must follow =; got '=50'. Operators are <= >="),
        (['--where', 'macs=<60'], "a value must follow =; got '<60'"),
        (['--where', 'macs='], "a value must follow =; got ''"),
        (['--where', 'macs=abc'], "macs must be compared with a number, such as macs.?=0.5; got 'abc'"),
        (['--where', 'macs=nan'], "macs must be compared with a number, such as macs.?=0.5; got 'nan'"),
        (['--where', 'index!=first'], 'index must be compared with a number, such as index!=0.5'),
        (['--where', 'id<5'], 'id can only be compared with = or !='),
        (['--where', 'acc<None'], 'None can only be compared with = or !='),
        (['--top', '-1'], '--top must be 1 or more; got -1'),
        (['--top', '0'], '--top must be 1 or more; got 0'),
        (['--csv', '/nowhere/x.csv'], 'cannot write --csv /nowhere/x.csv: No such file'),
        (['--by', 'mAP'], "'mAP' is no metric or cost of these rows. Allowed: acc, macs"),
        (['--front', 'acc', 'origin'], "'origin' is no metric or cost"),
        (['/nowhere'], 'there is no ledger /nowhere'),
        (['--by', 'acc:up'], "'maximize' or 'minimize'"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, arguments, message):
    with pytest.raises(SystemExit, match=f'error: .*{message}'):
        run(capsys, folder, *arguments)


@pytest.mark.parametrize('text', ['[\n  {\n', '{\n', 'x', '{"rank": 1}\n'])
def test_other_files_are_no_ledgers(folder, capsys, text):
    (folder / 'best.json').write_text(text)
    with pytest.raises(SystemExit, match='error: .*best.json is not a ledger: .*ledger.jsonl'):
        run(capsys, folder / 'best.json')


def test_a_ledger_that_has_not_begun(tmp_path, capsys):
    (tmp_path / 'ledger.jsonl').write_text('')
    with pytest.raises(SystemExit, match='has not started'):
        run(capsys, tmp_path)


def test_ledgers_of_an_older_version_are_refused_in_one_line(tmp_path, capsys):
    (tmp_path / 'ledger.jsonl').write_text(of_schema_2())
    for arguments in ([], ['--merge', tmp_path / 'all.jsonl']):
        with pytest.raises(
            SystemExit, match='^error: .*ledger.jsonl is a ledger of schema 2; this version reads 3. .*$'
        ):
            run(capsys, tmp_path, *arguments)
    assert not (tmp_path / 'all.jsonl').exists()


def test_numbers_among_the_details_can_be_asked_for(tmp_path, capsys):
    """Such as the number of images a candidate was evaluated on; nested ones are not columns."""
    details = [dict(images=60, partial={'25': {'acc': 0.1}}), dict(images=15), {}]
    folder = write(tmp_path / 'a', *(dict(arch_id=name, details=own) for name, own in zip('xyz', details)))
    assert ids(run(capsys, folder, '--where', 'images=60')) == ['x']
    assert sorted(ids(run(capsys, folder, '--where', 'images<=60'))) == ['x', 'y']
    assert ids(run(capsys, folder, '--where', 'images=None')) == ['z']
    run(capsys, folder, '--csv', tmp_path / 'rows.csv')
    rows = list(csv.DictReader((tmp_path / 'rows.csv').open()))
    assert [row['images'] for row in rows] == ['60', '15', ''] and 'partial' not in rows[0]
    with pytest.raises(SystemExit, match="'partial' is not a name in the rows. Names: acc, macs, images, index"):
        run(capsys, folder, '--where', 'partial=1')


def test_ledgers_of_one_search_become_one(folder, tmp_path, capsys):
    other = write(
        tmp_path / 'b',
        dict(arch_id='x', metrics={'acc': 0.5}, costs={'macs': 50}),
        dict(arch_id='v', metrics={'acc': 0.9}, costs={'macs': 70}),
        dict(arch_id='z', metrics={'acc': 0.1}, costs={'macs': 10}, generation=1),
    )
    assert ids(run(capsys, folder, other / 'ledger.jsonl', '--merge', tmp_path / 'all.jsonl')) == list('vyxwz')
    header, rows = read_ledger(tmp_path / 'all.jsonl')
    assert [(r.index, r.id, r.generation) for r in rows] == [
        (0, 'x', 0),
        (1, 'v', 0),
        (2, 'y', 1),
        (3, 'w', 1),
        (4, 'z', 1),
    ]
    assert header == read_ledger(folder / 'ledger.jsonl')[0]
    assert rows[4].ok  # one machine's failure is made good by another's success
    with pytest.raises(SystemExit, match='exists already'):
        run(capsys, folder, '--merge', tmp_path / 'all.jsonl')


def test_rows_of_one_ledger_about_the_same_architecture_all_count(tmp_path):
    """A gradient search writes a row an epoch, and its choice comes to rest."""
    rows = [dict(arch_id='x', generation=epoch, metrics={'acc': epoch / 10}) for epoch in range(3)]
    folder, other = write(tmp_path / 'a', *rows), write(tmp_path / 'b', rows[0], dict(arch_id='y', generation=1))
    assert [r.metrics['acc'] for r in analysis.merge([folder])[1]] == [0.0, 0.1, 0.2]
    assert [(r.index, r.id, r.generation) for r in analysis.merge([folder, other])[1]] == [
        (0, 'x', 0), (1, 'x', 1), (2, 'y', 1), (3, 'x', 2),
    ]  # fmt: skip


def test_ledgers_of_two_searches_are_not_mixed(folder, tmp_path):
    other = write(tmp_path / 'b', dict(arch_id='x'), seed=1)
    with pytest.raises(LedgerError, match='another search.*seed: there 0, now 1'):
        analysis.merge([folder, other])


def test_csv(folder, tmp_path, capsys):
    run(capsys, folder, '--csv', tmp_path / 'rows.csv')
    rows = list(csv.DictReader((tmp_path / 'rows.csv').open()))
    assert [row['id'] for row in rows] == list('xyzw')
    assert (rows[1]['acc'], rows[1]['macs'], rows[1]['parents']) == ('0.7', '90', 'x')
    assert rows[2]['acc'] == '' and rows[2]['reason'] == 'no detections'
    assert run(capsys, folder, '--csv', '-').startswith('acc,macs,index,')


def test_a_table_does_not_overwrite_a_ledger(folder, capsys):
    before = (folder / 'ledger.jsonl').read_bytes()
    with pytest.raises(SystemExit, match='error: --csv .*ledger.jsonl would overwrite a ledger'):
        run(capsys, folder, '--csv', folder / 'ledger.jsonl')
    assert (folder / 'ledger.jsonl').read_bytes() == before


def test_rows_without_a_value_that_is_asked_for_are_left_out(tmp_path, capsys):
    rows = [dict(arch_id=x, metrics={'acc': 0.5, **more}) for x, more in (('x', {'acc_s': 0.1}), ('y', {}))]
    folder = write(tmp_path / 'a', *rows)
    assert ids(run(capsys, folder, '--by', 'acc_s')) == ['x']
    assert ids(run(capsys, folder, '--front', 'acc', 'acc_s')) == ['x']
    assert sorted(ids(run(capsys, folder))) == ['x', 'y']


def test_what_nobody_reads_to_the_end_is_no_error(folder):
    """Tests output into a closed pipe, as with ``… | head``."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, str(TOOL), str(folder), '--csv', '-'], stdout=writer, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, '')


def test_a_hundred_thousand_rows(tmp_path):
    with Ledger(tmp_path / 'ledger.jsonl', HEADER) as ledger:
        ledger.extend(record(i, parents=('a' * 12, 'b' * 12)) for i in range(100_000))
    assert len(read_ledger(tmp_path / 'ledger.jsonl')[1]) == 100_000  # how quick: benchmarks/ledger.py


def test_costs_have_the_units_of_their_models():
    """No file of latencies is opened for it."""
    costs = dict(latency='NetLatency', macs='NetMacs', memory='PeakMemoryTable', own='NotRegistered')
    header = dict(budget=dict(costs={name: dict(type=kind) for name, kind in costs.items()}))
    header['budget']['costs']['ratio'] = dict(type='StructureLatency', relative_to='resnet50', unit_ms=9.5)
    units = analysis.cost_units(header)
    assert units == dict(latency='ms', memory='B', ratio='× resnet50')
    assert analysis.with_unit('latency', 5.25, units) == 'latency 5.25 ms'
    assert analysis.with_unit('macs', 5550336, units) == 'macs 5,550,336'
    assert analysis.cost_units({}) == {}
