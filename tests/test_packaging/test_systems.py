"""Packages of systems import nothing, and load public names on first use."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from detnas_mm import registry

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / 'detnas_mm' / 'systems').glob('*/__init__.py'))
pytestmark = pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)

#: Which registries look into which file of a system.
FILES = dict(
    space=['SPACES'], costs=['COSTS'], strategies=['STRATEGIES'], evaluators=['EVALUATORS', 'RANKERS'],
    model=['MODELS'], samplers=['PATH_SAMPLERS'], hooks=['HOOKS', 'LOOPS', 'OPTIM_WRAPPER_CONSTRUCTORS'],
    latency=['LATENCY_SUBJECTS'],
)  # fmt: skip
#: What files of systems may import at their top: mmengine imports all of them at the first look-up, and no system may
#: need more than the package does.
THERE = {'torch', 'mmengine', 'mmcv', 'numpy', 'scipy', 'matplotlib', 'tqdm', 'sklearn', 'PIL', 'pycocotools'}


def package_of(folder):
    return importlib.import_module(f'detnas_mm.systems.{folder.name}')


def imports(tree):
    return [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]


def test_its_package_imports_nothing(folder):
    """Importing its space runs this file first: one line here could load torch, and import-linter would stay green."""
    tree = ast.parse((folder / '__init__.py').read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            assert node.name == '__getattr__'
            names = [(one.module, [alias.name for alias in one.names]) for one in imports(node)]
            assert names == [('importlib', ['import_module'])], f'{folder}: __getattr__ imports {names}'
        else:
            assert not imports(node), f'{folder}/__init__.py imports at its top, line {node.lineno}'
            assert isinstance(node, (ast.Expr, ast.Assign)), f'{folder}/__init__.py does more, line {node.lineno}'


def test_public_names_are_there_on_first_use(folder):
    package = package_of(folder)
    assert package._PUBLIC and package.__all__ == list(package._PUBLIC) == sorted(package._PUBLIC)
    for name, file in package._PUBLIC.items():
        module = importlib.import_module(f'{package.__name__}.{file}')
        assert getattr(package, name) is getattr(module, name)
        namespace = {}
        exec(f'from {package.__name__} import {name}', namespace)
        assert namespace[name] is getattr(module, name)


@pytest.mark.parametrize('name', ['NoSuchName', '_private', '__path_of__', 'import_module'])
def test_other_names_are_attribute_errors(folder, name):
    """As of any module, so that hasattr, copy and pickle work."""
    package = package_of(folder)
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute '{name}'"):
        getattr(package, name)
    assert not hasattr(package, name)
    with pytest.raises(ImportError, match=f"cannot import name '{name}'"):
        exec(f'from {package.__name__} import {name}')


def test_one_name_loads_one_module(folder):
    """In a fresh process: the package alone loads none of its modules, a name of its space no model."""
    package = f'detnas_mm.systems.{folder.name}'
    light = next(name for name, file in package_of(folder)._PUBLIC.items() if file == 'space')
    code = (
        f'import sys, {package}\n'
        f'own = [m for m in sys.modules if m.startswith("{package}.")]\n'
        f'assert not own, own\n'
        f'from {package} import {light}\n'
        f'assert "{package}.space" in sys.modules and "{package}.model" not in sys.modules\n'
        f'assert "torch" not in sys.modules'
    )
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_what_it_registers_is_public_and_found_by_its_name(folder):
    package = package_of(folder)
    found = set()
    for file, names in FILES.items():
        if not (folder / f'{file}.py').is_file():
            continue
        module = f'{package.__name__}.{file}'
        for name in names:
            own = getattr(registry, name)
            assert module in own._locations, f'{name} does not look into {module}'
            own.import_from_location()
            for key, kind in own.module_dict.items():
                if kind.__module__.startswith(f'{package.__name__}.'):
                    found.add(kind.__name__)  # of a function that builds, which configs call by another name, its own
                    assert own.get(key) is own.get(f'detnas_mm.{key}') is kind
    for key in registry.LATENCY_SUBJECTS.module_dict:  # named by spaces, never by users
        found.discard(key)
    assert found and found <= set(package._PUBLIC), f'registered, but not public: {found - set(package._PUBLIC)}'


def test_its_files_import_at_their_top_what_the_package_has(folder):
    for path in sorted(folder.rglob('*.py')):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            roots = {name.split('.')[0] for name in names} - set(sys.stdlib_module_names)
            assert roots <= {'detnas_mm', *THERE}, f'{path}, line {node.lineno}: {roots}'
