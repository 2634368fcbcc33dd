"""Entropy of the paths of a supernet: a zero-shot order of DetNAS's candidates, for its prefilter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detnas_mm.cost import AdditiveTable
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.entropy import WEIGHTS, checked_weights
from detnas_mm.registry import RANKERS
from detnas_mm.search import Objective, Ranker
from detnas_mm.spaces import Architecture, DetNASSpace, SearchSpace


@RANKERS.register_module()
class PathEntropy(Ranker):
    """Ranks paths by multi-scale entropy (Sun et al., MAE-DET, ICML 2022, section 4), applied to DetNAS's blocks.

    A block counts the convolutions of its main branch, half of ln (inputs an output) each; what passes it untouched or
    by the projection is a shortcut. Widths are the same for all paths, so kernels and the longer Xception blocks
    decide. Whether that says anything of a detector's mAP is for the prefilter to find out, which compares and
    switches itself off.

    Args:
        weights: One a stage, the stem's first. Defaults to the authors' (0, 0, 1, 1, 6).

    Raises:
        ValueError: If a weight is no number of at least 0.
    """

    def __init__(self, weights: Sequence[float] = WEIGHTS) -> None:
        self.weights = checked_weights(weights)

    def spec(self) -> dict[str, Any]:
        return dict(type='PathEntropy', weights=list(self.weights))

    def setup(self, space: SearchSpace, objective: Objective, seed: int) -> None:
        """See :class:`Ranker`.

        Raises:
            ValueError: If the space is another than DetNAS's, or has another number of stages than there are weights.
        """
        super().setup(space, objective, seed)
        if not isinstance(space, DetNASSpace):
            raise DetNASError(f'PathEntropy ranks paths of a DetNASSpace; got {type(space).__name__}.')
        if len(self.weights) != 1 + len(space.channels):
            raise DetNASError(
                f'There are {len(self.weights)} stage weights {self.weights}, and '
                f'{1 + len(space.channels)} stages: the stem and {len(space.channels)}.'
            )
        reach = np.cumsum(np.asarray(self.weights)[::-1])[::-1]
        table = np.zeros((space.num_blocks, space.num_choices))
        for block in space.blocks:
            for choice in range(space.num_choices):
                main, _ = space.convs(block, choice)
                inputs = [conv.cin // conv.groups * conv.kernel**2 for conv in main]
                table[block.index, choice] = reach[block.stage + 1] * 0.5 * np.log(inputs).sum()
        stem = space.stem_conv
        constant = reach[0] * 0.5 * np.log(stem.cin * stem.kernel**2)
        constant += np.dot(self.weights, np.log([stem.cout, *space.channels]))
        self._table = AdditiveTable('entropy', 'multi-scale entropy of paths', table, float(constant))

    def scores(self, archs: Sequence[Architecture]) -> np.ndarray:
        """See :meth:`Ranker.scores`."""
        return self._table.totals(self.space.encode(archs)) if len(archs) else np.empty(0)
