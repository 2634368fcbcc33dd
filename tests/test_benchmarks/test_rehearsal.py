"""The rehearsal of the documented searches: what it sees, and COCO's counts of images within a container's limits."""

import json
import os
import subprocess
import sys

import pytest

FILES, MEGABYTES = 60, 90
HOLDS = f"""
import os
files = [open(os.devnull) for _ in range({FILES})]
memory = bytearray(os.urandom(2**20)) * {MEGABYTES}
print('ready', flush=True)
input()
"""


@pytest.fixture
def rehearsal(load):
    return load('rehearsal')


def test_what_a_process_and_those_below_it_take_is_seen(load):
    held = [sys.executable, '-c', HOLDS]
    starts = f'import subprocess; subprocess.run({held!r})'
    with subprocess.Popen([sys.executable, '-c', starts], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b'ready\n'
        watch = load('processes').Watch(process.pid)
        watch.look('one')
        process.stdin.write(b'\n')
    watch.look('two')  # all have ended
    one, two = watch.rows()
    assert FILES < one['open files'] < FILES + 20 and MEGABYTES < one['memory MB'] < MEGABYTES + 80
    assert one['process MB'] < MEGABYTES and two['open files'] == 0


def test_growth_is_found(rehearsal):
    first = {'open files': 20, 'shared MB': 0.0, 'memory MB': 1000, 'process MB': 800}
    assert rehearsal.grown(first, first | {'open files': 24, 'memory MB': 1050}) == []
    assert rehearsal.grown(first, first | {'open files': 900, 'shared MB': 30.0}) == [
        'open files: 20, then 900', 'shared MB: 0, then 30',
    ]  # fmt: skip


@pytest.mark.slow
def test_cocos_images_within_a_containers_limits(rehearsal, tmp_path, capsys):
    """5,000 and 500 images by the config's workers and cache, resized to a tenth of their pixels.

    Kept as torch's loaders send them, they would hold 16,000 open files and 1.4 GB of shared memory.
    """
    out = tmp_path / 'out.json'
    few = ['--candidates', '2', '--train-images', '1000']
    rehearsal.main(['coco', '--scale', '400', '267', *few, '--work-dir', str(tmp_path / 'work'), '--out', str(out)])
    found = json.loads(out.read_text())
    phases = {row['phase']: row for row in found['phases']}
    assert phases.keys() == {'setup', 'generation 1', 'generation 2', 'export'}
    assert all(row['open files'] < 100 and row['shared MB'] < 1 for row in phases.values())
    assert [row['status'] for row in found['candidates']] == ['ok'] * 4
    if os.geteuid() == 0:
        assert found['shm'] in ('64 MB', 'not limited, since this process cannot mount one')
