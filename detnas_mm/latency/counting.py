"""Counts multiply-adds of a detector by its config. Imports torch."""

from __future__ import annotations

from mmengine.config import Config

from detnas_mm.cost.count import count_detector_macs
from detnas_mm.errors import DetNASError, said
from detnas_mm.evaluators.temporary import quiet
from detnas_mm.latency.whole import WholeNet
from detnas_mm.models import build_model, without_memory
from detnas_mm.workers import failure_of


def macs_of(net: WholeNet) -> int | str:
    """Returns the multiply-adds for one image, or the reason why the net cannot be built or counted.

    Raises:
        DetNASError: If a file or a module is missing, so that the net may not be at fault; names the net.
    """
    try:
        with quiet(), without_memory():
            model = build_model(Config.fromstring(net.text, '.py'))
        return count_detector_macs(model, net.input_size, net.channels)
    except Exception as error:  # of any kind: code of the net and of its config runs here
        reason = failure_of(error)
        if reason is None:
            raise DetNASError(f'{net.arch} cannot be counted: {said(error)}') from error
        return reason
