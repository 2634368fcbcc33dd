"""What the command-line tools share before the heavy stack is loaded: arguments, and errors of one line.

Imports no torch, so that ``--help`` and mistyped arguments answer at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from mmengine.config import DictAction

from detnas_mm.compat import StackError
from detnas_mm.search import LedgerError, UnmeetableConstraint


def parser(description: str, epilog: str = '') -> argparse.ArgumentParser:
    """An argument parser with what all tools take."""
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
    out.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
        help='how processes were started; tools/dist_*.sh sets it',
    )  # fmt: skip
    out.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    out.add_argument(
        '--trust-checkpoint', action='store_true',
        help='load checkpoints that hold more than tensors; such files can run code',
    )  # fmt: skip
    return out


def _existing_file(path: str) -> str:
    if not Path(path).is_file():
        raise SystemExit(f'error: there is no config {path!r}. Configs are in configs/, listed in its READMEs.')
    return path


def one_line_errors(main: Callable[[], None]) -> None:
    """Runs a tool's main; errors of the user's making end in one line instead of a traceback."""
    try:
        main()
    except (LedgerError, UnmeetableConstraint, StackError) as error:
        raise SystemExit(f'error: {error}') from error
