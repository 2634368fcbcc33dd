"""Counts multiply-adds of a detector by its config. Imports torch."""

from __future__ import annotations

from mmengine.config import Config

from detnas_mm.cost.count import count_detector_macs
from detnas_mm.errors import DetNASError, said
from detnas_mm.evaluators.temporary import quiet
from detnas_mm.latency.whole import WholeNet
from detnas_mm.models import build_model, without_memory


def macs_of(net: WholeNet) -> int:
    """Returns the multiply-adds for one image.

    Raises:
        DetNASError: If the net cannot be built or counted; names it.
    """
    try:
        with quiet(), without_memory():
            model = build_model(Config.fromstring(net.text, '.py'))
        return count_detector_macs(model, net.input_size, net.channels)
    except Exception as error:  # of any kind: it names the net
        reason = error if isinstance(error, DetNASError) else said(error)
        raise DetNASError(f'{net.arch} cannot be counted: {reason}') from error
