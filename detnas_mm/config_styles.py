"""Checks which kind of Python config inherits which; parses files without running them.

Configs with ``_base_`` and new-style ones, which import classes and inherit by ``with read_base():``, cannot inherit
each other: mmengine raises for such a chain. Standard library only.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from detnas_mm.errors import DetNASError

_NO_MODULE = re.compile(r'\s*from\s+(\S*-\S*)\s+import\b')


def check_styles(path: Path, heirs: tuple[Path, ...] = ()) -> None:
    """Raises if a Python config inherits one of the other kind, or mixes both kinds.

    Files that cannot be parsed or do not exist are not checked here.

    Args:
        path: The config.
        heirs: Configs that inherit it, the first one first.

    Raises:
        DetNASError: If so, or if a config inherits itself. The message names the files, and how to flatten the
            inherited one.
    """
    refuse_cycle(path, heirs)
    try:
        text = path.read_text(encoding='utf-8')
        tree = ast.parse(text)
    except SyntaxError as error:
        wrong = _NO_MODULE.match(error.text or '')
        if wrong:  # names of this package's configs are like this
            raise DetNASError(
                f'{path} imports {wrong[1]} in line {error.lineno}, which is not a valid name of a Python module. '
                f'{_flatten(wrong[1])}'
            ) from None
        return
    except (OSError, ValueError):
        return
    own = [base for base in bases(tree) if (path.parent / base).suffix == '.py']
    imported = list(_imported(tree))
    what = _makes_new(tree)
    if what is None:
        for base in own:
            file = path.parent / base
            line = _makes_new(_parsed(file))
            if line is not None:
                raise DetNASError(
                    f'{path} inherits {file} by _base_, but that is a new-style config (line {line}). Inherit it by '
                    f'`with read_base(): from .{file.stem} import *`, and write classes and settings as Python code.'
                )
            check_styles(file, (*heirs, path.resolve()))
        return
    if _has_bases(tree):
        raise DetNASError(
            f'{path} has _base_, but line {what} makes it a new-style config, which cannot inherit by _base_. Write '
            f"classes as text, such as type='mmdet.RetinaNet', or inherit a new-style config by `with read_base():`. "
            f'{_flatten("the base")}'
        )
    for module in imported:
        level = len(module) - len(module.lstrip('.'))
        if level == 0:
            if module.startswith('detnas_mm.'):
                raise DetNASError(f'{path} inherits {module}: detnas_mm has no new-style configs. {_flatten(module)}')
            continue
        file = path.parent.joinpath(*['..'] * (level - 1), *module[level:].split('.')).with_suffix('.py')
        if not file.is_file():
            raise DetNASError(f'{path} inherits {module}, but there is no {file}.')
        if _has_bases(_parsed(file)):
            raise DetNASError(
                f'{path} is a new-style config and inherits {file}, which has _base_: mmengine does not support that. '
                f'{_flatten(file)}'
            )
        check_styles(file, (*heirs, path.resolve()))


def refuse_cycle(path: Path, heirs: Sequence[Path]) -> None:
    """Raises if a config inherits itself.

    Args:
        path: The config.
        heirs: Configs that inherit it, the first one first, resolved.

    Raises:
        DetNASError: If it does. The message names all files in between.
    """
    if path.resolve() in heirs:
        raise DetNASError(
            f'{path} inherits itself: {" inherits ".join(map(str, [*heirs, path]))}. Remove one of these.'
        )


def _flatten(what: str | Path) -> str:
    """Returns the advice to flatten a config with ``_base_`` to one file, which new-style configs can inherit."""
    old = str(what) if isinstance(what, Path) else 'OLD.py'
    code = f'from mmengine.config import Config; Config.fromfile({old!r}).dump("flat.py")'
    named = '' if isinstance(what, Path) else f', where OLD.py is the file of {what}'
    return (
        f'Flatten it: {shlex.join(["python", "-c", code])}{named}; then inherit that: '
        f'`with read_base(): from .flat import *`.'
    )


def bases(tree: ast.Module) -> list[str]:
    """Returns the paths that a Python config inherits by ``_base_``; without those of packages, ``mmdet::…``."""
    for node in tree.body:
        if _is_base(node):
            texts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]  # type: ignore
            return local_bases(texts)
    return []


def local_bases(names: Sequence[Any]) -> list[str]:
    """Returns the inherited configs that are paths on this machine."""
    return [name for name in names if isinstance(name, str) and not any(mark in name for mark in ('::', '://', '{{'))]


def _is_base(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == '_base_' for t in node.targets)


def _has_bases(tree: ast.Module) -> bool:
    return any(map(_is_base, tree.body))


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding='utf-8'))
    except (OSError, ValueError, SyntaxError):
        return ast.Module([], [])


def _makes_new(tree: ast.Module) -> int | None:
    """Returns the line that makes a config new-style: an import of another library, or ``with``; else None."""
    for node in tree.body:
        if _is_base(node) and not any(isinstance(other, ast.With) for other in tree.body):
            return None  # imports below are ordinary ones
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not (node.module == 'mmengine' and node.names[0].name == 'Config'):
            modules = ['.' * node.level + (node.module or '')]
        strange = any(module.partition('.')[0] not in sys.stdlib_module_names for module in modules)
        if strange or isinstance(node, ast.With):
            return node.lineno
    return None


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yields the modules that a new-style config inherits, with a dot for each level of a relative import."""
    for block in tree.body:
        for node in block.body if isinstance(block, ast.With) else ():
            if isinstance(node, ast.ImportFrom):
                yield '.' * node.level + (node.module or '')
