"""Arguments and error handling that the command-line tools share, before the heavy stack is loaded.

Imports no torch, so that ``--help`` and errors about arguments are quick.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from detnas_mm.compat import require
from detnas_mm.config_styles import bases as inherited
from detnas_mm.config_styles import check_styles, local_bases, refuse_cycle
from detnas_mm.errors import DetNASError, LibraryError, library_cause, library_errors
from detnas_mm.options import Options
from detnas_mm.terminal import VERBOSE, managed

PACKAGE = Path(__file__).resolve().parent


CHECK_IMAGES = '--check-images'
TRUST = 'load checkpoints that contain more than tensors; such files can run code'


def at_least_1(text: str) -> int:
    """Reads an integer of at least 1, for argparse."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'must be an integer of at least 1; got {text!r}')
    return int(text)


def parser(description: str, epilog: str = '', launched: bool = True) -> argparse.ArgumentParser:
    """Makes an argument parser with the arguments of all tools.

    Args:
        description: Description of the tool.
        epilog: Examples, and a list of the files that the tool writes.
        launched: Whether the tool may run as several processes.
    """
    require('mmengine')
    out = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out.add_argument('config', type=config_file, help='a config file; those in configs/ are listed in its READMEs')
    out.add_argument('--work-dir', help='folder for results; default: work_dirs/<name of the config>')
    out.add_argument(
        '--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE',
        help='overrides of the config, such as train_dataloader.batch_size=8 search.budget.generations=5; values in '
        'quotes are text, as in "classes=(\'traffic light\', \'0\')"',
    )  # fmt: skip
    out.set_defaults(launcher='none', local_rank=0)
    if launched:
        out.add_argument(
            '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
            help='launcher of the processes; tools/dist_*.sh sets it',
        )  # fmt: skip
        out.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
    out.add_argument('--trust-checkpoint', action='store_true', help=TRUST)
    out.add_argument(
        '--verbose', action=_Verbose,
        help='print what mmengine and mmdet report before the first iteration (environment, config, hooks, parameter '
        f'groups) on the terminal too, not in the log file alone; {VERBOSE}=1 does the same',
    )  # fmt: skip
    return out


