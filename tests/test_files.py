"""Files that are written whole, and locks, also where the file system or the system has none."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.files import lock, replacing, write_json, write_text

ROOT = Path(__file__).parents[1]
CANNOT_LOCK = ('ENOSYS', 'ENOLCK', 'EOPNOTSUPP', 'EBADF')
HELD = ('EWOULDBLOCK', 'EACCES')


# -- written whole or not at all ----------------------------------------------------------------------------------


def test_a_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / 'new' / 'a.json'
    write_json(path, dict(a=[1, 2]))
    assert path.read_text() == '{"a": [1, 2]}\n'
    write_json(path, dict(a=1), indent=2)
    assert path.read_text() == '{\n  "a": 1\n}\n'
    write_text(path, 'Größe')
    assert path.read_bytes() == 'Größe'.encode()
    with replacing(path) as draft:
        assert draft.parent == path.parent and draft.suffix == '.json' and path.read_text(encoding='utf-8') == 'Größe'
        draft.write_text('0')
    assert [p.name for p in path.parent.iterdir()] == ['a.json'] and path.read_text() == '0'
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('old')
    with pytest.raises(ValueError, match='JSON compliant'):
        write_json(path, float('nan'), allow_nan=False)
    with pytest.raises(ZeroDivisionError), replacing(path) as draft:
        draft.write_text('half')
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError), replacing(path):  # nothing was written
        pass
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        write_text(tmp_path, 'a')
    assert [p.name for p in tmp_path.iterdir()] == ['a.json'] and path.read_text() == 'old'


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('old')
    code = f"""
import os, signal
from detnas_mm.files import replacing
with replacing({str(path)!r}) as draft:
    draft.write_text('half')
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == -9
    assert path.read_text() == 'old'


# -- locks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_a_lock_is_held_until_its_handle_is_closed(tmp_path, kind):
    path = tmp_path if kind == 'folder' else tmp_path / 'a.lock'
    handle = lock(path)
    with pytest.raises(BlockingIOError, match='another process holds the lock'):
        lock(path)
    os.close(handle)
    os.close(lock(path, wait=True))


def test_a_forked_process_does_not_keep_a_lock(tmp_path):
    """A killed training's data loaders live for some seconds; what the handle's number is used for next they keep."""
    old = lock(tmp_path / 'old.lock')
    os.close(old)
    used_again = os.open(tmp_path / 'file', os.O_CREAT | os.O_WRONLY)
    assert used_again == old
    handle = lock(tmp_path / 'a.lock')
    read, write = os.pipe()
    runs, started = os.pipe()
    child = os.fork()
    if not child:
        os.write(used_again, b'kept')
        os.write(started, b'.')
        os.read(read, 1)  # until the parent has looked
        os._exit(0)
    try:
        os.read(runs, 1)
        os.close(handle)  # as its end would
        os.close(lock(tmp_path / 'a.lock'))
    finally:
        os.write(write, b'.')
        os.waitpid(child, 0)
        for one in (read, write, runs, started, used_again):
            os.close(one)
    assert (tmp_path / 'file').read_text() == 'kept'


