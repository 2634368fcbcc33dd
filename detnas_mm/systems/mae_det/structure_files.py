"""Reads and writes text files of nets of the authors' code, see :mod:`detnas_mm.systems.mae_det.structure`."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detnas_mm.errors import DetNASError
from detnas_mm.files import write_text
from detnas_mm.spaces.architecture import Architecture
from detnas_mm.systems.mae_det.structure import read_with_channels, to_dicts

#: Limit, so that a malicious file is not read for hours.
_MAX_BYTES = 1 << 20
_JSON = dict(true='True', false='False', null='None')
#: Expected content of a file, in error messages.
_FILE = "expected a list of dicts or {'best_structures': [[{'class': …}, …], …]}"


def read_dicts(path: str | Path) -> list[list[dict[str, Any]]]:
    """Reads one of the authors' text files: nets as lists of dicts, whose stems include the channels of the images.

    The text is parsed as a literal, never evaluated.

    Args:
        path: A file with ``{'best_structures': [[{'class': …}, …], …], …}`` or with one list of dicts.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is too large, is not a literal, or contains no valid structures; names the invalid one.
    """
    path = Path(path)
    if path.stat().st_size > _MAX_BYTES:
        raise DetNASError(f'{path} has {path.stat().st_size:,} bytes; structure files have at most {_MAX_BYTES:,}.')
    text = ''
    try:
        text = path.read_text(encoding='utf-8-sig').strip()
        data = ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        words = re.sub(r': <ast\.\w+ object at .*', '', str(error).partition('\n')[0])[:200]
        reason = _json_words(text) or words or type(error).__name__
        raise DetNASError(f'{path} is not a plain Python literal ({reason}); {_FILE}.') from error
    if isinstance(data, Mapping):
        data = data.get('best_structures')
    if not isinstance(data, list) or not data:
        raise DetNASError(f'{path} {"contains no structures" if text else "is empty"}; {_FILE}.')
    structures = [data] if isinstance(data[0], Mapping) else data
    for number, structure in enumerate(structures):
        try:
            read_with_channels(structure)
        except DetNASError as error:
            raise DetNASError(f'Structure {number} of {path}: {error}') from error
    return structures


def read_file(path: str | Path) -> list[Architecture]:
    """Reads the nets of one of the authors' text files, for images of any channels; see :func:`read_dicts`."""
    return [read_with_channels(dicts)[0] for dicts in read_dicts(path)]


def _json_words(text: str) -> str:
    """Returns advice on JSON literals in a text that are not Python (such as true), or ''."""
    try:
        names = {node.id for node in ast.walk(ast.parse(text, mode='eval')) if isinstance(node, ast.Name)}
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ''
    words = [f'{word}: write {other}' for word, other in _JSON.items() if word in names]
    return f'it contains JSON literals; {", ".join(words)}' if words else ''


def write_file(path: str | Path, structures: Sequence[Architecture | list[dict[str, Any]]]) -> None:
    """Writes nets in the authors' file format, which :func:`read_dicts` and :func:`read_file` read.

    Args:
        path: The file.
        structures: Nets that take images of 3 channels, or lists of dicts, see :func:`to_dicts`.
    """
    dicts = [to_dicts(one) if isinstance(one, Architecture) else one for one in structures]
    data = dict(best_structures=dicts, space_arch='CnnNet')
    write_text(path, f'{data!r}\n')
