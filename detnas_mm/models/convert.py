"""What the converters of other people's checkpoints share: safe reading, and refusing keys that are left over."""

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
    """Reads the state dict in a checkpoint file, on its own or under ``model`` or ``state_dict``.

    Args:
        path: The file.
        trust_pickle: Also read files that hold more than plain tensors. Such a file can run any code.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no state dict, or more than plain tensors without ``trust_pickle``.
    """
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        if trust_pickle:
            raise DetNASError(f'{path} is no checkpoint: {refused_for(error)}') from error
        raise DetNASError(
            f'{path} is no checkpoint, or holds more than plain tensors, and reading that can run any code '
            f'({refused_for(error)}). '
            f'If you trust where it comes from, give --trust-pickle.'
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
        raise DetNASError(f'{path} holds a {type(checkpoint).__name__}; a state dict (tensors by name) is needed.')
    odd = [str(key) for key, value in checkpoint.items() if not isinstance(value, Tensor)]
    if odd:
        raise DetNASError(f'{path} is no state dict: no tensors under {", ".join(odd[:10])}.')
    unnamed = [repr(key) for key in checkpoint if not isinstance(key, str)]
    if unnamed:
        raise DetNASError(f'{path} is no state dict: names must be text; got {", ".join(unnamed[:10])}.')
    return OrderedDict(checkpoint)


def check_keys(own: Mapping[str, Tensor], wanted: Collection[str], optional: Collection[str], prefix: str) -> None:
    """Refuses a state dict whose keys are not the wanted ones, either way.

    Args:
        own: The state dict, without prefix.
        wanted: All keys that have a place.
        optional: Those of them that may be missing.
        prefix: Of the keys in the file, for the message.

    Raises:
        ValueError: Lists what has no place, and what is not there.
    """
    unknown = [prefix + key for key in own if key not in wanted]
    lacking = [prefix + key for key in wanted if key not in own and key not in optional]
    if unknown or lacking:
        raise DetNASError(
            f'{len(unknown)} keys of the checkpoint have no place here, {len(lacking)} that are needed are not there.'
            + (f'\nno place:\n{listed(unknown)}' if unknown else '')
            + (f'\nnot there:\n{listed(lacking)}' if lacking else '')
        )


def listed(keys: Iterable[str]) -> str:
    """One line a key."""
    return '\n'.join(f'  {key}' for key in keys)
