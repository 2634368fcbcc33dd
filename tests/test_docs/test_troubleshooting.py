"""Each message of docs/troubleshooting.md is one of the code's."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs/troubleshooting.md').read_text()
ROW = re.compile(r'^\| `((?:[^`]|\\`)+?)(?<!\\)` \|', re.MULTILINE)
MESSAGES = [found.replace('\\`', '`') for found in ROW.findall(PAGE)]


def texts(path):
    """All texts of a source; in f-strings ``…`` stands for what is filled in."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield ''.join(part.value if isinstance(part, ast.Constant) else '…' for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.fixture(scope='module')
def corpus():
    found = [text for path in sorted((ROOT / 'detnas_mm').rglob('*.py')) for text in texts(path)]
    return [*found, *(path.read_text() for path in (ROOT / 'tools').glob('*.sh'))]


def is_in(message, text):
    """Returns whether a text has all constant parts of a message, in order."""
    start = 0
    for part in filter(None, (part.strip() for part in message.split('…'))):
        start = text.find(part, start)
        if start < 0:
            return False
        start += len(part)
    return True


def test_the_page_has_messages():
    assert len(MESSAGES) > 35 and all(len(message.replace('…', '')) > 8 for message in MESSAGES)


@pytest.mark.parametrize('message', MESSAGES)
def test_the_code_has_the_message(message, corpus):
    assert any(is_in(message, text) for text in corpus), f'nothing in detnas_mm or tools says {message!r}'


def test_a_message_that_is_not_there_is_noticed(corpus):
    assert not any(is_in('there is no folder …, for which … looks in vain', text) for text in corpus)
