"""Shared parts of checkpoint converters: safe reading, and errors for keys without a counterpart."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from detnas_mm.checkpoints import UNREADABLE, refused_for
from detnas_mm.errors import DetNASError


def load_checkpoint(path: str | Path, trust_pickle: bool = False) -> OrderedDict[str, Tensor]:
    """Reads the state dict of a checkpoint file: the whole content, or the entry ``model`` or ``state_dict``.

    Args:
        path: The file.
        trust_pickle: Also read files that hold more than plain tensors. Reading such a file can run any code.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no state dict, or more than plain tensors and ``trust_pickle`` is False.
    """
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        if trust_pickle:
            raise DetNASError(f'{path} is not a checkpoint: {refused_for(error)}') from error
        raise DetNASError(
            f'{path} is not a checkpoint, or holds more than plain tensors, and reading those can run any code '
            f'({refused_for(error)}). '
            f'If you trust its source, give --trust-pickle.'
        ) from error
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise DetNASError(f'{path} cannot be read as a checkpoint: {refused_for(error)}') from error
    while isinstance(checkpoint, Mapping):
        inner = next((checkpoint[k] for k in ('state_dict', 'model') if isinstance(checkpoint.get(k), Mapping)), None)
        if inner is None:
            break
        checkpoint = inner
    if not isinstance(checkpoint, Mapping):
        raise DetNASError(f'{path} holds a {type(checkpoint).__name__}; expected a state dict (tensors by name).')
    odd = [str(key) for key, value in checkpoint.items() if not isinstance(value, Tensor)]
    if odd:
        raise DetNASError(f'{path} is not a state dict: these entries are not tensors: {", ".join(odd[:10])}.')
    unnamed = [repr(key) for key in checkpoint if not isinstance(key, str)]
    if unnamed:
        raise DetNASError(f'{path} is not a state dict: names must be strings; got {", ".join(unnamed[:10])}.')
    return OrderedDict(checkpoint)


def check_keys(own: Mapping[str, Tensor], wanted: Collection[str], optional: Collection[str], prefix: str) -> None:
    """Raises if a state dict has unknown keys, or lacks keys.

    Args:
        own: The state dict, without prefix.
        wanted: All known keys.
        optional: The known keys that may be missing.
        prefix: Prefix of the keys in the file, for messages.

    Raises:
        ValueError: If keys do not match; lists the unknown and the missing ones.
    """
    unknown = [prefix + key for key in own if key not in wanted]
    lacking = [prefix + key for key in wanted if key not in own and key not in optional]
    if unknown or lacking:
        raise DetNASError(
            f'The checkpoint has {len(unknown)} unknown keys and lacks {len(lacking)}: it is probably of another model.'
            + (f'\nunknown:\n{listed(unknown)}' if unknown else '')
            + (f'\nmissing:\n{listed(lacking)}' if lacking else '')
        )


def listed(keys: Iterable[str]) -> str:
    """Returns text with one key a line."""
    return '\n'.join(f'  {key}' for key in keys)
