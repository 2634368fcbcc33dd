import subprocess
import sys

import pytest


@pytest.fixture(scope='module')
def ranks(load):
    return load('ranks')


def job(code):
    return subprocess.Popen([sys.executable, '-c', code])


def test_it_waits_for_rows_and_not_for_jobs_that_have_ended(ranks, tmp_path):
    path = tmp_path / 'ledger.jsonl'
    write = f"from pathlib import Path; Path({str(path)!r}).write_text('header\\n' + 3 * 'row\\n')"
    with job(write) as ended:
        assert ranks.wait_for(ended, path, 4) is None
    with job('import time; time.sleep(60)') as waiting:  # its rows are there already
        assert ranks.wait_for(waiting, path, 3) > 0
        waiting.kill()


def test_a_search_that_fails_says_why(ranks, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['ranks.py', 'no_such_config.py', 'none.pth', '--out', str(tmp_path / 'out.json')])
    with pytest.raises(SystemExit, match='(?s)search by 1 processes failed.*no config .?no_such_config.py'):
        ranks.main()
