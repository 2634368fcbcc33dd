"""Reads checkpoints without running code that may be hidden in them, and finds their weights."""

from __future__ import annotations

import importlib
import pickle
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detnas_mm.errors import DetNASError, MissingFileError

#: Errors that torch.load raises for files that are not checkpoints: it reads their bytes as instructions.
UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, ImportError,
    AssertionError, ArithmeticError, MemoryError, struct.error,
    OSError,  # a truncated file has its list of parts at a negative position
)  # fmt: skip
#: Messages of torch for a file with objects of other classes; other messages mean a damaged file.
_OTHER_CLASSES = re.compile(
    r'(Unsupported (global|class|function)|unsupported GLOBAL).* [A-Za-z_][\w.]*|unrecognized function|must be imported'
)
#: Prefixes that wrappers of models add to the names of weights.
WRAPPERS = re.compile(r'^(module\.)+|_orig_mod\.(module\.)*')


def declare_safe_globals() -> None:
    """Declares what mmengine writes into checkpoints besides tensors safe for ``torch.load(weights_only=True)``.

    From torch 2.6 on that is the default, and upstream mmengine cannot load its own checkpoints then, because of the
    loss curves in their message hub. They are plain arrays in a small class: loading them runs no code of the file.
    Call this before each load: the mmengine of the other family removes its own classes from torch's list after
    loading.
    """
    import numpy as np
    import torch
    from mmengine.logging.history_buffer import HistoryBuffer

    multiarray = importlib.import_module('numpy._core.multiarray' if hasattr(np, '_core') else 'numpy.core.multiarray')
    allowed: list[Any] = [HistoryBuffer, np.ndarray, np.dtype]
    allowed += [type(np.dtype(name)) for name in ('bool', 'int32', 'int64', 'uint8', 'uint32', 'float32', 'float64')]
    for package in ('numpy._core', 'numpy.core'):  # numpy 2 and numpy 1 write different names for the same functions
        allowed += [
            (multiarray._reconstruct, f'{package}.multiarray._reconstruct'),
            (multiarray.scalar, f'{package}.multiarray.scalar'),
        ]
    # A HistoryBuffer is written with its methods, as getattr(HistoryBuffer, name). Other attributes are not allowed.
    allowed.append((_statistics_method, 'builtins.getattr'))
    torch.serialization.add_safe_globals(allowed)


def _statistics_method(owner: Any, name: str) -> Any:
    """Replaces ``getattr`` in checkpoints: returns HistoryBuffer's own statistics only."""
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise DetNASError(f'the checkpoint asks for {name!r} of {owner!r}, which is not allowed: it may run code')
    return getattr(HistoryBuffer, name)


def refused_for(error: BaseException) -> str:
    """Returns torch's reason for refusing a checkpoint, in one line, without its advice to load it anyway."""
    advice = ('Weights only load failed', '(1)', '(2)', 'Please file an issue', 'Check the documentation')
    lines = [line.strip().removeprefix('WeightsUnpickler error: ') for line in str(error).splitlines()]
    reasons = [line.partition('. Please ')[0] for line in lines if line and not line.startswith(advice)]
    if not reasons or isinstance(error, KeyError):  # whose text is only a number
        return type(error).__name__
    return reasons[0].rstrip('.')


def load_checkpoint_file(path: str | Path, trust: bool = False) -> Any:
    """Loads a checkpoint onto the CPU without running code that may be hidden in it.

    Args:
        path: The file.
        trust: Whether to unpickle any object, which may run code; only for files from a source that you trust. Defaults
            to False.

    Returns:
        Content of the file; for mmengine's checkpoints a dict with 'state_dict', 'meta' and more.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file has more than tensors, plain values and mmengine's log classes, is damaged, or is not a
            checkpoint.
    """
    import torch

    path = Path(path)
    if path.is_dir():
        raise MissingFileError(f'there is no checkpoint {path}: it is a folder; give a file in it')
    if not path.is_file():
        raise MissingFileError(f'there is no checkpoint {path}')
    if not path.stat().st_size:
        raise DetNASError(f'{path} is not a checkpoint: the file is empty')
    with path.open('rb') as file:
        head = file.read(64).lstrip()
    if head.startswith((b'<', b'{')):  # error pages of servers, saved instead of a file
        raise DetNASError(
            f'{path} is not a checkpoint: it is text that begins with {head[:40].decode(errors="replace")!r}'
        )
    declare_safe_globals()
    damaged = f'{path} cannot be read as a checkpoint, it is damaged or truncated'
    try:
        content = torch.load(path, map_location='cpu', weights_only=not trust)
    except UNREADABLE as error:
        if trust and isinstance(error, (AttributeError, ImportError)):
            raise DetNASError(
                f'{path} has an object of a class that is not installed: {refused_for(error)}. Install its package, or '
                f'import its module with custom_imports.'
            ) from error
        other = isinstance(error, pickle.UnpicklingError) and _OTHER_CLASSES.search(str(error))
        if not other or _damaged_part(path):
            raise DetNASError(f'{damaged}: {refused_for(error)}. Copy or save it again.') from error
        raise DetNASError(
            f'{path} holds more than tensors and plain values, and was not loaded ({refused_for(error)}). If you '
            'trust its source, load it with trust=True (--trust-checkpoint on the command line).'
        ) from error
    part = _damaged_part(path)
    if part:
        raise DetNASError(f'{damaged}: the checksum of {part} in it is wrong. Copy or save it again.')
    return content


def _damaged_part(path: Path) -> str:
    """Returns the first part of a checkpoint with a wrong checksum; '' if there is none, or it has no checksums.

    torch does not compare checksums and would return wrong weights.
    """
    if not zipfile.is_zipfile(path):  # torch's format before 1.6
        return ''
    name = 'the list of parts'
    try:
        with zipfile.ZipFile(path) as file:
            for part in file.infolist():
                name = part.filename
                if part.CRC:  # torch can save without checksums
                    with file.open(part) as content:
                        while content.read(2**20):
                            pass
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError):
        return name
    return ''


def weights_in(checkpoint: Any, name: Any) -> Mapping[str, Any]:
    """Returns the weights of a checkpoint, under the names of the model itself.

    They may be under ``state_dict`` or ``model``, or be the whole file. Prefixes of DDP (``module.``) and of
    ``torch.compile`` (``_orig_mod.``) are removed.

    Args:
        checkpoint: Result of :func:`load_checkpoint_file`.
        name: Name of the file, for messages.

    Returns:
        The mapping in the checkpoint itself, if no name has a prefix.

    Raises:
        DetNASError: If it has no weights.
    """
    found = checkpoint
    while isinstance(found, Mapping):
        inner = next((found[key] for key in ('state_dict', 'model') if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping) or not any(hasattr(value, 'shape') for value in found.values()):
        there = f'the keys {", ".join(map(str, list(found)[:5]))}' if isinstance(found, Mapping) and found else ''
        raise DetNASError(
            f'{name} is not a checkpoint: it has {there or f"a {type(found).__name__}"}, but no weights (tensors by '
            f'name, under state_dict or model, or as the whole file)'
        )
    if not any(WRAPPERS.search(str(key)) for key in found):
        return found
    out = OrderedDict((WRAPPERS.sub('', key), value) for key, value in found.items())
    metadata = getattr(found, '_metadata', {})  # versions of modules, by which some rename old weights
    out._metadata = {WRAPPERS.sub('', f'{key}.')[:-1]: value for key, value in metadata.items()}  # type: ignore
    return out
