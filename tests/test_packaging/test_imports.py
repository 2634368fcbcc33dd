"""What may be imported by what, beyond the contracts that import-linter holds."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIGHT = ['detnas_mm', 'detnas_mm.registry', 'detnas_mm.spaces', 'detnas_mm.search', 'detnas_mm.zoo']
HEAVY = {'torch', 'torchvision', 'mmcv', 'mmdet', 'mmpretrain'}


@pytest.mark.smoke
@pytest.mark.parametrize('module', LIGHT)
def test_loads_no_torch(module):
    code = f'import sys, {module}; print(*(name for name in sys.modules if "." not in name))'
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not HEAVY & set(run.stdout.split())


def imported_names(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield '.' * node.level + (node.module or '')


@pytest.mark.parametrize('package', ['search', 'spaces'])
def test_of_mmengine_the_registry_alone(package):
    """import-linter sees other distributions as a whole, so this is looked up in the source."""
    files = sorted((ROOT / 'detnas_mm' / package).rglob('*.py'))
    assert files
    for path in files:
        names = {name for name in imported_names(path) if name.split('.')[0] == 'mmengine'}
        assert names <= {'mmengine.registry'}, f'{path} imports {names}'
