"""The core knows no paper: in its code, comments and docstrings aside, stands no name and no text of a system."""

import ast
import re
from pathlib import Path

import pytest

from detnas_mm import zoo

PACKAGE = Path(__file__).resolve().parents[2] / 'detnas_mm'
SYSTEMS = PACKAGE / 'systems'

#: What is no system's: the package's name and error, its environment variables, and the files and the field that the
#: splits have on users' disks.
OWN = re.compile(r'detnas_mm|DetNASError|DETNAS_[A-Z]+|\bdetnas_(train|search_val|split)\b')
#: Words of papers, whatever else they stand in.
PAPERS = re.compile(
    r'detnas|mae.?det|\bnats\b|sm.?nas|clsnas|entropy|deepmad|shuffle.?(net|unit|\d)|(?<!e)xception|super.?block'
    r'|megvii|tinynas',
    re.IGNORECASE,
)


def files(of_systems):
    for path in sorted(PACKAGE.rglob('*.py')):
        if '.mim' not in path.parts and (SYSTEMS in path.parents and path.parent != SYSTEMS) == of_systems:
            yield path


def classes():
    """Names of all classes that systems define, with those of their registries."""
    for path in files(of_systems=True):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield node.name


def words(tree):
    """(line, text, whether it is a name) of every name and of every text that is no docstring."""
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        for field in ('id', 'attr', 'name', 'arg', 'module', 'asname'):
            text = getattr(node, field, None)
            if isinstance(text, str):
                yield getattr(node, 'lineno', 0), text, True
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value, False


def violations(source, names):
    """Lines of a source in which a system is named.

    Args:
        source: Of a module.
        names: Of systems' folders, classes and published nets.
    """
    found = []
    compound = {name for name in names if not re.fullmatch('[A-Z][a-z]+', name)}  # in texts a word may be just a word
    for line, text, is_name in words(ast.parse(source)):
        rest = OWN.sub('', text)
        if PAPERS.search(rest) or (names if is_name else compound) & set(re.findall(r'[\w-]+', rest)):
            found.append(f'{line}: {text.strip()[:100]!r}')
    return found


@pytest.fixture(scope='module')
def names():
    folders = {path.parent.name for path in SYSTEMS.glob('*/__init__.py')}
    found = {*folders, *classes(), *zoo.nets()}
    assert {'mae_det', 'DetNASNet', 'ExactStrategy', 'coco-fpn-300m'} <= found
    return found


def test_core_code_names_no_system(names):
    found = {path: violations(path.read_text(), names) for path in files(of_systems=False)}
    assert PACKAGE / 'search' / 'job.py' in found and len(found) > 50
    lines = [f'{path.relative_to(PACKAGE.parent)}, line {line}' for path, own in found.items() for line in own]
    assert not lines, 'the core names systems:\n' + '\n'.join(lines)


@pytest.mark.parametrize(
    'source',
    [
        'from detnas_mm.systems.detnas import space',
        'import detnas_mm.systems.mae_det.space',
        'isinstance(space, DetNASSpace)',
        'class MAEDet(Base): pass',
        "kind = 'detnas_mm.DetNASNet'",
        "kind = f'{scope}.EntropyScore'",
        'entropy = 1',
        'score.entropy()',
        'f(entropy=1)',
        'def f(weights, deepmad): pass',
        "raise ValueError(f'take {x} of MAE-DET')",
        "hasattr(space, 'super_blocks')",
        "example = ['maedet-init']",
        "name = 'coco-fpn-300m'",
        'from x import ExactStrategy as E',
        "__all__ = ['PeakMemoryTable']",
        "def f():\n    return 'a DetNAS search'",
        "x = {'detnas': 1}",
        'from x import Grid',
    ],
)
def test_it_finds_what_it_looks_for(source, names):
    assert len(violations(source, names)) >= 1


@pytest.mark.parametrize(
    'source',
    [
        'import detnas_mm.spaces',
        'raise DetNASError()',
        "scope = 'detnas_mm'",
        "'''As in DetNAS: the best of all generations.'''",
        "def f():\n    '''Of MAE-DET.'''\n    # entropy\n    return 1",
        'class A:\n    """See EntropyScore."""\n    x: int\n    """Of DetNAS."""',
        'except_ = Exception',
        "os.environ['DETNAS_DIGITS']",
        "f'detnas_mm.systems.{system}.{file}'",
        "structures = 'the structure of a net'",
        "raise ValueError('Block 3 does not fit')",
    ],
)
def test_it_finds_nothing_else(source, names):
    assert violations(source, names) == []
