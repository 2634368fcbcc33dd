"""Runs the example of docs/extending.md literally."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from detnas_mm.search import read_ledger
from detnas_mm.search.record import VOLATILE

ROOT = Path(__file__).resolve().parents[2]


#: Ends the process, as a crash does, when six candidates have been evaluated.
KILLER = """
import os
import tiny_model

evaluate, left = tiny_model.TinyTraining.evaluate, [6]


def killed(self, archs):
    for evaluation in evaluate(self, archs):
        if not left[0]:
            os._exit(9)
        left[0] -= 1
        yield evaluation


tiny_model.TinyTraining.evaluate = killed
"""


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
    done = run(project, '-m', 'pytest', '-q', 'test_tiny.py')
    assert done.returncode == 0 and '1 passed' in done.stdout, done.stdout


def search(project, folder, *options):
    return run(project, str(ROOT / 'tools' / 'search.py'), 'tiny_search.py', '--work-dir', folder, *options)


def rows(project, folder):
    _, records = read_ledger(project / folder / 'ledger.jsonl')
    return [{k: v for k, v in record.to_json().items() if k not in VOLATILE} for record in records]


def test_it_searches_exports_and_resumes(project):
    done = search(project, 'whole')
    assert done.returncode == 0, done.stderr
    (best,) = json.loads((project / 'whole/best.json').read_text())
    assert best['arch'] == '32-16' and best['costs'] == {'width': 48}  # the best of those within the limit
    assert (project / 'whole/progress.png').exists() and 'checkpoint' not in best
    assert f'Train it: python {ROOT / "tools" / "train.py"} {project / "whole" / best["config"]}' in done.stdout

    # Killed in the second generation, and started again.
    (project / 'killer.py').write_text(KILLER)
    options = ('--cfg-options', "custom_imports.imports=['tiny_space','tiny_model','killer']")
    assert search(project, 'killed', *options).returncode == 9
    assert 0 < len(rows(project, 'killed')) < len(rows(project, 'whole'))
    assert search(project, 'killed').returncode == 0
    assert rows(project, 'killed') == rows(project, 'whole')


def test_its_exported_nets_are_measured(project):
    """With no table of its own, from its exported config alone."""
    done = search(project, 'timed', '--measure', '--rounds', '2', '--input-size', '96', '96', '--device', 'cpu')
    assert done.returncode == 0, done.stderr
    (best,) = json.loads((project / 'timed/best.json').read_text())
    found = json.loads((project / 'timed/measured.json').read_text())
    (net,) = found['nets']
    assert net['id'] == best['id'] and net['measured_ms'] > 0 and 'tested' not in net and found['table'] is None
    assert 'on search-val' not in done.stdout  # its evaluator holds no weights to be tested


def test_what_it_exports_is_an_ordinary_detector(project):
    """The exported config builds, in the mmdet detector, with the channels of its own backbone."""
    assert search(project, 'built').returncode == 0
    (best,) = json.loads((project / 'built/best.json').read_text())
    code = f"""
from mmengine.config import Config
from detnas_mm.models import build_model
model = build_model(Config.fromfile('built/{best['config']}'))
print(type(model).__name__, type(model.backbone).__name__, [conv.out_channels for conv in model.backbone.convs])
print([conv.conv.in_channels for conv in model.neck.convs])
"""
    done = run(project, '-c', code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ['RetinaNet TinyNet [32, 16]', '[32, 16]']