class _Verbose(argparse.Action):
    """Sets the environment variable, which processes that are started see too."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, help=help)

    def __call__(self, *_: Any) -> None:
        os.environ[VERBOSE] = '1'


def add_check_images(to: argparse.ArgumentParser) -> None:
    """Adds the option ``--check-images``, which checks every image instead of running the job."""
    to.add_argument(
        CHECK_IMAGES, action='store_true',
        help='open and decode every image of the data once, list those that cannot be read, and do nothing else; '
        'exits with 1 if there are any',
    )  # fmt: skip


def typed(tool: str, *words: Any) -> str:
    """Returns a command for any current folder, whether or not the environment is activated.

    Folders that a config names by relative paths, such as its data, are still looked for in the current one.

    Args:
        tool: File of the tool in ``tools/``, such as ``'search.py'`` or ``'dist_train.sh'``.
        *words: Arguments, not quoted yet; a :class:`Path` is made absolute.
    """
    file = (PACKAGE / '.mim' / 'tools' / tool).resolve()
    whole = (word.absolute() if isinstance(word, Path) else word for word in words)
    return shlex.join(['bash' if file.suffix == '.sh' else interpreter(), str(file), *map(str, whole)])


def interpreter() -> str:
    """Returns ``'python'`` if a shell finds this interpreter by that name, else its path."""
    found = shutil.which('python')
    here = not sys.executable or (found is not None and Path(found).parent == Path(sys.executable).parent)
    return 'python' if here else sys.executable


def override(cfg: Any, options: dict[str, Any] | None) -> None:
    """Merges the options of ``--cfg-options`` into a config.

    Raises:
        SystemExit: If an option sets a key of something that has no such key. The message names it.
    """
    try:
        cfg.merge_from_dict(options or {})
        return
    except (TypeError, KeyError, AttributeError):  # raised by mmengine
        for option in options or {}:
            node, path = cfg._cfg_dict, ''
            for key in option.split('.'):
                fits = isinstance(node, dict) or (isinstance(node, list) and key.isdigit() and int(key) < len(node))
                if not fits:
                    advice = (
                        f'It has {len(node)} entries, counted from 0.' if isinstance(node, list) else
                        f'Give another value for it, or add {path}._delete_=True to replace it.'
                    )  # fmt: skip
                    raise SystemExit(
                        f'error: --cfg-options {option}: {path} is {node!r:.200}, which has no {key!r}. {advice}'
                    ) from None
                node = node[int(key)] if isinstance(node, list) else node.get(key, {})
                path = f'{path}.{key}' if path else key
        raise


def config_file(path: str) -> str:
    """Checks the name of a config file, for argparse.

    Raises:
        SystemExit: If the file does not exist, or cannot be a config.
    """
    if not Path(path).is_file():
        raise SystemExit(f'error: there is no config {path!r}. Configs are in configs/, listed in its READMEs.')
    if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise SystemExit(f'error: {path} is not a config: its name must end in .py, .json, .yaml or .yml.')
    if path.endswith('.py'):
        try:
            check_styles(Path(path))
        except DetNASError as error:
            raise SystemExit(f'error: {error}') from error
    return path


def read_file(path: str | Path) -> Any:
    """Reads a config file with mmengine.

    Raises:
        DetNASError: If it, or a file that it inherits, cannot be read. The message names the file.
    """
    from mmengine.config import Config

    try:
        with library_errors(f'{path} cannot be read as a config'):
            cfg = Config.fromfile(path)
    except LibraryError:
        _check_syntax(Path(path))
        raise
    return cfg


def read_source(setting: str, source: str) -> Any:
    """Reads a config that a setting of another one names; classes become text.

    Args:
        setting: Key of the setting, for messages.
        source: A config file, or ``'package::folder/name.py'``.

    Raises:
        DetNASError: If it cannot be read.
    """
    from mmengine.config import Config

    from detnas_mm.config_types import as_text

    try:
        return as_text(Config.fromstring(f'_base_ = {source!r}', '.py') if '::' in source else read_file(source))
    except Exception as error:  # any error of the config's code
        raise DetNASError(
            f'{setting}: {source} cannot be read ({type(error).__name__}: {" ".join(str(error).split())}). '
            f"Give a config file, or 'detnas_mm::folder/name.py'."
        ) from error


def _check_syntax(path: Path, heirs: tuple[Path, ...] = ()) -> None:
    """Finds the file that mmengine could not read: a config, or one that it inherits by path.

    Raises:
        DetNASError: If a file is found. The message names it.
    """
    import yaml  # a dependency of mmengine; not all tools need it

    refuse_cycle(path, heirs)
    bases: list[str] = []
    try:
        text = path.read_text(encoding='utf-8')
        if path.suffix == '.py':
            bases = inherited(ast.parse(text))
            mapping = True
        else:
            text = re.sub(r'\{\{.*?\}\}', '0', text)  # {{…}} is filled in by mmengine
            content = json.loads(text) if path.suffix == '.json' else yaml.safe_load(text)
            mapping = isinstance(content, dict)
            found = content.get('_base_', ()) if mapping else ()
            bases = local_bases([found] if isinstance(found, str) else found)
    except SyntaxError as error:
        raise DetNASError(f'{path} is not a config: line {error.lineno}: {error.msg}.') from None
    except (ValueError, yaml.YAMLError) as error:
        raise DetNASError(f'{path} is not a config: {" ".join(str(error).split())}.') from None
    if not mapping:
        raise DetNASError(f'{path} is not a config: it must have settings by name, such as {{"model": …}}.')
    for base in bases:
        file = path.parent / base
        if not file.is_file():
            raise DetNASError(f'{path} inherits {base!r}, but there is no {file}.')
        _check_syntax(file, (*heirs, path.resolve()))


def until_nobody_reads(main: Callable[[], None]) -> None:
    """Runs the main of a tool that only prints; ends quietly when its output is closed, as by ``… | head``."""
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit prints an error
        raise SystemExit(1) from error


def one_line_errors(main: Callable[[], None], on_terminal: bool = True) -> None:
    """Runs a tool's main; expected errors and Ctrl-C end it with one line instead of a traceback.

    If a library raised the error, the line names a file with the traceback. For the output on the terminal see
    :mod:`detnas_mm.terminal`.

    Args:
        main: Main function of the tool.
        on_terminal: Whether it writes to a terminal; False for a program that writes to a log, and for one whose
            processes look after the terminal themselves.
    """
    try:
        with managed() if on_terminal else nullcontext():
            main()
    except KeyboardInterrupt:
        print(
            '\nstopped. Results on disk are kept: resume a search with the same command, a training with --resume.',
            file=sys.stderr,
        )
        sys.exit(130)
    except DetNASError as error:
        raise SystemExit(f'error: {error}{_traceback_note(error)}') from error
    except SystemExit as error:
        if isinstance(error.__cause__, DetNASError):
            error.code = f'{error.code}{_traceback_note(error)}'
        raise


def _traceback_note(error: BaseException) -> str:
    """Writes a library's traceback to a temporary file; returns a note with its path."""
    if library_cause(error) is None:
        return ''
    with tempfile.NamedTemporaryFile(
        'w', encoding='utf-8', errors='backslashreplace', prefix='detnas_mm_', suffix='.log', delete=False
    ) as file:
        file.writelines(traceback.format_exception(error))
    return f' (traceback: {file.name})'
