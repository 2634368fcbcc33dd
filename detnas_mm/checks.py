"""Checks values that users give, before any work starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError


def whole(name: str, value: Any, least: int = 0) -> int:
    """Checks that a value is a whole number, and returns it.

    Raises:
        ValueError: If it is not, or below ``least``. The message gives the setting, the value and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DetNASError(f'{name} must be a whole number of at least {least}; got {value!r}.')
    return value


def real(name: str, value: Any) -> float:
    """Checks that a value is a number, infinity included, and returns it.

    Raises:
        ValueError: If it is not. The message gives the setting, the value and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise DetNASError(f'{name} must be a number, such as 300e6; got {value!r}.')
    return value


def flag(name: str, value: Any) -> bool:
    """Checks that a value is True or False, and returns it.

    Raises:
        ValueError: If it is neither, such as the string 'no', which would count as True.
    """
    if not isinstance(value, bool):
        raise DetNASError(f'{name} must be True or False; got {value!r}.')
    return value


def listed(name: str, value: Any, example: str) -> list[Any]:
    """Checks that a value is a list or a tuple, and returns it as a list.

    Raises:
        ValueError: If it is not. The message gives an example.
    """
    if not isinstance(value, (list, tuple)):
        raise DetNASError(f'{name} must be a list, such as {example}; got {value!r}.')
    return list(value)


def keyed(
    name: str, value: Any, allowed: tuple[str, ...], example: str, needed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Checks that a value is a mapping with all needed keys and no keys that are not allowed, and returns it.

    Raises:
        ValueError: If it is not. The message gives the allowed keys and an example.
    """
    if not isinstance(value, Mapping) or set(value) - set(allowed) or set(needed) - set(value):
        raise DetNASError(
            f'{name} must be a dict such as {example}, with no keys other than {", ".join(allowed)}'
            f'{"".join(f", and with {key}" for key in needed)}; got {value!r}.'
        )
    return dict(value)


def checked_input_size(input_size: int | Sequence[int]) -> tuple[int, int]:
    """Checks an input size, one integer or two, and returns (height, width) in pixels.

    Raises:
        ValueError: If it is not one or two positive integers.
    """
    size = input_size if isinstance(input_size, Sequence) else (input_size, input_size)
    if len(size) != 2 or not all(isinstance(x, (int, np.integer)) and x > 0 for x in size):
        raise DetNASError(
            f'input_size must be (height, width), positive integers such as (224, 224); got {input_size!r}.'
        )
    return int(size[0]), int(size[1])
