"""The example of docs/extending.md, typed as it stands there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path):
    """The folder of a user who has typed the page."""
    text = (ROOT / 'docs' / 'extending.md').read_text()
    for name, code in re.findall(r'^```python\n# (\w+\.py)\n(.*?)^```$', text, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(code)
    return tmp_path


def run(project, *arguments):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(project), str(ROOT)]))
    return subprocess.run([sys.executable, *arguments], cwd=project, env=env, capture_output=True, text=True)


def test_its_parts_keep_their_contracts(project):
    done = run(project, 'test_mine.py')
    assert done.returncode == 0, done.stderr


def test_it_searches_to_the_end(project):
    done = run(project, str(ROOT / 'tools' / 'search.py'), 'my_search.py')
    assert done.returncode == 0, done.stderr
    (best,) = json.loads((project / 'work_dirs/my_search/best.json').read_text())
    assert best['arch'] == '128x4' and best['costs'] == {'macs': 589824}  # the best of those within the limit
    assert 'config' not in best and 'No config is written: HeadTraining holds no weights' in done.stdout
    assert (project / 'work_dirs/my_search/progress.png').exists()
