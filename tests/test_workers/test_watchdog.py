"""Processes that hang are ended, with a result if it can be written."""

import subprocess
import sys
import time

import pytest

from detnas_mm.workers import Watchdog, watchdog
from tests.test_workers.processes import ROOT

HANGS = """
import time
from detnas_mm.workers import Watchdog, watchdog
watchdog._GRACE = 0.5
with Watchdog(0.3, {write}) as dog:
    time.sleep(0.2)
    dog.step('second')
    time.sleep(0.2)
    dog.step('third')
    {hang}
"""


@pytest.mark.parametrize(
    'write, hang, status, printed',
    [
        ('lambda step: print(step, "took too long", flush=True)', 'time.sleep(60)', 0, 'third took too long'),
        ('lambda step: 1 / 0', 'time.sleep(60)', 1, 'ZeroDivisionError'),
        ('print', '(x := 1 << 3_000_000) ** 5_000', 1, 'Timeout'),  # one operation, in which no thread runs
    ],
    ids=['hangs', 'cannot write', 'hangs outside Python'],
)
def test_a_process_that_hangs_is_ended(write, hang, status, printed):
    code = HANGS.format(write=write, hang=hang)
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, timeout=50)
    assert done.returncode == status and printed in done.stdout + done.stderr


def test_a_task_that_ends_in_time_is_left_alone(monkeypatch):
    ended = []
    monkeypatch.setattr(watchdog.os, '_exit', ended.append)
    with Watchdog(0.05, ended.append):
        pass
    time.sleep(0.15)
    assert ended == []
