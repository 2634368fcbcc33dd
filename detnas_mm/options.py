"""Reads and writes overrides of a config on the command line, ``--cfg-options KEY=VALUE``."""

from __future__ import annotations

import argparse
import ast
import re
from typing import Any

from detnas_mm.errors import DetNASError

_CLOSERS = {'(': ')', '[': ']', '{': '}'}
#: Text in quotes, single or triple; backslashes are literal, as in paths of Windows.
_QUOTED = re.compile(r"""'''((?:(?!''').)*)'''|'([^']*)'|"([^"]*)\"""", re.DOTALL)
_UNESCAPED = re.compile(rf'(?<![rR])(?:{_QUOTED.pattern})', re.DOTALL)
_CONSTANTS = {'true': True, 'false': False}


class Options(argparse.Action):
    """Collects the KEY=VALUE words of ``--cfg-options`` in a dict, see :func:`read_value`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Adds options to those given before.

        Raises:
            SystemExit: With one sentence, if an option cannot be read.
        """
        options = dict(getattr(namespace, self.dest, None) or {})
        for word in values:
            key, equals, value = word.partition('=')
            if not key or not equals:
                raise SystemExit(
                    f'error: --cfg-options needs KEY=VALUE, such as train_dataloader.batch_size=8; got {word!r}.'
                )
            try:
                options[key] = read_value(value)
            except ValueError as error:
                raise SystemExit(f'error: --cfg-options: {error}') from error
        setattr(namespace, self.dest, options)


def option_word(key: str, value: str) -> str:
    """Returns the word KEY=VALUE for a text, with quotes where needed to read it as text. A shell may need its own.

    Raises:
        DetNASError: If the text has both kinds of quotes.
    """
    for quotes in ('', "'", '"', "'''"):
        word = f'{quotes}{value}{quotes}'
        try:
            if read_value(word) == value:
                return f'{key}={word}'
        except ValueError:
            pass
    raise DetNASError(f'{key}: {value!r} has both kinds of quotes, so it cannot be given by --cfg-options: rename it.')


#: Text that Python would read as a number, but is more likely a name: ``2024_01``, ``007``.
_NO_NUMBER = re.compile(r'.*_|[-+ ]*0\d')


def read_value(text: str) -> Any:
    """Reads a value like mmengine, except that blanks are kept and quoted values stay text.

    ``(1,a)`` is a tuple, ``[1,a]`` and ``1,a`` are lists; their items are read in the same way, without surrounding
    blanks. ``dict(a=1)`` and ``{'a': 1}`` are read as in a config, except that backslashes are literal. Everything else
    is a number, true or false, None or text.

    Raises:
        ValueError: With one sentence, if brackets do not match, or a dict cannot be read.
    """
    bare = text.strip()
    if not bare:
        return text
    quoted = _QUOTED.fullmatch(bare)
    if quoted:
        return next(inside for inside in quoted.groups() if inside is not None)
    if bare.startswith(('dict(', '{')):
        return _literal(bare)
    inside = _items(bare[1:-1]) if bare[0] in '([' and bare[1:].endswith(_CLOSERS[bare[0]]) else None
    items = _items(bare) if inside is None else inside
    if items is None and ',' in bare:
        raise ValueError(f'brackets of {text} do not match. If it is text, put it in quotes: KEY="\'…\'".')
    if inside is None and (items is None or items == [bare]):
        return _scalar(text)
    values = [read_value(item) for item in items or ()]
    return tuple(values) if inside is not None and bare[0] == '(' else values


def _items(text: str) -> list[str] | None:
    """Splits text at commas outside of brackets and quotes; None if brackets do not match."""
    items, closers, begin, position = [], [], 0, 0
    before = ','  # the last character that is not blank: quotes open where an item may start
    while position < len(text):
        char = text[position]
        quoted = _QUOTED.match(text, position) if before in '([{,=:' else None
        if quoted:
            position = quoted.end() - 1
        elif char in _CLOSERS:
            closers.append(_CLOSERS[char])
        elif char in _CLOSERS.values():
            if not closers or closers.pop() != char:
                return None
        elif char == ',' and not closers:
            items.append(text[begin:position].strip())
            begin = position + 1
        before = before if char.isspace() else char
        position += 1
    last = text[begin:].strip()
    return None if closers else items + [last] * bool(last)


def _scalar(text: str) -> Any:
    for kind in () if _NO_NUMBER.match(text) else (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None if text == 'None' else _CONSTANTS.get(text.lower(), text)


def _literal(text: str) -> Any:
    """Reads a value written as in a config, with ``dict(key=value)`` or ``{'key': value}``.

    Raises:
        ValueError: If it cannot be read.
    """

    def plain(node: ast.AST | None) -> Any:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict' and not node.args:
            words = {word.arg: plain(word.value) for word in node.keywords}
            if None not in words:  # dict(**{…})
                return words
        if isinstance(node, ast.Dict):
            return {plain(key): plain(value) for key, value in zip(node.keys, node.values, strict=True)}
        if isinstance(node, (ast.List, ast.Tuple)):
            return [plain(one) for one in node.elts] if isinstance(node, ast.List) else tuple(map(plain, node.elts))
        return ast.literal_eval(node)  # type: ignore[arg-type]

    try:
        return plain(ast.parse(_UNESCAPED.sub(lambda quoted: quoted[0].replace('\\', r'\\'), text), mode='eval').body)
    except (SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{text} cannot be read as a value. Write, for example, dict(type='A', number=1) or, for text, 'a text'."
        ) from error
