"""The scripts of examples/, one a system: short, and each searches, exports and detects."""

import json
import os
import re
import subprocess
import sys

import pytest

from .commands import FENCE, ROOT

SCRIPTS = sorted((ROOT / 'examples').glob('*.py'))


def run(*arguments, cwd):
    env = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_there_is_one_for_each_system():
    systems = {path.parent.name for path in (ROOT / 'detnas_mm/systems').glob('*/__init__.py')}
    assert {path.stem for path in SCRIPTS} == systems
    assert all(len(path.read_text().splitlines()) <= 40 for path in SCRIPTS)


@pytest.mark.slow
@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_it_searches_exports_and_detects(script, tmp_path):
    printed = run(script, tmp_path, cwd=tmp_path)
    assert re.search(r'\d boxes', printed.splitlines()[-1]), printed[-500:]
    best = json.loads((tmp_path / 'search/best.json').read_text())
    assert best and all((tmp_path / 'search' / net['config']).is_file() for net in best)
    if script.stem == 'detnas':
        use_as_in_the_readme(tmp_path)


def use_as_in_the_readme(folder):
    """The README's lines on the best net of the quickstart, with this search in its place."""
    (code,) = (text for kind, text in FENCE.findall((ROOT / 'README.md').read_text()) if 'DetInferencer' in text)
    made = folder / 'work_dirs/quickstart/retinanet_seed0'
    made.mkdir(parents=True)
    (made / 'search_retinanet').symlink_to(folder / 'search')
    (made / 'digits').symlink_to(folder / 'digits')
    run('-c', code, cwd=folder)
    assert (folder / 'seen/vis/000000.png').stat().st_size > 0
