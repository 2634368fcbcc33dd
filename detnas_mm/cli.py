"""What the command-line tools share before the heavy stack is loaded: arguments, and errors of one line.

Imports no torch, so that ``--help`` and mistyped arguments answer at once.
"""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable
from pathlib import Path

from detnas_mm.compat import require

PACKAGE = Path(__file__).resolve().parent


TRUST = 'load checkpoints that hold more than tensors; such files can run code'


def parser(description: str, epilog: str = '', launched: bool = True) -> argparse.ArgumentParser:
    """An argument parser with what all tools take.

    Args:
        description: What the tool does.
        epilog: Examples, and what it leaves behind.
        launched: Whether several processes may be started of it.
    """
    require('mmengine')
    from mmengine.config import DictAction

    out = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out.add_argument(
        'config', type=_existing_file, help='a config file, such as configs/digits/detnas-digits_supernet_retinanet.py'
    )
    out.add_argument('--work-dir', help='where results go; default: work_dirs/<name of the config>')
    out.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='overrides of the config, such as train_dataloader.batch_size=8 search.budget.generations=5',
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


def _existing_file(path: str) -> str:
    if not Path(path).is_file():
        raise SystemExit(f'error: there is no config {path!r}. Configs are in configs/, listed in its READMEs.')
    return path


def one_line_errors(main: Callable[[], None]) -> None:
    """Runs a tool's main; what this package itself refuses ends in one line instead of a traceback."""
    try:
        main()
    except Exception as error:
        refusal = find_refusal(error)
        if refusal is None:
            raise
        raise SystemExit(f'error: {refusal}') from error


def find_refusal(error: BaseException | None) -> BaseException | None:
    """The error that a ``raise`` in this package made, if one is at the root of another.

    mmengine wraps what goes wrong when it builds an object into errors of its own.
    """
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        if frames and Path(frames[-1].filename).is_relative_to(PACKAGE) and (frames[-1].line or '').startswith('raise'):
            return error
        error = error.__cause__ or error.__context__
    return None
