"""What the command lines of converters share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def converter_parser(description: str | None, epilog: str, left_out: str) -> argparse.ArgumentParser:
    """An argument parser with what all converters take.

    Args:
        description: What the converter does.
        epilog: Examples.
        left_out: Which parts ``--backbone-only`` leaves out.
    """
    parser = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', metavar='SRC', type=Path, help="the authors' checkpoint")
    parser.add_argument('dst', metavar='DST', type=Path, help='file to write')
    parser.add_argument('--backbone-only', action='store_true', help=f'leave out {left_out}')
    parser.add_argument(
        '--trust-pickle',
        action='store_true',
        help='read a file that holds more than plain tensors; this runs whatever code the file brings along',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace DST if it exists')
    return parser


def convert_file(parser: argparse.ArgumentParser, args: argparse.Namespace, convert: Callable[[Any], Any]) -> Any:
    """Reads SRC, converts it and writes DST; ends the program with one line if that cannot be done.

    Args:
        parser: Names the program.
        args: What it parsed.
        convert: From a state dict to what has ``meta`` and ``state_dict``; raises DetNASError if it does not fit.

    Returns:
        What ``convert`` returned.
    """
    if args.dst.exists() and not args.overwrite:
        sys.exit(f'{parser.prog}: {args.dst} exists; give --overwrite to replace it.')

    import torch

    from detnas_mm.errors import DetNASError
    from detnas_mm.files import replacing
    from detnas_mm.models.convert import load_checkpoint

    try:
        converted = convert(load_checkpoint(args.src, args.trust_pickle))
        with replacing(args.dst) as draft:
            torch.save(dict(meta=converted.meta, state_dict=converted.state_dict), draft)
    except (OSError, DetNASError) as error:
        sys.exit(f'{parser.prog}: {error}')
    return converted
