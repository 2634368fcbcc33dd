import json
import os
import subprocess
import sys

import pytest

from detnas_mm.search import Ledger, LedgerError, Record, read_ledger
from detnas_mm.search.ledger import refuse_if_in_use


def record(index, arch_id=None, **changes):
    fields = dict(
        index=index, generation=0, id=arch_id or f'id{index}', arch='0', origin='random', parents=(), status='ok',
        reason=None, metrics={'acc': 0.1 + index / 3}, costs={'macs': 5},
    )  # fmt: skip
    return Record(**(fields | changes))


HEADER = dict(seed=0, objectives=[dict(name='acc', direction='maximize')])


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    with Ledger(path, HEADER) as ledger:
        for i in range(3):
            ledger.append(record(i))
    return path


def test_rows_come_back_as_they_were_written(path):
    header, records = read_ledger(path)
    assert header['seed'] == 0
    assert records == [record(i) for i in range(3)]
    assert records[1].metrics['acc'] == 0.1 + 1 / 3  # every bit


def test_details_come_back_as_they_were_written(tmp_path):
    """Details of an evaluator besides its metrics, which the search itself never reads."""
    details = {'images': 60, 'partial': {'25': {'acc': 0.1 + 1 / 3}}, 'losses': [1.5, None, 'nan'], 'fine': True}
    with Ledger(tmp_path / 'l.jsonl', HEADER) as ledger:
        ledger.append(record(0, details=details))
    assert read_ledger(tmp_path / 'l.jsonl')[1] == [record(0, details=details)]


def test_going_on_appends_and_keeps_the_bytes(path):
    before = path.read_bytes()
    with Ledger(path, HEADER) as ledger:
        assert [r.id for r in ledger.records] == ['id0', 'id1', 'id2']
        assert ledger.attempt == 2
        assert ledger.records[1] == record(1)
        ledger.append(record(3))
    assert path.read_bytes()[: len(before)] == before
    assert len(read_ledger(path)[1]) == 4


@pytest.mark.parametrize('keep', [1, 20, -1])
def test_a_half_written_last_line_is_dropped_with_a_warning(path, keep):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b''.join(lines[:-1]) + lines[-1][:keep])
    with pytest.warns(UserWarning, match='last line'), Ledger(path, HEADER) as ledger:
        assert [r.id for r in ledger.records] == ['id0', 'id1']
    assert path.read_bytes() == b''.join(lines[:-1])


def test_a_half_written_header_is_begun_anew(path):
    path.write_bytes(path.read_bytes()[:10])
    with pytest.warns(UserWarning, match='last line'), Ledger(path, HEADER) as ledger:
        assert ledger.records == []
    assert read_ledger(path)[0]['seed'] == 0


def test_a_damaged_inner_line_is_an_error_with_its_number(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:30] + b'\n' + lines[2] + lines[3])
    with pytest.raises(LedgerError, match='Line 2 of .* is damaged'):
        Ledger(path, HEADER)
    path.write_bytes(lines[0] + lines[1] + lines[3])  # a row lost
    with pytest.warns(UserWarning, match='index'):
        assert len(read_ledger(path)[1]) == 1


@pytest.mark.parametrize(
    'line',
    [
        '5', 'null', '[' * 100_000, '{"index":1}', '{"index":NaN}',
        json.dumps(record(1).to_json()).replace('{"acc": 0.', '{"acc": 1e999, "other": 0.'),
        *(json.dumps(record(1).to_json() | wrong) for wrong in (
            dict(status='foo'), dict(metrics=None), dict(metrics={'acc': '0.9'}), dict(generation='1'), dict(id=7),
            dict(details=[1]), dict(details=None), dict(images=60), dict(partial={}), dict(attempt='1'),
            dict(metrics={'other': 0.5}, costs={}),
        )),
        *(json.dumps(record(1).to_json() | dict(details=details)).replace('1.5', '1e999') for details in (
            {'images': 1.5}, {'partial': {'25': {'acc': 1.5}}}, {'losses': [0.5, [1.5]]},
        )),
    ],
)  # fmt: skip
def test_lines_that_are_no_rows_are_errors_inside_and_dropped_at_the_end(path, line):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(''.join([lines[0], lines[1], f'{line}\n', lines[3]]))
    with pytest.raises(LedgerError, match='Line 3 of .* is damaged'):
        Ledger(path, HEADER)
    path.write_text(''.join([lines[0], lines[1], f'{line}\n']))
    with pytest.warns(UserWarning, match='last line'):
        assert len(read_ledger(path)[1]) == 1


