"""Results of tasks, and locks of task folders."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detnas_mm.workers import FolderInUse, hold, read_result, write_result

ROOT = Path(__file__).resolve().parents[2]


def test_a_result_is_read_back_to_the_last_bit(tmp_path):
    assert read_result(tmp_path, 'a') is None
    write_result(tmp_path, 'a', dict(mAP=1 / 3, status='ok', metrics=dict(x=[5e-324])))
    assert read_result(tmp_path, 'a') == dict(key='a', mAP=1 / 3, status='ok', metrics=dict(x=[5e-324]))
    assert [path.name for path in tmp_path.iterdir()] == ['result.json']


def test_a_result_of_another_key_is_none(tmp_path):
    write_result(tmp_path, 'a', dict(mAP=0.5))
    assert read_result(tmp_path, 'b') is None
    write_result(tmp_path, 'b', dict(mAP=0.25, key='a'))
    assert read_result(tmp_path, 'b')['mAP'] == 0.25 and read_result(tmp_path, 'a') is None


@pytest.mark.parametrize('text', ['', '{"key": "a", "mAP"', '["a"]', '"a"', '{}'])
def test_what_is_no_result_of_ours_is_none(tmp_path, text):
    (tmp_path / 'result.json').write_text(text)
    assert read_result(tmp_path, 'a') is None


@pytest.mark.parametrize('value', [float('nan'), float('inf'), np.float32(0.5)])
def test_a_result_that_json_cannot_hold_is_refused_and_the_old_one_stays(tmp_path, value):
    write_result(tmp_path, 'a', dict(mAP=0.5))
    with pytest.raises((ValueError, TypeError)):
        write_result(tmp_path, 'a', dict(mAP=value))
    assert json.loads((tmp_path / 'result.json').read_text()) == dict(mAP=0.5, key='a')


def test_a_folder_in_use_names_who_uses_it(tmp_path):
    with hold(tmp_path):
        said = (
            rf'{re.escape(str(tmp_path))} is in use by process {os.getpid()} on .+; wait until it has ended, or end it'
        )
        with pytest.raises(FolderInUse, match=said), hold(tmp_path, wait=False):
            pass
    with hold(tmp_path, wait=False):
        pass


def test_who_is_to_wait_says_so_and_waits(tmp_path):
    code = f'from detnas_mm.workers import hold\nwith hold({str(tmp_path)!r}): print("in")'
    with hold(tmp_path):
        second = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert second.stdout.readline().startswith(f'waiting for process {os.getpid()} on ')
        assert second.poll() is None
    assert second.communicate()[0] == 'in\n' and second.returncode == 0
