"""Reading checkpoints without running code that may be hidden in them, and the weights that they hold."""

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

#: What torch.load raises of files that are no checkpoints: their bytes are read as instructions, whatever they are.
UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, ImportError,
    AssertionError, ArithmeticError, MemoryError, struct.error,
    OSError,  # a file that is cut short has its list of parts at a negative place
)  # fmt: skip
#: What torch says of a file that holds objects of other classes. Whatever else it says of bytes is of damaged ones.
_OTHER_CLASSES = re.compile(
    r'(Unsupported (global|class|function)|unsupported GLOBAL).* [A-Za-z_][\w.]*|unrecognized function|must be imported'
)
#: What wrappers of models put into the names of weights.
WRAPPERS = re.compile(r'^(module\.)+|_orig_mod\.(module\.)*')


def declare_safe_globals() -> None:
    """Declare what mmengine writes into checkpoints beside tensors safe for ``torch.load(weights_only=True)``.

    From torch 2.6 on that is the default. The upstream mmengine cannot load its own checkpoints then, because of the
    loss curves in their message hub. They are plain arrays in a small class: loading them runs no code of the file's.
    To be called before each load: the other family's mmengine takes its own classes off torch's list after it loads.
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
    # A HistoryBuffer is written with its methods, as getattr(HistoryBuffer, name). Nothing else may be looked up.
    allowed.append((_statistics_method, 'builtins.getattr'))
    torch.serialization.add_safe_globals(allowed)


def _statistics_method(owner: Any, name: str) -> Any:
    """Stand in for ``getattr`` in checkpoints: gives HistoryBuffer's own statistics and nothing else."""
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise DetNASError(f'the checkpoint asks for {name!r} of {owner!r}, which no plain checkpoint does')
    return getattr(HistoryBuffer, name)


def refused_for(error: BaseException) -> str:
    """What torch found wrong with a checkpoint, in one line and without its advice to load the file regardless."""
    advice = ('Weights only load failed', '(1)', '(2)', 'Please file an issue', 'Check the documentation')
    lines = [line.strip().removeprefix('WeightsUnpickler error: ') for line in str(error).splitlines()]
    reasons = [line.partition('. Please ')[0] for line in lines if line and not line.startswith(advice)]
    if not reasons or isinstance(error, KeyError):  # of which the text is a number
        return type(error).__name__
    return reasons[0].rstrip('.')


def load_checkpoint_file(path: str | Path, trust: bool = False) -> Any:
    """Load a checkpoint onto the CPU without running code that may be hidden in it.

    Args:
        path: The file.
        trust: Whether to unpickle anything, which may run code. Only for files from a source you trust. Defaults to
            False.

    Returns:
        What the file holds; for mmengine's checkpoints a dict with 'state_dict', 'meta' and more.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds more than tensors, plain values and mmengine's log classes, is damaged, or is no
            checkpoint.
    """
    import torch

    path = Path(path)
    if path.is_dir():
        raise MissingFileError(f'there is no checkpoint {path}: it is a folder; name a file in it')
    if not path.is_file():
        raise MissingFileError(f'there is no checkpoint {path}')
    if not path.stat().st_size:
        raise DetNASError(f'{path} is no checkpoint: the file is empty')
    with path.open('rb') as file:
        head = file.read(64).lstrip()
    if head.startswith((b'<', b'{')):  # what servers send in the place of a file
        raise DetNASError(
            f'{path} is no checkpoint: it is text that begins with {head[:40].decode(errors="replace")!r}'
        )
    declare_safe_globals()
    damaged = f'{path} cannot be read as a checkpoint, it is damaged or cut short'
    try:
        content = torch.load(path, map_location='cpu', weights_only=not trust)
    except UNREADABLE as error:
        if trust and isinstance(error, (AttributeError, ImportError)):
            raise DetNASError(
                f'{path} holds an object of a class that is not here: {refused_for(error)}. Install its package, or '
                f'import its module by custom_imports.'
            ) from error
        other = isinstance(error, pickle.UnpicklingError) and _OTHER_CLASSES.search(str(error))
        if not other or _damaged_part(path):
            raise DetNASError(f'{damaged}: {refused_for(error)}. Copy or write it again.') from error
        raise DetNASError(
            f'{path} holds more than tensors and plain values, and was not loaded ({refused_for(error)}). If you '
            'trust where it comes from, load it by trust=True (--trust-checkpoint on the command line).'
        ) from error
    part = _damaged_part(path)
    if part:
        raise DetNASError(f'{damaged}: {part} in it has another checksum than was written. Copy or write it again.')
    return content


def _damaged_part(path: Path) -> str:
    """The first part of a checkpoint that differs from what was written; '' if none does, or it has no checksums.

    torch compares none of them and would return other weights.
    """
    if not zipfile.is_zipfile(path):  # torch's format before 1.6
        return ''
    name = 'the list of parts'
    try:
        with zipfile.ZipFile(path) as file:
            for part in file.infolist():
                name = part.filename
                if part.CRC:  # torch can leave checksums out
                    with file.open(part) as content:
                        while content.read(2**20):
                            pass
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError):
        return name
    return ''


def weights_in(checkpoint: Any, name: Any) -> Mapping[str, Any]:
    """The weights that a checkpoint holds, by the names that the model itself gives them.

    They may be under ``state_dict`` or ``model``, or the file may hold nothing else. What DDP (``module.``) and
    ``torch.compile`` (``_orig_mod.``) put before names is taken off.

    Args:
        checkpoint: What :func:`load_checkpoint_file` returns.
        name: Of the file, for the message.

    Returns:
        The mapping in the checkpoint itself, if names are as they should be.

    Raises:
        DetNASError: If it holds none.
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
            f'{name} is no checkpoint: it holds {there or f"a {type(found).__name__}"}, but no weights (tensors by '
            f'name, under state_dict or model, or alone)'
        )
    if not any(WRAPPERS.search(str(key)) for key in found):
        return found
    out = OrderedDict((WRAPPERS.sub('', key), value) for key, value in found.items())
    metadata = getattr(found, '_metadata', {})  # versions of modules, which some of them rename old weights by
    out._metadata = {WRAPPERS.sub('', f'{key}.')[:-1]: value for key, value in metadata.items()}  # type: ignore
    return out
