"""Device of a measurement."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from detnas_mm.errors import DetNASError


def describe_device(kind: str, threads: int | None = None) -> dict[str, Any]:
    """Describes a device of this machine.

    Args:
        kind: ``'cpu'`` or ``'cuda'``.
        threads: Of a CPU. Defaults to those that torch uses now.

    Returns:
        ``kind``, ``name`` (None if there is no such device) and, for a CPU, the ``threads``.

    Raises:
        ValueError: If the kind is another one.
    """
    if kind not in ('cpu', 'cuda'):
        raise DetNASError(f"A device is 'cpu' or 'cuda'; got {kind!r}.")
    if kind == 'cpu' and threads is not None:
        return dict(kind=kind, name=_cpu_name(), threads=threads)
    import torch  # not needed to describe a CPU with given threads

    if kind == 'cuda':
        return dict(kind=kind, name=torch.cuda.get_device_name() if torch.cuda.is_available() else None)
    return dict(kind=kind, name=_cpu_name(), threads=torch.get_num_threads())


def _cpu_name() -> str:
    path = Path('/proc/cpuinfo')
    for line in path.read_text().splitlines() if path.exists() else ():
        key, _, value = line.partition(':')
        if key.strip() == 'model name':
            return value.strip()
    return platform.processor() or platform.machine()


def device_text(device: dict[str, Any]) -> str:
    """Returns a device as text, such as ``'AMD EPYC, 1 thread'``."""
    threads = device.get('threads')
    return f'{device["name"]}' + (f', {threads} thread{"s" if threads != 1 else ""}' if threads else '')
