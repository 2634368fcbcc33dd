"""Training-free scores: the entropy of MAE-DET and the score of DeepMAD."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.checks import checked_input_size, whole
from detnas_mm.errors import DetNASError
from detnas_mm.registry import EVALUATORS, RANKERS
from detnas_mm.search.evaluator import ArrayEvaluator
from detnas_mm.search.prefilter import Ranker
from detnas_mm.search.record import Evaluation
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.spaces.images import RGB, agreed_channels, unless_rgb
from detnas_mm.systems.mae_det.blocks import columns
from detnas_mm.systems.mae_det.entropy import WEIGHTS, EntropySum, check_stages, checked_weights, entropies, stage_sums
from detnas_mm.systems.mae_det.structure import read_with_channels

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


class StructureScore(ArrayEvaluator, Ranker):
    """Base of scores that are formulas of a structure; usable as evaluator and as ranker of a prefilter.

    Subclasses implement :meth:`score_codes`. Scoring works without :meth:`setup`.

    Args:
        in_channels: Channels of the images. Defaults to those of the search space; outside of a search to those of the
            structure, else 3.

    Attributes:
        metric: Name of the score in ledger rows and objectives.
    """

    metric = 'entropy'
    _asked: int | None = None
    _taken: int | None = None

    def __init__(self, in_channels: int | None = None) -> None:
        self._asked = in_channels if in_channels is None else whole('in_channels', in_channels, 1)
        self._taken = self._asked

    @property
    def in_channels(self) -> int:
        """Channels of the images of structures that do not state them."""
        return RGB if self._taken is None else self._taken

    def take_channels(self, space: SearchSpace) -> None:
        """Sets the channels of the images to those of a space.

        Raises:
            DetNASError: If ``in_channels`` was given and differs.
        """
        self._taken = agreed_channels(self._asked, space.in_channels)

    def check(self, job: SearchJob) -> None:
        """See :meth:`Evaluator.check`.

        Raises:
            ValueError: If the space has no structures, or the settings do not match its structures.
        """
        try:
            self.take_channels(job.space)
            self.score_codes(job.space.encode([job.space.sample(np.random.default_rng(0))]))
        except ValueError as error:
            raise DetNASError(f'{type(self).__name__} cannot score {job.space!r}: {error}') from error

    def setup(self, job: SearchJob, model: Any = None) -> None:
        """See :class:`Evaluator` and :class:`Ranker`; scores depend only on the settings."""
        self.check(job)

    def scores(self, archs: Iterable[Any]) -> np.ndarray:
        """Returns the scores of many structures.

        Args:
            archs: Published names, texts, lists of dicts or :class:`Architecture` objects, of any number of blocks.

        Returns:
            Array of shape (candidates,).

        Raises:
            ValueError: If one is no structure, has other channels than ``in_channels``, or another number of stages
                than there are stage weights.
        """
        if isinstance(archs, (str, Architecture)):
            raise DetNASError(
                f'{archs!r:.200} is one structure: use score() for it; scores() takes a list of structures.'
            )
        archs = list(archs)
        if archs and all(isinstance(arch, Mapping) for arch in archs):
            raise DetNASError(
                f'The list contains the {len(archs)} blocks of one structure: use score() for it; scores() takes a '
                f'list of structures.'
            )
        kinds = defaultdict(list)
        genes = []
        for number, arch in enumerate(archs):
            read, channels = read_with_channels(arch, self._taken)
            genes.append(read.genes)
            kinds[len(read.genes), channels].append(number)
        out = np.empty(len(genes))
        for (_, channels), rows in kinds.items():
            score = copy.copy(self)
            score._taken = channels
            out[rows] = score.score_codes(np.array([genes[i] for i in rows]))
        return out

    def score(self, arch: Any) -> float:
        """Returns the score of one structure, see :meth:`scores`."""
        return self.scores([arch])[0].item()

    def evaluate(self, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """See :class:`Evaluator`."""
        for value in self.scores(archs).tolist():
            yield Evaluation({self.metric: value})


@RANKERS.register_module()
@EVALUATORS.register_module()
class EntropyScore(StructureScore):
    """Multi-scale entropy of feature maps (Sun et al., MAE-DET, ICML 2022, sections 4.1 to 4.3).

    Computed in closed form, see :mod:`detnas_mm.systems.mae_det.entropy`: more than a million structures a second.
    :func:`detnas_mm.systems.mae_det.entropy_forward.forward_entropy` measures the same on a built net. It ranks nets of
    one family at equal budgets; it does not predict which of two families is more accurate.

    Args:
        weights: One per stage, from the stem on. Defaults to the authors' (0, 0, 1, 1, 6).
        input_size: (height, width) in pixels, to take zero padding into account. Defaults to None, which ignores
            borders, as the authors' code does.
        in_channels: See :class:`StructureScore`.

    Raises:
        ValueError: If a weight is not a number of at least 0, or the size is invalid.
    """

    def __init__(
        self,
        weights: Sequence[float] = WEIGHTS,
        input_size: int | Sequence[int] | None = None,
        in_channels: int | None = None,
    ) -> None:
        super().__init__(in_channels)
        self.stage_weights = checked_weights(weights)
        self.input_size = None if input_size is None else checked_input_size(input_size)

    def spec(self) -> dict[str, Any]:
        size = None if self.input_size is None else list(self.input_size)
        spec = dict(type='EntropyScore', weights=list(self.stage_weights), input_size=size)
        return spec | unless_rgb(self.in_channels)

    def score_codes(self, codes: np.ndarray) -> np.ndarray:
        return entropies(codes, self.stage_weights, self.input_size, self.in_channels)

    def block_sum(self, strides: Sequence[int]) -> EntropySum:
        """Returns the score as a sum over blocks, for exact search; ``strides`` begins with the stem's.

        Raises:
            ValueError: If ``input_size`` is set: with borders, a block's term depends on the blocks before it.
        """
        if self.input_size is not None:
            raise DetNASError(
                f'EntropyScore with input_size={self.input_size} is no sum over blocks, which exact search requires: '
                f'leave input_size out.'
            )
        return EntropySum(self.stage_weights, strides, self.in_channels)


@RANKERS.register_module()
@EVALUATORS.register_module()
class DeepMADScore(StructureScore):
    """Score of DeepMAD (Shen et al., CVPR 2023, section 3), as in the authors' code.

    Sum of r_i * (ln C_i + 2 ln mapsize_i) * H_i, where H_i sums, over convolutions from the stem to the end of stage i,
    half of ``channel_exponent`` * ln c_in + 2 * ``kernel_exponent`` * ln k; minus ``depth_penalty`` * exp(standard
    deviation of the super-blocks' depths). Constrain the cost ``StructureDepthToWidth`` with it, as the paper does.

    Args:
        weights: r_i, one per stage, from the stem on.
        input_size: (height, width) in pixels.
        channel_exponent: Weight of the channels.
        kernel_exponent: Weight of the kernels.
        depth_penalty: Weight of the penalty for unequal depths.
        in_channels: See :class:`StructureScore`.

    Raises:
        ValueError: If a number is invalid.
    """

    metric = 'deepmad'

    def __init__(
        self,
        weights: Sequence[float] = (1, 1, 1, 1, 8),
        input_size: int | Sequence[int] = (224, 224),
        channel_exponent: float = 1.0,
        kernel_exponent: float = 1.0,
        depth_penalty: float = 10.0,
        in_channels: int | None = None,
    ) -> None:
        super().__init__(in_channels)
        self.stage_weights = checked_weights(weights)
        self.input_size = checked_input_size(input_size)
        exponents = channel_exponent, kernel_exponent, depth_penalty
        if not all(type(number) in (int, float) and 0 <= number < float('inf') for number in exponents):
            raise DetNASError(
                f'channel_exponent, kernel_exponent and depth_penalty must be at least 0; got {exponents}.'
            )
        self.exponents = (float(channel_exponent), float(kernel_exponent))
        self.depth_penalty = float(depth_penalty)

    def spec(self) -> dict[str, Any]:
        return dict(
            type='DeepMADScore', weights=list(self.stage_weights), input_size=list(self.input_size),
            exponents=list(self.exponents), depth_penalty=self.depth_penalty, **unless_rgb(self.in_channels),
        )  # fmt: skip

    def score_codes(self, codes: np.ndarray) -> np.ndarray:
        out = np.empty(len(codes))
        for rows, genes in columns(codes):
            check_stages(self.stage_weights, genes.strides)
            total = -self.depth_penalty * np.exp(np.std(np.stack(genes.depths), axis=0))
            sums = stage_sums(genes, self.input_size, *self.exponents, self.in_channels)
            for weight, entropy, width, (height, breadth) in sums:
                # ln of the area, which is 2 ln mapsize for square maps.
                total = total + self.stage_weights[weight] * (np.log(width) + np.log(height * breadth)) * entropy
            out[rows] = total
        return out
