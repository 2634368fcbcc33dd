"""The search space of MAE-DET (Sun et al., ICML 2022): width, kernel, depth and bottleneck of every super-block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.registry import SPACES
from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.backbones import COMMON_SETTINGS, replace_backbone
from detnas_mm.spaces.base import ArraySpace
from detnas_mm.spaces.images import agreed_channels, unless_rgb
from detnas_mm.systems.mae_det.presets import PRESETS, checked
from detnas_mm.systems.mae_det.rules import Rules
from detnas_mm.systems.mae_det.structure import read_structure, stage_ends, to_text, unpack

#: Mutations of the authors' code: factors of widths, and steps of depths.
WIDTH_FACTORS = (1.5, 1.25, 0.8, 0.6, 0.5)
DEPTH_STEPS = (-2, -1, 1, 2)
#: Number of mutations per child.
ROUNDS = 2


@SPACES.register_module()
class MAEDetSpace(ArraySpace):
    """Search space of MAE-DET: width, kernel, depth and bottleneck of super-blocks with fixed strides.

    Every drawn, mutated or crossed structure obeys the rules of the space, see
    :class:`~detnas_mm.systems.mae_det.rules.Rules`.

    Args:
        space: ``'authors'`` (the space of the authors' code), ``'relaxed'`` (wider, contains MAE-DET-S, -M and -L), or
            a mapping with any of the keys of these presets and optionally ``in_channels``; missing keys are as in
            ``'authors'``. ``growth`` and ``depths`` may be one pair for all blocks.
        in_channels: Channels of the images, such as 1 for grey ones. Defaults to that of ``space``, else 3.

    Raises:
        ValueError: If the preset is unknown, or a number is invalid.
    """

    gene_kinds = ('out', 'kernel', 'depth', 'bottleneck')
    latency_subject = 'detnas_mm.MAEDetLatencySubject'
    exact_strategy = 'ExactStrategy'
    in_channels: int

    def __init__(
        self, space: str | Mapping[str, Any] | MAEDetSpace = 'authors', in_channels: int | None = None
    ) -> None:
        if isinstance(space, MAEDetSpace):
            space = space.spec()
        if isinstance(space, str):
            if space not in PRESETS:
                raise DetNASError(
                    f'Unknown MAE-DET space {space!r}. Choose one of {sorted(PRESETS)} or give a mapping '
                    f'such as {PRESETS["authors"]}.'
                )
            space = PRESETS[space]
        self._spec = checked(space)
        self.in_channels = agreed_channels(in_channels, space.get('in_channels'))
        self.rules = Rules(self._spec)
        self.num_blocks = len(self._spec['strides'])

    # -- properties ---------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        return {key: _copied(value) for key, value in self._spec.items()} | unless_rgb(self.in_channels)

    @property
    def name(self) -> str:
        """Name of the preset (regardless of ``in_channels``), or ``'custom'``."""
        return next((name for name, preset in PRESETS.items() if checked(preset) == self._spec), 'custom')

    def __repr__(self) -> str:
        return f'MAEDetSpace({self.name!r}, {self.spec()})'

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of every super-block."""
        return tuple(self._spec['strides'])

    @cached_property
    def size(self) -> int:
        return self.rules.count()

    def smallest(self) -> Architecture:
        """Returns the member that is smallest in every gene."""
        return self.decode(self._codes(*self.rules.extreme(largest=False)))[0]

    def largest(self) -> Architecture:
        """Returns the member that is largest in every gene."""
        return self.decode(self._codes(*self.rules.extreme(largest=True)))[0]

    # -- rows and columns ---------------------------------------------------------------------------------------

    def _codes(self, widths: np.ndarray, kernels: np.ndarray, depths: np.ndarray, btns: np.ndarray) -> np.ndarray:
        """Packs columns into rows of genes: widths (n, blocks + 1) from the stem on, the others (n, blocks)."""
        codes = np.empty((len(widths), 3 + 5 * self.num_blocks), dtype=np.int64)
        codes[:, 0] = widths[:, 0]
        codes[:, 1:3] = self._spec['stem_kernel'], self._spec['stem_stride']
        for part, values in enumerate((widths[:, 1:], kernels, np.array([self.strides]), depths, btns)):
            codes[:, 3 + part :: 5] = values
        return codes

    @staticmethod
    def _columns(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Unpacks rows of genes into columns, the inverse of :meth:`_codes`; copies."""
        widths = np.concatenate([codes[:, :1], codes[:, 3::5]], axis=1)
        return widths, codes[:, 4::5].copy(), codes[:, 6::5].copy(), codes[:, 7::5].copy()

    def contains(self, codes: np.ndarray) -> np.ndarray:
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != 3 + 5 * self.num_blocks:
            return np.zeros(len(codes), dtype=bool)
        fixed = codes[:, 1] == self._spec['stem_kernel']
        fixed &= codes[:, 2] == self._spec['stem_stride']
        fixed &= (codes[:, 5::5] == self.strides).all(axis=1)
        return fixed & self.rules.hold(*self._columns(codes))

    # -- drawing ------------------------------------------------------------------------------------------------

    def sample_codes(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws genes from the stem on, each uniformly over the values that the genes before it allow."""
        return self._codes(*self.rules.draw(rng, count))

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self.decode(self.sample_codes(rng, 1))[0]

    def sample_many(self, rng: np.random.Generator, count: int) -> list[Architecture]:
        return self.decode(self.sample_codes(rng, count))

    def mutate_codes(
        self, codes: np.ndarray, rng: np.random.Generator, prob: float, kinds: Sequence[str] | None = None
    ) -> np.ndarray:
        """Mutates rows in two rounds; each changes one gene of one block with probability ``prob``.

        As in the authors' code, widths are multiplied by one of :data:`WIDTH_FACTORS` and rounded to the step, depths
        change by one or two, kernels are replaced by another one. The new value is then clipped to what the rest of the
        structure allows, and the bottleneck to what a new width allows. Unlike in the authors' code, the last block can
        change, too.

        Raises:
            ValueError: If a kind is unknown.
        """
        kinds = self.gene_kinds if kinds is None else tuple(kinds)
        if not kinds or not set(kinds) <= set(self.gene_kinds):
            raise DetNASError(f'kinds of a mutation must be among {", ".join(self.gene_kinds)}; got {list(kinds)}.')
        widths, kernels, depths, btns = self._columns(np.asarray(codes))
        count = len(codes)
        for _ in range(ROUNDS):
            active = rng.random(count) < prob
            block = rng.integers(0 if 'out' in kinds else 1, self.num_blocks + 1, size=count)
            kind = np.array([self.gene_kinds.index(k) for k in kinds])[rng.integers(len(kinds), size=count)]
            kind[block == 0] = 0  # the stem has only a width to change
            factor = np.array(WIDTH_FACTORS)[rng.integers(len(WIDTH_FACTORS), size=count)]
            step = np.array(DEPTH_STEPS)[rng.integers(len(DEPTH_STEPS), size=count)]
            other = rng.integers(max(len(self.rules.kernels) - 1, 1), size=count)
            for number in range(self.num_blocks + 1):
                here = active & (block == number)
                rows = np.flatnonzero(here & (kind == 0))
                self.rules.set_width(widths, btns, rows, number, widths[rows, number] * factor[rows])
                if number == 0:
                    continue
                rows = np.flatnonzero(here & (kind == 1))
                self.rules.next_kernel(kernels, rows, number, other[rows])
                rows = np.flatnonzero(here & (kind == 2))
                self.rules.set_depth(depths, rows, number, depths[rows, number - 1] + step[rows])
                rows = np.flatnonzero(here & (kind == 3))
                self.rules.set_bottleneck(widths, btns, rows, number, btns[rows, number - 1] * factor[rows])
        return self._codes(widths, kernels, depths, btns)

    def mutate(self, arch: Architecture, rng: np.random.Generator, prob: float) -> Architecture:
        """See :meth:`mutate_codes`.

        Raises:
            ValueError: If the architecture is no member.
        """
        self.validate(arch)
        return self.decode(self.mutate_codes(self.encode([arch]), rng, prob))[0]

    def crossover(self, first: Architecture, second: Architecture, rng: np.random.Generator) -> Architecture:
        """Takes the stem and every super-block from either parent, then repairs widths that violate the rules.

        From the stem on, each width is set to the nearest that the width before it allows, then the bottleneck to the
        nearest that its width allows.

        Raises:
            ValueError: If a parent is no member.
        """
        self.validate(first)
        self.validate(second)
        parents = self._columns(self.encode([first, second]))
        pick = rng.integers(2, size=self.num_blocks + 1)
        blocks = np.arange(self.num_blocks)
        widths = parents[0][pick, np.arange(self.num_blocks + 1)][None]
        kernels, depths, btns = (part[pick[1:], blocks][None] for part in parents[1:])
        self.rules.repair(widths, btns)
        return self.decode(self._codes(widths, kernels, depths, btns))[0]

    # -- reading and writing ------------------------------------------------------------------------------------

    def parse(self, value: Any) -> Architecture:
        """Reads a published name, text, the authors' list of dicts, genes, or an :class:`Architecture`.

        Raises:
            ValueError: If it is no structure, not in this space, or for images of other channels; names block and rule.
        """
        arch = read_structure(value, self.in_channels)
        codes = self.encode([arch])
        if not self.contains(codes)[0]:
            raise DetNASError(f'{to_text(arch)} is not in this space ({self.name}): {self._broken_rule(codes)}')
        return arch

    def describe(self, arch: Architecture) -> str:
        return to_text(arch)

    def configure(self, cfg: Mapping[str, Any], arch: Architecture) -> dict[str, Any]:
        """See :meth:`SearchSpace.configure`: a :class:`MAEDetNet` in the backbone's place."""
        arch = self.parse(arch)
        _, blocks = unpack(arch)
        channels = [blocks[i].out for i in stage_ends(self.strides)]
        backbone = dict(type='detnas_mm.MAEDetNet', arch=to_text(arch), **unless_rgb(self.in_channels))
        return replace_backbone(cfg, backbone, channels, (*COMMON_SETTINGS, 'zero_init_residual', 'min_loaded'))

    def _broken_rule(self, codes: np.ndarray) -> str:
        blocks = (codes.shape[1] - 3) // 5
        if blocks != self.num_blocks:
            return f'it has {blocks} blocks after the stem; this space has {self.num_blocks}.'
        kernel, stride = self._spec['stem_kernel'], self._spec['stem_stride']
        if tuple(codes[0, 1:3]) != (kernel, stride):
            return f'the stem has kernel {codes[0, 1]} and stride {codes[0, 2]}; this space has {kernel} and {stride}.'
        for number, (own, here) in enumerate(zip(codes[0, 5::5].tolist(), self.strides, strict=True), 1):
            if own != here:
                return f'block {number} has stride {own}; this space has {here}.'
        return self.rules.first_broken(*self._columns(codes))


def _copied(value: Any) -> Any:
    return [_copied(item) for item in value] if isinstance(value, list) else value
