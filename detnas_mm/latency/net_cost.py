"""Base of costs of whole detectors, and their multiply-adds. Loads torch only to count."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.checks import checked_input_size
from detnas_mm.cost.base import CostModel
from detnas_mm.errors import DetNASError
from detnas_mm.latency.whole import WholeNet, whole_net
from detnas_mm.registry import COSTS, SPACES, build_from
from detnas_mm.spaces import Architecture, SearchSpace

if TYPE_CHECKING:
    from detnas_mm.search import SearchJob


class NetCost(CostModel):
    """Cost of whole detectors, as ``space.configure`` renders them into the searched config.

    Args:
        space: The space, or the config of one; its ``configure`` must return whole detectors.
        input_size: (height, width) in pixels, for candidates whose test pipeline has no scale. Defaults to None: such
            a candidate is an error.

    Raises:
        ValueError: If an argument does not fit.
    """

    lazy = True
    dear = True

    def __init__(self, space: SearchSpace | Mapping[str, Any], input_size: int | Sequence[int] | None = None) -> None:
        self.space: SearchSpace = build_from(SPACES, space)
        self.input_size = None if input_size is None else checked_input_size(input_size)
        self._searched: dict[str, Any] | None = None
        self._nets: dict[Architecture, WholeNet] = {}
        self._seen: dict[Architecture, float] = {}
        self._job: SearchJob | None = None
        self._log: Any = print

    def setup(self, job: SearchJob) -> None:
        """See :meth:`CostModel.setup`: keeps the searched config."""
        self._searched = {key: value for key, value in job.cfg.to_dict().items() if key != 'search'}
        self._job, self._log = job, job.log
        self._nets, self._seen = {}, {}

    def net(self, arch: Architecture) -> WholeNet:
        """Returns the detector that is measured or counted for an architecture.

        Raises:
            DetNASError: If there is none.
        """
        if self._searched is None:
            raise DetNASError(
                f'{type(self).__name__} needs the searched config to render detectors: call setup(job) first.'
            )
        if arch not in self._nets:
            self._nets[arch] = whole_net(self.space, self._searched, arch, self.input_size)
        return self._nets[arch]

    @abstractmethod
    def value(self, arch: Architecture) -> float:
        """Returns the cost of an architecture that was measured; NaN if that failed."""

    def totals(self, ids: np.ndarray) -> np.ndarray:
        """See :meth:`CostModel.totals`: measures those that are not known yet."""
        archs = self.space.decode(ids)
        self.measure(archs)
        found = [self.value(arch) for arch in archs]
        self._seen.update((arch, value) for arch, value in zip(archs, found, strict=True) if not math.isnan(value))
        return np.array(found)

    def seen(self) -> list[float]:
        """See :meth:`CostModel.seen`."""
        return list(self._seen.values())

    def bounds(self) -> tuple[float, float]:
        """Returns 0 and infinity: the range is not known before the whole space was measured."""
        return 0.0, float('inf')


@COSTS.register_module()
class NetMacs(NetCost):
    """Multiply-adds of whole detectors for one image, counted operator by operator: a cheap substitute for latency.

    Counted on torch's meta device, which needs no memory, at the input size of each candidate; papers call 1e9 of them
    GFLOPs. See :func:`~detnas_mm.cost.count.count_detector_macs`. A net that cannot be built or counted has failed, see
    :meth:`CostModel.failure`. Takes the arguments of :class:`NetCost`.
    """

    name = 'macs'
    scope = 'multiply-adds of convolutions and linear layers, whole detector, at the input size of each'

    def __init__(self, space: SearchSpace | Mapping[str, Any], input_size: int | Sequence[int] | None = None) -> None:
        super().__init__(space, input_size)
        self._counted: dict[str, int] = {}
        self._failed: dict[str, str] = {}

    def spec(self) -> dict[str, Any]:
        """See :meth:`CostModel.spec`."""
        return dict(type='NetMacs', input_size=self.input_size and list(self.input_size))

    def value(self, arch: Architecture) -> float:
        return self._counted.get(self.net(arch).key, math.nan)

    def failure(self, arch: Architecture) -> str | None:
        """See :meth:`CostModel.failure`; counts the net if it was not counted yet."""
        self.measure([arch])
        return self._failed.get(self.net(arch).key)

    def forget(self, archs: Sequence[Architecture]) -> None:
        """See :meth:`CostModel.forget`."""
        for arch in archs:
            self._failed.pop(self.net(arch).key, None)

    def measure(self, archs: Sequence[Architecture]) -> None:
        """See :meth:`CostModel.measure`: counts those that were not counted yet.

        Raises:
            DetNASError: If a file or a module of a net is missing; names the net.
        """
        for arch in archs:
            net = self.net(arch)
            if net.key in self._counted or net.key in self._failed:
                continue
            from detnas_mm.latency.counting import macs_of  # it loads torch

            found = macs_of(net)
            if isinstance(found, str):
                self._failed[net.key] = found
                self._log(f'{net.arch} cannot be counted and has failed: {found}')
            else:
                self._counted[net.key] = found
