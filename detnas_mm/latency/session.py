"""A session of measuring whole nets, in a process of its own: ``python -m detnas_mm.latency.session FOLDER --key KEY``.

Loads torch. The folder holds ``session.json``, what to measure and how, and a config file for every net; what was
measured is left in ``result.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detnas_mm.cli import one_line_errors, read_file
from detnas_mm.errors import DetNASError, said
from detnas_mm.latency.device import describe_device
from detnas_mm.latency.inputs import Inputs, Run, load_net
from detnas_mm.latency.measure import milliseconds
from detnas_mm.latency.net_file import versions
from detnas_mm.latency.stopwatch import TimedRun, stopwatch
from detnas_mm.latency.timing import Pace, interleaved, spread, steadied
from detnas_mm.latency.whole import SESSION
from detnas_mm.workers.folder import hold, read_result, write_result


def measure_session(folder: Path) -> dict[str, Any]:
    """Measures the nets of a folder, in turn, each at its own input size.

    All are built, and run once, before the first is measured: what does not build ends a session in seconds.

    Args:
        folder: See the module.

    Returns:
        ``machine``, ``clock``, ``load`` (of the machine, over the last minute, before and after) and ``nets`` by key:
        ``ms`` (median of steadied rounds), ``iqr_ms`` (between rounds as they were) and ``boxes`` (of the last image).
        If a net does not build or run, ``failed`` instead: its ``arch`` and the ``reason``.
    """
    asked = json.loads((folder / SESSION).read_text())
    torch.set_num_threads(asked['threads'])
    load = [os.getloadavg()[0]]
    pace = Pace(**asked['pace'])
    watch = stopwatch(asked['device'])
    things, boxes = {}, {}
    for number, net in enumerate(asked['nets']):
        print(f'{net["arch"]} at {"x".join(map(str, net["input_size"]))}', flush=True)
        try:
            torch.manual_seed(pace.seed)
            inputs = Inputs('detector', net['input_size'], asked['device'], channels=net['channels'])
            run = load_net(read_file(folder / f'net_{number}.py'), None, inputs)
            boxes[net['key']] = _boxes(run, inputs)
        except Exception as error:  # whatever it is, it is of this net
            traceback.print_exc()
            reason = str(error) if isinstance(error, DetNASError) else said(error)
            return dict(failed=dict(arch=net['arch'], reason=reason))
        things[net['key']] = TimedRun(run, inputs.values, watch)
    print('measuring', flush=True)
    samples = interleaved(things, pace) if things else {}
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
    )


@torch.no_grad()
def _boxes(run: Run, inputs: Inputs) -> int:
    """How many boxes a net finds in the last image."""
    found = [run(value) for value in inputs.values][-1]
    return len(found[0].pred_instances)


def main() -> None:
    """Measures once what a folder asks for."""
    args_parser = argparse.ArgumentParser(description=__doc__)
    args_parser.add_argument('folder', type=Path)
    args_parser.add_argument('--key', required=True)
    args = args_parser.parse_args()
    with hold(args.folder):
        if read_result(args.folder, args.key) is None:
            write_result(args.folder, args.key, measure_session(args.folder))


if __name__ == '__main__':
    one_line_errors(main, on_terminal=False)
