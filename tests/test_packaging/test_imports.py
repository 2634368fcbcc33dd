"""Allowed imports, beyond the contracts of import-linter."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'detnas_mm'
#: Parts of a system that are opened where no torch is needed: to draw, to count, to read ledgers.
LIGHT_PARTS = ('space', 'costs', 'strategies')
OF_SYSTEMS = sorted(
    '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    for part in LIGHT_PARTS
    for path in (PACKAGE / 'systems').glob(f'*/{part}.py')
)
LIGHT = [
    'detnas_mm',
    *(f'detnas_mm.{name}' for name in ('registry', 'spaces', 'search', 'workers', 'zoo', 'cli', 'systems')),
]
HEAVY = {'torch', 'torchvision', 'mmcv', 'mmdet', 'mmpretrain'}


def test_the_systems_are_found():
    """A glob that finds nothing would test nothing."""
    assert {'detnas_mm.systems.detnas.space', 'detnas_mm.systems.mae_det.strategies'} <= set(OF_SYSTEMS)
    systems = {path.name for path in (PACKAGE / 'systems').iterdir() if (path / '__init__.py').is_file()}
    assert {name.split('.')[2] for name in OF_SYSTEMS} == systems >= {'detnas', 'mae_det'}


@pytest.mark.smoke
@pytest.mark.parametrize('module', [*LIGHT, *OF_SYSTEMS])
def test_loads_no_torch(module):
    """Each in a process of its own: importing a module runs the packages above it, which import-linter does not see."""
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
    files = sorted((PACKAGE / package).rglob('*.py'))
    assert files
    for path in files:
        names = {name for name in imported_names(path) if name.split('.')[0] == 'mmengine'}
        assert names <= {'mmengine.registry'}, f'{path} imports {names}'
