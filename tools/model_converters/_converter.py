"""Common command line of the model converters."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def converter_parser(description: str | None, epilog: str, left_out: str) -> argparse.ArgumentParser:
    """Builds an argument parser with the common arguments of converters.

    Args:
        description: Description of the converter.
        epilog: Examples.
        left_out: Parts that ``--backbone-only`` drops.
    """
    parser = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', metavar='SRC', type=Path, help="the authors' checkpoint")
    parser.add_argument('dst', metavar='DST', type=Path, help='the file to write')
    parser.add_argument('--backbone-only', action='store_true', help=f'drop {left_out}')
    parser.add_argument(
        '--trust-pickle',
        action='store_true',
        help='load a file that contains more than plain tensors; this executes code in the file, so it must be trusted',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace DST if it exists')
    return parser


def convert_file(parser: argparse.ArgumentParser, args: argparse.Namespace, convert: Callable[[Any], Any]) -> Any:
    """Reads SRC, converts it and writes DST; on failure exits with a one-line error.

    Args:
        parser: The parser, for the name of the program.
        args: The parsed arguments.
        convert: Converts a state dict to an object with ``meta`` and ``state_dict``; raises DetNASError on failure.

    Returns:
        The result of ``convert``.
    """
    if args.dst.exists() and not args.overwrite:
        sys.exit(f'{parser.prog}: {args.dst} exists; use --overwrite to replace it.')

    import torch

    from detnas_mm.errors import DetNASError
    from detnas_mm.files import replacing
    from detnas_mm.models.convert import load_checkpoint
    from detnas_mm.terminal import doing, managed

    try:
        with managed(), doing(f'converting {args.src}'):
            converted = convert(load_checkpoint(args.src, args.trust_pickle))
            with replacing(args.dst) as draft:
                torch.save(dict(meta=converted.meta, state_dict=converted.state_dict), draft)
    except (OSError, DetNASError) as error:
        sys.exit(f'{parser.prog}: {error}')
    return converted
