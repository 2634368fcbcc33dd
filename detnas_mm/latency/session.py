"""Measures whole nets in a process of its own: ``python -m detnas_mm.latency.session FOLDER --key KEY``.

Imports torch. The folder holds ``session.json``, the settings, and a config file for each net; latencies are written to
``result.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detnas_mm.cli import one_line_errors, read_file
from detnas_mm.errors import is_bug
from detnas_mm.latency.device import describe_device
from detnas_mm.latency.inputs import Inputs, Run, load_net
from detnas_mm.latency.measure import milliseconds
from detnas_mm.latency.net_file import versions
from detnas_mm.latency.stopwatch import TimedRun, stopwatch
from detnas_mm.latency.timing import Pace, interleaved, spread, steadied
from detnas_mm.latency.whole import SESSION
from detnas_mm.workers import OUT_OF_MEMORY, Watchdog, failure_of, hold, read_result, write_result

#: Parts of torch's messages about operators that a device or a number type does not support.
_NO_OPERATOR = ('Could not run', 'not implemented for')


class _NetFailed(Exception):
    """A net has failed while nets were measured."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason


def measure_session(folder: Path, step: Callable[[str], Any] = lambda name: None) -> dict[str, Any]:
    """Measures the nets of a folder in interleaved order, each at its own input size.

    All are built and run once before the first is measured, so a net that does not run is found within seconds. The
    others are measured without it.

    Args:
        folder: See the module.
        step: Called before each step, with its name.

    Returns:
        ``machine``, ``clock``, ``load`` (load average of the machine over the last minute, before and after), ``nets``
        by key: ``ms`` (median of corrected rounds), ``iqr_ms`` (of uncorrected rounds) and ``boxes`` (in the last
        image); and ``failed``: reasons of failures by key.
    """
    asked = json.loads((folder / SESSION).read_text())
    torch.set_num_threads(asked['threads'])
    load = [os.getloadavg()[0]]
    pace = Pace(**asked['pace'])
    watch = stopwatch(asked['device'])
    things: dict[str, Callable[[], Any]] = {}
    boxes: dict[str, int] = {}
    failed: dict[str, str] = {}
    for number, net in enumerate(asked['nets']):
        key, name = net['key'], f'{net["arch"]} at {"x".join(map(str, net["input_size"]))}'
        print(name, flush=True)
        step(f'building and running {name}')
        try:
            torch.manual_seed(pace.seed)
            inputs = Inputs('detector', net['input_size'], asked['device'], channels=net['channels'])
            run = load_net(read_file(folder / f'net_{number}.py'), None, inputs)
            boxes[key] = _boxes(run, inputs)
        except Exception as error:
            failed[key] = _reason(error)
            continue
        things[key] = _measured(key, TimedRun(run, inputs.values, watch), partial(step, f'measuring {name}'))
    print('measuring', flush=True)
    samples: dict[str, np.ndarray] = {}
    while things and not samples:
        try:
            samples = interleaved(things, pace)
        except _NetFailed as error:
            del things[error.key]
            failed[error.key] = error.reason
    even = steadied(samples) if samples else {}
    return dict(
        machine=dict(device=describe_device(asked['device']), versions=versions()),
        clock=watch.name,
        load=[*load, os.getloadavg()[0]],
        nets={
            key: dict(
                ms=milliseconds(np.median(even[key])), iqr_ms=milliseconds(spread(rounds[:, 0])), boxes=boxes[key]
            )
            for key, rounds in samples.items()
        },
        failed=failed,
    )


def _measured(key: str, run: Callable[[], Any], step: Callable[[], Any]) -> Callable[[], Any]:
    """Returns a run that names its net when it fails."""

    def measured() -> Any:
        step()
        try:
            return run()
        except Exception as error:
            raise _NetFailed(key, _reason(error)) from error

    return measured


def _reason(error: Exception) -> str:
    """Returns why a net failed; raises the error again if the machine, or this package, is at fault."""
    reason = failure_of(error)
    if reason is None:
        raise error
    no_operator = isinstance(error, NotImplementedError) or any(text in str(error) for text in _NO_OPERATOR)
    if is_bug(error) and reason != OUT_OF_MEMORY and not no_operator:
        raise error
    traceback.print_exception(error)
    return reason


@torch.no_grad()
def _boxes(run: Run, inputs: Inputs) -> int:
    """Returns the number of boxes that a net finds in the last image."""
    found = [run(value) for value in inputs.values][-1]
    return len(found[0].pred_instances)


def main() -> None:
    """Measures the nets of a folder once."""
    args_parser = argparse.ArgumentParser(description=__doc__)
    args_parser.add_argument('folder', type=Path)
    args_parser.add_argument('--key', required=True)
    args = args_parser.parse_args()
    with hold(args.folder):
        if read_result(args.folder, args.key) is not None:
            return
        limit = json.loads((args.folder / SESSION).read_text())['step_limit']
        with Watchdog(limit, lambda name: write_result(args.folder, args.key, dict(hung=name))) as watchdog:
            result = measure_session(args.folder, watchdog.step)
        write_result(args.folder, args.key, result)


if __name__ == '__main__':
    one_line_errors(main, on_terminal=False)
