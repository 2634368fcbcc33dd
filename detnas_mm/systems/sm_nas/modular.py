"""Modular space of SM-NAS: searches the modules inside detectors whose combination of modules is fixed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detnas_mm.checks import whole
from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS, SPACES
from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.backbones import replace_backbone
from detnas_mm.spaces.base import SearchSpace
from detnas_mm.systems.sm_nas.codes import BlockCode, edit, random_code
from detnas_mm.systems.sm_nas.modules import EXAMPLE, STAGES, Limits, Modules, moved, precedes, share
from detnas_mm.systems.sm_nas.recipe import from_scratch, read_not_taken, read_recipe, unfrozen
from detnas_mm.systems.sm_nas.seeds import KEPT, Seed, read_seeds

#: Maximum number of draws for a mutation whose code is within the limits.
_TRIES = 100


@SPACES.register_module()
class ModularSpace(SearchSpace):
    """Search space over the backbone's code and base channels and the neck's channels of given detectors.

    The second stage of SM-NAS (Yao et al., AAAI 2020, section 3.2). Model, pipelines and type of blocks of a detector
    are fixed. The seeds are members, and the first candidates of a search.

    Args:
        seeds: Config files of detectors (exported by a search or any of mmdet's), or
            ``dict(file='…/best.json', ids=[…])`` for nets of a search; one or a list. A warning names detectors that no
            code describes (their backbone is no ResNet, ResNeXt or ``SMNASBackbone``); they are left out.
        base: Allowed base channels of the backbone.
        neck: Allowed output channels of the neck.
        doublings: Number of blocks that double the channels in a backbone of four stages; one less for each stage less.
        depth: Minimum and maximum number of blocks.
        base_move: Probability that a mutation moves the base channels to a neighbouring value. Defaults to 0.5, as in
            the authors' early code.
        neck_move: The same for the neck's channels, which the paper leaves open. Defaults to 0.5.
        edits: Number of edits of the code in a mutation. Defaults to 3, as in the authors' early code.
        radius: Maximum distance of two symbols that an edit swaps. Defaults to 1, as in the authors' early code.
        recipe: ``'from_scratch'``, the default, gives each detector group normalisation and weight standardisation
            (:func:`~detnas_mm.systems.sm_nas.recipe.from_scratch`); a dict of its ``norm_cfg`` and ``conv_cfg`` gives
            other layers; None keeps norms and convolutions of the seed. All three train from random weights: no weights
            are loaded, and parts that a seed freezes (``norm_eval``, ``frozen_stages``, norms with
            ``requires_grad=False``) are trained. With None a warning names these settings.
        not_taken: Arguments out of ``norm_cfg`` and ``conv_cfg`` that types of necks and heads do not accept, by type,
            as in ``{'MyNeck': ['conv_cfg']}``.

    Attributes:
        starting_points: The seeds as architectures.
        left_out: A line for each detector that cannot be a seed.

    Raises:
        DetNASError: If a setting does not fit, a file cannot be read, or there is no seed left.
    """

    def __init__(
        self,
        seeds: Any,
        base: Sequence[int] = (48, 56, 64, 72),
        neck: Sequence[int] = (128, 256, 384),
        doublings: int = 3,
        depth: Sequence[int] = (5, 35),
        base_move: float = 0.5,
        neck_move: float = 0.5,
        edits: int = 3,
        radius: int = 1,
        recipe: str | Mapping[str, Any] | None = 'from_scratch',
        not_taken: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.limits = Limits.checked(base, neck, doublings, depth)
        self.moves = {
            name: share(name, value) for name, value in dict(base_move=base_move, neck_move=neck_move).items()
        }
        self.edits = whole('edits', edits, 1)
        self.radius = whole('radius', radius, 1)
        self.recipe = read_recipe('search.space.recipe', recipe)
        self.not_taken = read_not_taken(not_taken)
        self.combinations: dict[str, Seed] = {}
        self.starting_points, self.left_out = self._start(*read_seeds(seeds))
        self._spec = self._made_spec()

    def _start(self, seeds: list[Seed], left_out: list[str]) -> tuple[list[Architecture], list[str]]:
        """Groups seeds by combination of modules; returns their architectures, and a line for each left out."""
        names: dict[str, str] = {}
        points: list[Architecture] = []
        frozen: list[str] = []
        for seed in seeds:
            seed = replace(seed, model=self._trained(seed.model))  # seeds that differ in replaced layers are alike
            what = repr(seed.fixed)
            name = names.get(what, f'seed{len(names) + 1}')
            point = Architecture((name, seed.base, seed.code, seed.neck))
            reason = self.limits.broken(seed.base, seed.code, seed.neck)
            if not reason and point in points:
                reason = f'it is the same detector as {self._read(point)}'
            if reason:
                left_out.append(f'{seed.source} ({reason})')
                continue
            if what not in names:
                names[what] = name
                self.combinations[name] = seed
            points.append(point)
            frozen += [f'{seed.source} ({", ".join(seed.frozen)})'] if seed.frozen else []
        if not points:
            raise DetNASError(
                f'search.space.seeds: no detector can be used. {"; ".join(left_out) or "None was given"}. Give '
                f'detectors with a neck whose backbone is a ResNet, ResNeXt or SMNASBackbone, within base, '
                f'neck and depth of search.space.'
            )
        if left_out:
            warnings.warn(f'search.space.seeds: left out {"; ".join(left_out)}.', stacklevel=3)
        if frozen and self.recipe is None:
            warnings.warn(
                f'search.space: recipe=None trains from random weights, so parts that seeds freeze are trained as '
                f'well: {"; ".join(frozen)}.',
                stacklevel=3,
            )
        return points, left_out

    def _trained(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a model config with the layers of the recipe and nothing frozen."""
        if self.recipe is None:
            return unfrozen(model)
        return from_scratch(model, **self.recipe, not_taken=self.not_taken)

    # -- properties ---------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        codes = sum(self.limits.codes(one.stages) for one in self.combinations.values())
        return codes * len(self.limits.base) * len(self.limits.neck)

    def spec(self) -> dict[str, Any]:
        """Returns settings and seeds, with model and pipelines in place of file names; see :meth:`SearchSpace.spec`."""
        return copy.deepcopy(self._spec)

    def _made_spec(self) -> dict[str, Any]:
        combinations = {name: one.fixed for name, one in self.combinations.items()}
        return dict(
            type='ModularSpace',
            combinations=combinations,
            seeds=[self.describe(point) for point in self.starting_points],
            base=list(self.limits.base),
            neck=list(self.limits.neck),
            doublings=self.limits.doublings,
            depth=list(self.limits.depth),
            edits=self.edits,
            radius=self.radius,
            # recipe=None of the structural space is another recipe: it loads pre-trained weights
            recipe='of the seeds' if self.recipe is None else self.recipe,
            **(dict(not_taken=self.not_taken) if self.not_taken else {}),
            **self.moves,
        )

    # -- drawing ------------------------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draws combination, base and neck uniformly, and a code by :func:`.random_code`."""
        limits = self.limits
        name = list(self.combinations)[rng.integers(len(self.combinations))]
        base, neck = (values[rng.integers(len(values))] for values in (limits.base, limits.neck))
        stages = self.combinations[name].stages
        code = random_code(rng, limits.depth, limits.doublings_of(stages), stages)
        return Architecture((name, base, str(code), neck))

    def mutate(self, arch: Architecture, rng: np.random.Generator, prob: float) -> Architecture:
        """Moves base and neck to neighbouring values and edits the code, each change with probability ``prob``.

        With ``prob=1`` it is the mutation of the authors' early code: the base moves with probability ``base_move``,
        then ``edits`` edits follow. Codes outside the limits are drawn again. Edits may cancel each other, so that the
        child equals its parent.

        Raises:
            DetNASError: If the architecture is not a member.
        """
        parent = self._read(self.parse(arch))
        base = moved(parent.base, self.limits.base, rng, prob * self.moves['base_move'])
        neck = moved(parent.neck, self.limits.neck, rng, prob * self.moves['neck_move'])
        edits = int(rng.binomial(self.edits, prob))
        code = parent.code
        for _ in range(_TRIES):
            child = BlockCode.parse(parent.code)
            for _ in range(edits):
                child = edit(child, rng, self.radius)
            if not self.limits.broken(base, str(child), neck, self.combinations[parent.seed].stages):
                code = str(child)
                break
        return Architecture((parent.seed, base, code, neck))

    def crossover(self, first: Architecture, second: Architecture, rng: np.random.Generator) -> Architecture:
        """Takes combination and code, base, and neck each from a parent drawn at random. The paper has no crossover.

        Raises:
            DetNASError: If a parent is not a member.
        """
        parents = [self._read(self.parse(arch)) for arch in (first, second)]
        whole_, base, neck = (parents[i] for i in rng.integers(2, size=3))
        return Architecture((whole_.seed, base.base, whole_.code, neck.neck))

    def precedes(self, first: Architecture, second: Architecture) -> bool:
        """Returns whether the first precedes the second in the partial order of :func:`.modules.precedes`."""
        return precedes(self._read(first), self._read(second))

    # -- reading and writing ------------------------------------------------------------------------------------

    def parse(self, value: Any) -> Architecture:
        """Parses text such as ``'seed1:basic_64_1-21-21-12_128'``, genes, or an :class:`Architecture`.

        Raises:
            DetNASError: If it is not a member of this space; gives the reason.
        """
        if isinstance(value, str):
            read = Modules.parse(value)
        else:
            genes = getattr(value, 'genes', value)
            kinds = (str, int, str, int)
            if not isinstance(genes, (list, tuple)) or tuple(map(type, genes)) != kinds:
                raise DetNASError(f'An architecture of this space is written as {EXAMPLE}; got {value!r}.')
            seed, base, code, neck = genes
            block = self.combinations[seed].block if seed in self.combinations else ''
            read = Modules(seed, block, base, code, neck)
        if read.seed not in self.combinations:
            raise DetNASError(f'Unknown seed {read.seed!r}; this space has {", ".join(self.combinations)}.')
        block = self.combinations[read.seed].block
        reason = self.limits.broken(read.base, read.code, read.neck, self.combinations[read.seed].stages)
        if read.block != block:
            reason = f'its blocks are {read.block}, and those of {read.seed} are {block}'
        if reason:
            raise DetNASError(f'{read} is not in this space: {reason}.')
        return Architecture((read.seed, read.base, str(BlockCode.parse(read.code)), read.neck))

    def _read(self, arch: Architecture) -> Modules:
        seed, base, code, neck = arch.genes
        return Modules(seed, self.combinations[seed].block, base, code, neck)

    def describe(self, arch: Architecture) -> str:
        return str(self._read(arch))

    def encode(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Returns rows of combination number, base, neck, stage lengths, and blocks padded with 0."""
        names = list(self.combinations)
        rows = np.zeros((len(archs), 3 + STAGES + self.limits.depth[1]), dtype=np.int64)
        for row, arch in zip(rows, archs, strict=True):
            seed, base, code, neck = arch.genes
            stages = BlockCode.parse(code).stages
            blocks = [block for stage in stages for block in stage]
            row[:3] = names.index(seed), base, neck
            row[3 : 3 + len(stages)] = [len(stage) for stage in stages]
            row[3 + STAGES : 3 + STAGES + len(blocks)] = blocks
        return rows

    def decode(self, codes: np.ndarray) -> list[Architecture]:
        """Inverts :meth:`encode`."""
        names = list(self.combinations)
        found = []
        for seed, base, neck, *rest in np.asarray(codes).tolist():
            ends = np.cumsum([0, *rest[:STAGES]]).tolist()
            stages = [rest[STAGES + a : STAGES + b] for a, b in zip(ends, ends[1:], strict=False) if a < b]
            code = '-'.join(''.join(map(str, stage)) for stage in stages)
            found.append(Architecture((names[seed], base, code, neck)))
        return found

    def check(self, cfg: Mapping[str, Any]) -> None:
        """Builds all seeds on the meta device.

        Raises:
            DetNASError: If one does not build, for example with the recipe's norms; names it.
        """
        for point in self.starting_points:
            name = f'{self.combinations[point.genes[0]].source}, as {self.describe(point)},'
            # looked up by name, so that torch is imported only where something is built
            MODELS.get('detnas_mm.check_seed')(self.configure(cfg, point), name)

    def configure(self, cfg: Mapping[str, Any], arch: Architecture) -> dict[str, Any]:
        """Returns the config with the detector's model and pipelines; see :meth:`SearchSpace.configure`."""
        read = self._read(self.parse(arch))
        seed = self.combinations[read.seed]
        backbone = dict(type='detnas_mm.SMNASBackbone', code=read.code, base=read.base, block=read.block)
        channels = BlockCode.parse(read.code).channels(read.base, read.block)
        model = replace_backbone(dict(model=seed.with_neck(read.neck)), backbone, channels, KEPT)['model']
        out = copy.deepcopy(dict(cfg))
        out['model'] = self._trained(model)
        seed.complete(out)
        return out
