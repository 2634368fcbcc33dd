"""Words of a private dialect stay away from where they are gone: see the checklist in CONTRIBUTING.md.

Places that are clean are listed below. Whoever cleans another one adds it there.
"""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Files and folders without such words.
CLEAN = (
    'README.md', 'CHANGELOG.md', 'SECURITY.md', 'setup.cfg', 'pyproject.toml', '.ci', '.github', 'benchmarks',
    'configs', 'docs', 'examples', 'tools', 'detnas_mm', 'tests',
)  # fmt: skip
#: Folders in which no docstring begins as a question.
STATEMENTS = ('benchmarks', 'configs', 'examples', 'detnas_mm', 'tools', 'tests')
#: A word, and what to say in its place; better another sentence.
WORDS = {
    'told': 'given, logged',
    'foretold': 'predicted',
    'wants': 'needs',
    'tells': 'states, shows',
    'anew': 'again, recomputed',
    'mend': 'fix',
    'mends': 'fixes',
    'mended': 'fixed',
}
PATTERN = re.compile(rf'\b({"|".join(WORDS)})\b', re.IGNORECASE)
QUESTION = re.compile(r'(What|Which|Whether|How|Where)\b')


def dialect(text):
    """Lines of a text with a word of the list, as ``(line, word)``."""
    return [(number, found[1]) for number, line in enumerate(text.splitlines(), 1) for found in PATTERN.finditer(line)]


def questions(source):
    """Lines of a Python source whose docstring begins as a question."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds) and ast.get_docstring(node)]
    return [(getattr(node, 'lineno', 1), ast.get_docstring(node)[:40]) for node in documented if asks(node)]


def asks(node):
    return QUESTION.match(ast.get_docstring(node))


def tracked(place):
    """Files of a place that git knows, or would add; nothing where there is no git."""
    listed = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', '--', place],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip(f'no list of files: {listed.stderr.strip()}')
    return [ROOT / name for name in listed.stdout.split('\0') if name and (ROOT / name).is_file()]


@pytest.mark.parametrize('place', CLEAN)
def test_clean_places_stay_clean(place):
    found, files = [], 0
    for path in tracked(place):
        if path != Path(__file__) and path.suffix in ('.md', '.py', '.sh', '.yml', '.cfg', '.toml', ''):
            files += 1
            found += [f'{path.relative_to(ROOT)}:{line}: {word}' for line, word in dialect(path.read_text())]
    assert files and not found, 'rewrite these sentences (CONTRIBUTING.md):\n' + '\n'.join(found)


@pytest.mark.parametrize('place', STATEMENTS)
def test_docstrings_state(place):
    sources = [path for path in tracked(place) if path.suffix == '.py']
    found = [
        f'{path.relative_to(ROOT)}:{line}: {text}' for path in sources for line, text in questions(path.read_text())
    ]
    assert sources and not found, 'begin with a verb or a noun (CONTRIBUTING.md):\n' + '\n'.join(found)


@pytest.mark.parametrize('text', ['It wants a GPU.', 'what is Told', 'made anew', 'mended', '"foretold" and measured'])
def test_it_finds_the_words(text):
    assert len(dialect(text)) == 1


@pytest.mark.parametrize('text', ['a stole', 'recommended', 'wanted', 'is not amended', 'a new one'])
def test_it_finds_nothing_else(text):
    assert not dialect(text)


def test_it_finds_questions():
    source = '"""What it is."""\n\n\ndef f():\n    """Where it is."""\n\n\ndef g():\n    """Returns what it is."""\n'
    assert [line for line, _ in questions(source)] == [1, 4]
