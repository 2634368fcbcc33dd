"""Numbers that users give, checked before any work starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError


def whole(name: str, value: Any, least: int = 0) -> int:
    """The value, if it is a whole number.

    Raises:
        ValueError: If it is none, or below ``least``; names the setting, the value and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DetNASError(f'{name} must be a whole number of at least {least}; got {value!r}.')
    return value


def real(name: str, value: Any) -> float:
    """The value, if it is a number; infinity is one.

    Raises:
        ValueError: If it is none; names the setting, the value and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise DetNASError(f'{name} must be a number, such as 300e6; got {value!r}.')
    return value


def flag(name: str, value: Any) -> bool:
    """The value, if it is True or False.

    Raises:
        ValueError: If it is neither; a text such as 'no' would count as True.
    """
    if not isinstance(value, bool):
        raise DetNASError(f'{name} must be True or False; got {value!r}.')
    return value


def listed(name: str, value: Any, example: str) -> list[Any]:
    """The value, if it is a list.

    Raises:
        ValueError: If it is not; gives an example.
    """
    if not isinstance(value, (list, tuple)):
        raise DetNASError(f'{name} must be a list, such as {example}; got {value!r}.')
    return list(value)


def keyed(
    name: str, value: Any, allowed: tuple[str, ...], example: str, needed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The value, if it is a mapping that has the needed keys, and no other ones than the allowed ones.

    Raises:
        ValueError: If it is not; names what is wrong and gives an example.
    """
    if not isinstance(value, Mapping) or set(value) - set(allowed) or set(needed) - set(value):
        raise DetNASError(
            f'{name} must be as in {example}, with the keys {", ".join(allowed)} and no unknown ones'
            f'{"".join(f", {key} among them" for key in needed)}; got {value!r}.'
        )
    return dict(value)


def checked_input_size(input_size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) in pixels from one integer or two.

    Raises:
        ValueError: If it is not one or two positive integers.
    """
    size = input_size if isinstance(input_size, Sequence) else (input_size, input_size)
    if len(size) != 2 or not all(isinstance(x, (int, np.integer)) and x > 0 for x in size):
        raise DetNASError(
            f'input_size must be (height, width), positive integers such as (224, 224); got {input_size!r}.'
        )
    return int(size[0]), int(size[1])