@pytest.mark.parametrize('objectives', [5, [5], [{'direction': 'maximize'}]])
def test_a_first_line_without_proper_objectives_is_an_error(path, objectives):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(''.join([json.dumps(json.loads(lines[0]) | dict(objectives=objectives)) + '\n', *lines[1:]]))
    with pytest.raises(LedgerError, match='first line of .* is damaged: its objectives are'):
        read_ledger(path)


@pytest.mark.parametrize('text', ['my important notes\n', 'notes', '{"a": 1}\n'])
def test_a_file_that_is_no_ledger_is_left_alone(tmp_path, text):
    path = tmp_path / 'ledger.jsonl'
    path.write_text(text)
    with pytest.raises(LedgerError, match='is not a ledger; it begins with'):
        Ledger(path, HEADER)
    assert path.read_text() == text


def test_a_search_that_ended_before_its_first_row_does_not_lock_its_folder(tmp_path):
    Ledger(tmp_path / 'l.jsonl', {'objective': 'misspelt'}).close()
    with Ledger(tmp_path / 'l.jsonl', {'objective': 'right'}) as ledger:
        ledger.append(record(0))
    assert read_ledger(tmp_path / 'l.jsonl')[0]['objective'] == 'right'


def test_another_search_is_refused_and_says_what_differs(path):
    with pytest.raises(LedgerError, match='belongs to another search.*seed: there 0, now 1'):
        Ledger(path, {'seed': 1})
    with Ledger(path, HEADER):  # the refusal left no lock behind
        pass


def test_a_refusal_names_the_values_that_differ_and_no_others(tmp_path):
    header = {'evaluator': {'images': 5000, 'calibration': {'images': 500, 'digest': 'a' * 200}}}
    with Ledger(tmp_path / 'l.jsonl', header) as ledger:
        ledger.append(record(0))
    header['evaluator']['calibration']['digest'] = 'a' * 199 + 'b'
    with pytest.raises(LedgerError) as refusal:
        Ledger(tmp_path / 'l.jsonl', header)
    assert 'evaluator.calibration.digest: there "aaa' in str(refusal.value) and 'aab"' in str(refusal.value)
    assert 'images' not in str(refusal.value)


def test_a_ledger_in_use_is_refused_by_any_link(path, tmp_path):
    (tmp_path / 'other').mkdir()
    link = tmp_path / 'other' / 'ledger.jsonl'
    link.symlink_to(path)
    with Ledger(path, HEADER):
        with pytest.raises(LedgerError, match='in use by process'):
            Ledger(link, HEADER)
        with pytest.raises(LedgerError, match='in use by process'):
            refuse_if_in_use(link)
    with Ledger(link, HEADER), pytest.raises(LedgerError, match='in use by process'):
        Ledger(path, HEADER)


def test_another_environment_only_warns(tmp_path):
    Ledger(tmp_path / 'l.jsonl', {}, {'threads': 1}).close()
    with pytest.warns(UserWarning, match='threads'):
        Ledger(tmp_path / 'l.jsonl', {}, {'threads': 2}).close()


def test_a_second_search_on_the_folder_is_refused_and_names_the_first(path):
    code = f"""
import sys
from detnas_mm.search import Ledger
Ledger({str(path)!r}, {HEADER!r})
print('ready', flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b'ready\n'
        with pytest.raises(LedgerError, match=f'in use by process {first.pid} on'):
            Ledger(path, HEADER)
        first.kill()
    Ledger(path, HEADER).close()  # a killed process holds no lock


def of_schema_2():
    """A ledger as the version before this one wrote it: prose in the header, racing's fields in the rows."""
    header = dict(
        schema=2, space=dict(type='x'), strategy={}, evaluator={}, objectives=HEADER['objectives'],
        costs=dict(macs='multiply-adds of convolutions, backbone, at 224x224'), constraints=['macs ≤ 300,000,000'],
        seed=0, environment={},
    )  # fmt: skip
    row = {k: v for k, v in record(0).to_json().items() if k != 'details'} | dict(images=None, partial={})
    return ''.join(json.dumps(line) + '\n' for line in (header, row, row | dict(index=1)))