def flock_fails(monkeypatch, number):
    def flock(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr('fcntl.flock', flock)


@pytest.mark.parametrize('name', CANNOT_LOCK)
def test_a_file_system_that_cannot_lock_is_named_in_a_warning(tmp_path, monkeypatch, name):
    flock_fails(monkeypatch, getattr(errno, name))
    mounted = next(str(p) for p in (tmp_path, *tmp_path.parents) if os.path.ismount(p))
    for wait in (False, True):
        with pytest.warns(UserWarning, match=f'mounted at {mounted} cannot lock {tmp_path} .*one at a time') as caught:
            os.close(lock(tmp_path, wait))
        assert len(caught) == 1 and caught[0].filename == __file__


@pytest.mark.parametrize('name', HELD)
def test_what_another_process_holds_is_no_matter_of_the_file_system(tmp_path, monkeypatch, name):
    flock_fails(monkeypatch, getattr(errno, name))
    with pytest.raises(BlockingIOError):
        lock(tmp_path)


@pytest.fixture(scope='module')
def failing_flock(tmp_path_factory):
    """Starts a program with a C library whose ``flock`` fails with an errno."""
    compiler = shutil.which('gcc') or shutil.which('cc')
    if compiler is None or sys.platform != 'linux':
        pytest.skip('needs Linux and a C compiler')
    folder = tmp_path_factory.mktemp('flock')
    (folder / 'flock.c').write_text(
        '#include <errno.h>\n#include <stdlib.h>\n'
        'int flock(int handle, int operation) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }\n'
    )
    library = folder / 'flock.so'
    subprocess.run([compiler, '-shared', '-fPIC', '-o', library, folder / 'flock.c'], check=True)

    def run(name, *command):
        path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
        env = os.environ | dict(LD_PRELOAD=str(library), FLOCK_ERRNO=str(getattr(errno, name)), PYTHONPATH=path)
        return subprocess.run([*map(str, command)], env=env, capture_output=True, text=True)

    return run


SEARCH = """
import os, signal, sys
from detnas_mm.search import Ledger, LedgerError, Record, refuse_if_in_use

path, kill = sys.argv[1], int(sys.argv[2])
try:
    refuse_if_in_use(path)
    ledger = Ledger(path, dict(seed=0))
except LedgerError as error:
    sys.exit(str(error))
for index in range(len(ledger.records), 4):
    if index == kill:
        os.kill(os.getpid(), signal.SIGKILL)
    ledger.append(Record(index=index, generation=0, id=f'id{index}', arch='0', origin='random', parents=(),
                         status='ok', reason=None, metrics={}, costs={}))
print(len(ledger.records), 'rows, attempt', ledger.attempt)
"""


@pytest.mark.parametrize('name', CANNOT_LOCK)
def test_a_search_resumes_after_a_kill_where_nothing_can_be_locked(failing_flock, tmp_path, name):
    path = tmp_path / 'ledger.jsonl'
    killed = failing_flock(name, sys.executable, '-c', SEARCH, path, 2)
    assert killed.returncode == -9 and killed.stderr.count('cannot lock') == 1
    (tmp_path / 'ledger.lock').write_text('process 1 on another machine\n')  # it died there
    resumed = failing_flock(name, sys.executable, '-c', SEARCH, path, -1)
    assert resumed.stdout == '4 rows, attempt 2\n', resumed.stderr
    assert resumed.stderr.count('cannot lock') == 1 and str(tmp_path) in resumed.stderr


@pytest.mark.parametrize('name', HELD)
def test_a_search_whose_folder_another_one_holds_is_refused(failing_flock, tmp_path, name):
    (tmp_path / 'ledger.lock').write_text('process 1 on another machine\n')
    refused = failing_flock(name, sys.executable, '-c', SEARCH, tmp_path / 'ledger.jsonl', -1)
    assert refused.returncode == 1 and 'is in use by process 1 on another machine' in refused.stderr
    assert 'cannot lock' not in refused.stderr and not (tmp_path / 'ledger.jsonl').exists()


@pytest.mark.parametrize('name', CANNOT_LOCK)
def test_digits_are_made_where_nothing_can_be_locked(failing_flock, tmp_path, name):
    counts = dict(num_train=3, num_search_val=2, num_test=2, num_cls_train=10, num_cls_search_val=10, num_cls_test=10)
    options = [f'--{key.replace("_", "-")}={count}' for key, count in counts.items()]
    tool = ROOT / 'tools' / 'dataset_converters' / 'make_digits.py'
    made = failing_flock(name, sys.executable, tool, tmp_path / 'set', *options)
    assert made.returncode == 0 and 'Digits made in' in made.stdout, made.stderr
    assert made.stderr.count('cannot lock') == 1 and f'{tmp_path}/set' in made.stderr
    assert json.loads((tmp_path / 'set' / 'digits.json').read_text())['complete']


@pytest.mark.slow
def test_the_search_tool_runs_twice_where_nothing_can_be_locked(failing_flock, tmp_path):
    tool, config = ROOT / 'tools' / 'search.py', ROOT / 'configs' / 'mae_det' / 'maedet_search-exact_gfl_coco.py'
    for _ in range(2):
        done = failing_flock('ENOLCK', sys.executable, tool, config, '--work-dir', tmp_path / 'search')
        assert done.returncode == 0, done.stderr
        assert done.stderr.count('cannot lock') == 1
    assert len(json.loads((tmp_path / 'search' / 'best.json').read_text())) == 1


def wait_for_lock(folder):
    script = f'set -e; . {ROOT}/tools/_common.sh; exec 9>{folder}/lock; wait_for_lock 9 {folder}; echo begins'
    return 'bash', '-c', script


@pytest.mark.parametrize('name', CANNOT_LOCK)
def test_an_environment_is_set_up_where_nothing_can_be_locked(failing_flock, tmp_path, name):
    run = failing_flock(name, *wait_for_lock(tmp_path))
    said = f'      the file system of {tmp_path} has no locks: run one set-up of this environment at a time'
    assert run.returncode == 0 and run.stdout.splitlines() == [said, 'begins']


def test_a_second_set_up_of_an_environment_waits(tmp_path):
    (tmp_path / 'lock').touch()
    handle = lock(tmp_path / 'lock')
    with subprocess.Popen(wait_for_lock(tmp_path), stdout=subprocess.PIPE, text=True) as second:
        assert second.stdout.readline().strip() == 'another set-up of this environment is running; waiting for it'
        assert second.poll() is None
        os.close(handle)
        assert second.stdout.read() == 'begins\n'


# -- without fcntl ------------------------------------------------------------------------------------------------

WITHOUT = 'import sys; sys.modules["fcntl"] = None\n'  # as on Windows: importing it raises ModuleNotFoundError


def test_without_fcntl_all_but_locking_works(tmp_path):
    code = f"""{WITHOUT}
from pathlib import Path
import detnas_mm.datasets.digits, detnas_mm.spaces, detnas_mm.zoo
from detnas_mm.cli import one_line_errors
from detnas_mm.search import Ledger, read_ledger
path = Path({str(tmp_path / 'l.jsonl')!r})
path.write_text('{{"schema":3,"seed":0}}\\n')
print(read_ledger(path)[0]['seed'], Ledger(None, {{}}).attempt, flush=True)
one_line_errors(lambda: Ledger(path, {{}}))
"""
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == '0 1\n', run.stderr
    assert run.returncode == 1 and run.stderr.startswith('error: ') and run.stderr.count('\n') == 1
    assert 'l.lock cannot be locked' in run.stderr and 'Linux or macOS' in run.stderr


@pytest.mark.slow
def test_without_fcntl_found_nets_are_built_and_their_hooks_too():
    code = f"""{WITHOUT}
from mmengine.registry import HOOKS, MODELS
MODELS.build(dict(type='detnas_mm.DetNASNet', arch='coco-fpn-300m'))
MODELS.build(dict(type='detnas_mm.MAEDetNet', arch='maedet-s'))
HOOKS.build(dict(type='detnas_mm.ChannelsLastHook', evaluation=True))
import detnas_mm.engine.launch, detnas_mm.evaluators, detnas_mm.engine.export
"""
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_locking_without_fcntl_is_an_expected_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'fcntl', None)
    with pytest.raises(DetNASError, match=f'{tmp_path} cannot be locked: .*Linux or macOS'):
        lock(tmp_path)
