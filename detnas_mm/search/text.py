"""Numbers in log lines: costs with their units, and counts with their nouns."""

from __future__ import annotations

import math

#: How the field writes the names of costs.
_NAMES = {'macs': 'MACs', 'flops': 'FLOPs'}
#: Factors of units that take a prefix.
_PREFIXES = ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'))


def number_text(value: float) -> str:
    """Writes a number with grouped digits, whatever its size: ``'237,222,720'``, ``'1,234.57'``, ``'0.0123'``."""
    whole = float(value).is_integer() or abs(value) >= 1e6
    return f'{value:,.0f}' if whole else f'{value:,.6g}'


def cost_text(name: str, value: float, unit: str = '') -> str:
    """Writes a cost with its unit in three digits: ``'MACs 5.55 M'``, ``'latency 5.28 ms'``, ``'params 95,072'``.

    Args:
        name: Of the cost, as the search calls it.
        value: In its unit.
        unit: Such as ``'ms'``; with none, and with ``'B'``, a million or more gets a prefix.
    """
    factor, prefix = 1.0, ''
    if unit in ('', 'B'):
        factor, prefix = next((one for one in _PREFIXES if abs(value) >= one[0]), (1.0, ''))
    if prefix or unit and not float(value).is_integer():
        scaled = value / factor
        decimals = 2 - math.floor(math.log10(abs(scaled))) if scaled else 0
        number = f'{scaled:,.{max(decimals, 0)}f}'
    else:
        number = number_text(value)
    return ' '.join(filter(None, (_NAMES.get(name, name), number, prefix + unit)))


def axis_label(name: str, unit: str = '') -> str:
    """Writes a metric or cost as the label of an axis or column: ``'latency, ms'``, ``'MACs'``."""
    return ', '.join(filter(None, (_NAMES.get(name, name), unit)))


def counted(number: int, noun: str) -> str:
    """Writes how many there are: ``'1 net'``, ``'1,024 nets'``.

    Args:
        number: How many.
        noun: In the singular; its plural ends in s.
    """
    return f'{number:,} {noun}{"" if number == 1 else "s"}'