@pytest.mark.parametrize(
    ('schema', 'text'),
    [
        ('2', of_schema_2()),
        ('2', of_schema_2().splitlines(keepends=True)[0]),
        ('99', '{"schema": 99}\n'),
        ("'3'", '{"schema": "3"}\n'),
        ('None', '{"schema": null}\n'),
    ],
)
def test_ledgers_of_other_versions_are_refused_in_one_line_and_left_alone(tmp_path, schema, text):
    path = tmp_path / 'ledger.jsonl'
    path.write_text(text)
    message = (
        f'{path} is a ledger of schema {schema}; this version reads 3. Finish the search with the version that started '
    )
    message += 'it, or choose another --work-dir.'
    for read in (read_ledger, lambda path: Ledger(path, HEADER)):
        with pytest.raises(LedgerError) as refusal:
            read(path)
        assert str(refusal.value) == message
    assert path.read_text() == text
    path.unlink()
    with Ledger(path, HEADER):  # the refusal left no lock behind
        assert json.loads(path.read_text())['schema'] == 3


def test_rows_and_the_name_of_the_file_are_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, 'fsync', lambda handle: synced.append(os.readlink(f'/proc/self/fd/{handle}')))
    path = tmp_path / 'new' / 'ledger.jsonl'
    with Ledger(path, HEADER) as ledger:
        assert synced == [str(path), str(path.parent)]
        for count in (3, 4):
            ledger.append(record(count - 3))
            assert synced[2:] == [str(path)] * (count - 2)
    with Ledger(path, HEADER):
        assert len(synced) == 4


def test_a_disk_that_is_full_is_told_and_costs_one_row(tmp_path, monkeypatch):
    path = tmp_path / 'ledger.jsonl'
    ledger = Ledger(path, HEADER)
    ledger.append(record(0))
    write = os.write

    def part(handle, data):
        if len(data) < 100:
            raise OSError(28, 'No space left on device')
        return write(handle, data[:-50])

    with monkeypatch.context() as patch:
        patch.setattr(os, 'write', part)
        with pytest.raises(
            LedgerError, match='ledger.jsonl cannot be written: No space left .* free some space and start'
        ):
            ledger.append(record(1))
    assert len(ledger.records) == 1
    ledger.close()
    with pytest.warns(UserWarning, match='incomplete'), Ledger(path, HEADER) as again:
        assert again.records == [record(0)]


def test_values_that_json_does_not_know_are_refused_and_not_written(path):
    size = os.path.getsize(path)
    with Ledger(path, HEADER) as ledger, pytest.raises(ValueError, match='(?i)json compliant'):
        ledger.append(record(3, metrics={'acc': float('nan')}))
    assert os.path.getsize(path) == size


@pytest.mark.parametrize('index', [0, 2, 4])
def test_rows_that_could_not_be_read_again_are_not_written(path, index):
    size = os.path.getsize(path)
    with (
        Ledger(path, HEADER) as ledger,
        pytest.raises(ValueError, match=f'ledger.jsonl must have index 3; got {index}'),
    ):
        ledger.append(record(index))
    assert os.path.getsize(path) == size


@pytest.mark.parametrize('index', [0, 1, 2])
def test_rows_are_taken_back_and_stay_in_a_copy(path, index):
    before = path.read_bytes()
    for number in (1, 2):
        with Ledger(path, HEADER) as ledger:
            copy = ledger.cut(index)
            assert copy == path.with_name(f'ledger_before_{number}.jsonl') and copy.read_bytes() == before
            assert ledger.records == [record(i) for i in range(index)] == read_ledger(path)[1]
            for i in range(index, 3):
                ledger.append(record(i))
        assert path.read_bytes() == before
    in_memory = Ledger(None, HEADER, records=[record(i) for i in range(3)])
    assert in_memory.cut(index) is None and len(in_memory.records) == index


def test_no_copy_takes_the_place_of_another(path):
    other = path.with_name('ledger_before_1.jsonl')
    last = path.with_name('ledger_before_2.jsonl')
    last.write_text('kept')
    with Ledger(path, HEADER) as ledger:
        assert ledger.cut(2) == other and ledger.cut(1) == path.with_name('ledger_before_3.jsonl')
    assert last.read_text() == 'kept'
