"""What the command-line tools share before the heavy stack is loaded: arguments, and errors of one line.

Imports no torch, so that ``--help`` and mistyped arguments answer at once.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detnas_mm.compat import require
from detnas_mm.errors import DetNASError
from detnas_mm.options import Options

PACKAGE = Path(__file__).resolve().parent


TRUST = 'load checkpoints that hold more than tensors; such files can run code'


def at_least_1(text: str) -> int:
    """Reads an integer of at least 1, for argparse."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'must be an integer of at least 1; got {text!r}')
    return int(text)


def parser(description: str, epilog: str = '', launched: bool = True) -> argparse.ArgumentParser:
    """An argument parser with what all tools take.

    Args:
        description: What the tool does.
        epilog: Examples, and what it leaves behind.
        launched: Whether several processes may be started of it.
    """
    require('mmengine')
    out = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out.add_argument('config', type=_config_file, help='a config file; those in configs/ are listed in its READMEs')
    out.add_argument('--work-dir', help='where results go; default: work_dirs/<name of the config>')
    out.add_argument(
        '--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE',
        help='overrides of the config, such as train_dataloader.batch_size=8 search.budget.generations=5; what is in '
        'quotes is text, as in "classes=(\'traffic light\', \'0\')"',
    )  # fmt: skip
    out.set_defaults(launcher='none', local_rank=0)
    if launched:
        out.add_argument(
            '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
            help='how processes were started; tools/dist_*.sh sets it',
        )  # fmt: skip
        out.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
    out.add_argument('--trust-checkpoint', action='store_true', help=TRUST)
    return out


def typed(tool: str, *words: Any) -> str:
    """A command that can be typed in the folder at hand.

    Args:
        tool: Its file, such as ``'search.py'``. Where ``tools/`` is not that of this package, its whole path is given.
        *words: What follows, not quoted yet.
    """
    file, here = (PACKAGE / '.mim' / 'tools' / tool).resolve(), Path('tools', tool)
    return shlex.join(['python', str(here if here.resolve() == file else file), *map(str, words)])


def override(cfg: Any, options: dict[str, Any] | None) -> None:
    """Merges what ``--cfg-options`` gave into a config.

    Raises:
        SystemExit: Names the option that goes into something that holds nothing by such a name.
    """
    try:
        cfg.merge_from_dict(options or {})
        return
    except (TypeError, KeyError, AttributeError):  # what mmengine raises there
        for option in options or {}:
            node, path = cfg._cfg_dict, ''
            for key in option.split('.'):
                fits = isinstance(node, dict) or (isinstance(node, list) and key.isdigit() and int(key) < len(node))
                if not fits:
                    advice = (
                        f'It has {len(node)} entries, counted from 0.' if isinstance(node, list) else
                        f'Give another value for it, or add {path}._delete_=True to begin it anew.'
                    )  # fmt: skip
                    raise SystemExit(
                        f'error: --cfg-options {option}: {path} is {node!r:.200}, where there is no {key!r}. {advice}'
                    ) from None
                node = node[int(key)] if isinstance(node, list) else node.get(key, {})
                path = f'{path}.{key}' if path else key
        raise


def _config_file(path: str) -> str:
    if not Path(path).is_file():
        raise SystemExit(f'error: there is no config {path!r}. Configs are in configs/, listed in its READMEs.')
    _check_syntax(Path(path))
    return path


def _check_syntax(path: Path) -> None:
    """Refuses a config that mmengine could not read, or that inherits such a file by a path of its own.

    Raises:
        SystemExit: Names the file.
    """
    if path.suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise SystemExit(f'error: {path} is no config: its name must end in .py, .json, .yaml or .yml.')
    import yaml  # mmengine's; not all tools need it

    bases: list[str] = []
    try:
        text = path.read_text(encoding='utf-8')
        if path.suffix == '.py':
            bases = _bases(ast.parse(text))
            mapping = True
        elif path.suffix == '.json':
            mapping = isinstance(json.loads(re.sub(r'\{\{.*?\}\}', '0', text)), dict)  # {{…}} is filled in by mmengine
        else:
            mapping = isinstance(yaml.compose(text), yaml.MappingNode)
    except SyntaxError as error:
        raise SystemExit(f'error: {path} is no config: line {error.lineno}: {error.msg}.') from error
    except (ValueError, yaml.YAMLError) as error:
        raise SystemExit(f'error: {path} is no config: {" ".join(str(error).split())}.') from error
    if not mapping:
        raise SystemExit(f'error: {path} is no config: it must hold settings by name, such as {{"model": …}}.')
    for base in bases:
        file = path.parent / base
        if not file.is_file():
            raise SystemExit(f'error: {path} inherits {base!r}, but there is no {file}.')
        _check_syntax(file)


def _bases(tree: ast.Module) -> list[str]:
    """The paths that a Python config inherits; not those from packages, ``mmdet::…``."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == '_base_' for t in node.targets):
            texts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
            return [t for t in texts if isinstance(t, str) and not any(mark in t for mark in ('::', '://', '{{'))]
    return []


def until_nobody_reads(main: Callable[[], None]) -> None:
    """Runs the main of a tool that only prints; it ends without a word where nobody reads on, as with ``… | head``."""
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at the end
        raise SystemExit(1) from error


def one_line_errors(main: Callable[[], None]) -> None:
    """Runs a tool's main; an expected error ends in one line instead of a traceback, as Ctrl-C does."""
    try:
        main()
    except KeyboardInterrupt:
        print(
            '\nstopped. What is on the disk stays: a search goes on with the same command, a training with --resume.',
            file=sys.stderr,
        )
        sys.exit(130)
    except DetNASError as error:
        raise SystemExit(f'error: {error}') from error
