"""Registers the latency measurement of DetNAS supernets. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from detnas_mm.latency.choices import ChoiceSubject
from detnas_mm.registry import LATENCY_SUBJECTS


@LATENCY_SUBJECTS.register_module()
class DetNASLatencySubject(ChoiceSubject):
    """Measures every operation in every block; takes the arguments of :class:`ChoiceSubject`."""

    def modules(self, net: Any) -> Sequence[nn.Module]:
        return [net.stem, *net.blocks]
