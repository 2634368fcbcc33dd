"""The two kinds of Python configs, and which may inherit which; files are parsed, never run.

Configs with ``_base_`` and new-style ones, which import classes and inherit by ``with read_base():``, cannot inherit
one another: mmengine refuses such a chain. Standard library only.
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
    """Refuses a Python config that inherits one of the other kind, or that is of both kinds.

    What cannot be parsed, or is not there, is left to others.

    Args:
        path: The config.
        heirs: Those that inherit it, the first one first.

    Raises:
        DetNASError: Names both files, and how to flatten the one that is inherited; or a config that inherits itself.
    """
    refuse_cycle(path, heirs)
    try:
        text = path.read_text(encoding='utf-8')
        tree = ast.parse(text)
    except SyntaxError as error:
        wrong = _NO_MODULE.match(error.text or '')
        if wrong:  # configs of this package have such names
            raise DetNASError(
                f'{path} imports {wrong[1]} in line {error.lineno}, which is no name of a Python module. '
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
                    f'`with read_base(): from .{file.stem} import *`, and give classes and settings as Python has them.'
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
                f'{path} is a new-style config and inherits {file}, which has _base_: mmengine refuses that. '
                f'{_flatten(file)}'
            )
        check_styles(file, (*heirs, path.resolve()))


def refuse_cycle(path: Path, heirs: Sequence[Path]) -> None:
    """Refuses a config that inherits itself.

    Args:
        path: The config.
        heirs: Those that inherit it, the first one first, resolved.

    Raises:
        DetNASError: Names all files in between.
    """
    if path.resolve() in heirs:
        raise DetNASError(
            f'{path} inherits itself: {" inherits ".join(map(str, [*heirs, path]))}. Take one of them out.'
        )


def _flatten(what: str | Path) -> str:
    """How to make one file, which new-style configs can inherit, of a config that inherits by ``_base_``."""
    old = str(what) if isinstance(what, Path) else 'OLD.py'
    code = f'from mmengine.config import Config; Config.fromfile({old!r}).dump("flat.py")'
    named = '' if isinstance(what, Path) else f', where OLD.py is the file of {what}'
    return (
        f'Flatten it: {shlex.join(["python", "-c", code])}{named}; then inherit that: '
        f'`with read_base(): from .flat import *`.'
    )


def bases(tree: ast.Module) -> list[str]:
    """The paths that a Python config inherits by ``_base_``; not those from packages, ``mmdet::…``."""
    for node in tree.body:
        if _is_base(node):
            texts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]  # type: ignore
            return local_bases(texts)
    return []


def local_bases(names: Sequence[Any]) -> list[str]:
    """Those of inherited configs that are named by a path on this machine."""
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
    """The line that makes a config new-style: an import from outside the standard library, or ``with``."""
    for node in tree.body:
        if _is_base(node) and not any(isinstance(other, ast.With) for other in tree.body):
            return None  # imports below are Python's
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not (node.module == 'mmengine' and node.names[0].name == 'Config'):
            modules = ['.' * node.level + (node.module or '')]
        strange = any(module.partition('.')[0] not in sys.stdlib_module_names for module in modules)
        if strange or isinstance(node, ast.With):
            return node.lineno
    return None


def _imported(tree: ast.Module) -> Iterator[str]:
    """Modules that a new-style config inherits, with a dot for each level of a relative import."""
    for block in tree.body:
        for node in block.body if isinstance(block, ast.With) else ():
            if isinstance(node, ast.ImportFrom):
                yield '.' * node.level + (node.module or '')
