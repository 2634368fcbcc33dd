"""The second space of SM-NAS: what is in the modules of detectors whose combination of modules stands."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detnas_mm.checks import whole
from detnas_mm.config_types import comparable
from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS, SPACES
from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.backbones import replace_backbone
from detnas_mm.spaces.base import SearchSpace
from detnas_mm.systems.sm_nas.codes import BlockCode, edit, random_code
from detnas_mm.systems.sm_nas.modules import EXAMPLE, STAGES, Limits, Modules, moved, precedes, share
from detnas_mm.systems.sm_nas.recipe import from_scratch, read_not_taken, read_recipe, unfrozen
from detnas_mm.systems.sm_nas.seeds import KEPT, Seed, read_seeds, set_pipelines

#: How often a mutation is drawn again whose code is too deep or too shallow.
_TRIES = 100


@SPACES.register_module()
class ModularSpace(SearchSpace):
    """Backbones written as codes, and channels of the neck, within detectors that are given.

    The second stage of SM-NAS (Yao et al., AAAI 2020, section 3.2). A detector's model, pipelines and kind of blocks
    stay as they are. The seeds are members, and where a search begins.

    Args:
        seeds: What it starts from: config files of detectors, exported ones or any of mmdet's, or
            ``dict(file='…/best.json', ids=[…])`` for nets of a search; one or a list. Detectors whose backbone has no
            code (it is no ResNet, ResNeXt or ``SMNASBackbone``) are named by a warning and left out.
        base: Base channels that the backbone may have.
        neck: Output channels that the neck may have.
        doublings: Blocks that double the channels, of four stages; a backbone that ends earlier has one less for each
            stage less.
        depth: Smallest and largest number of blocks.
        base_move: Probability that a mutation moves the base to a neighbouring value. Defaults to 0.5, as in the
            authors' early code.
        neck_move: The same for the neck, which the paper leaves open. Defaults to 0.5.
        edits: Edits of the code a mutation. Defaults to the 3 of the authors' early code.
        radius: Largest distance over which an edit swaps. Defaults to the 1 of the authors' early code.
        recipe: ``'from_scratch'``, the default: every detector gets group normalisation and weight standardisation,
            see :func:`~detnas_mm.systems.sm_nas.recipe.from_scratch`; a dict of its ``norm_cfg`` and ``conv_cfg`` for
            other layers. None: norms and convolutions are the seed's. Either way detectors train from random weights:
            nothing is loaded, and what a seed freezes (``norm_eval``, ``frozen_stages``, norms with
            ``requires_grad=False``) is trained; with None a warning names it.
        not_taken: By type, which of ``norm_cfg`` and ``conv_cfg`` of the recipe necks and heads have no argument for,
            as in ``{'MyNeck': ['conv_cfg']}``; the values of a :class:`StructuralSpace` say it themselves.

    Attributes:
        starting_points: The seeds as architectures.
        left_out: A line for each detector that is no seed.

    Raises:
        DetNASError: If a setting does not fit, a file cannot be read, or no seed is left.
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
        """Sorts seeds into combinations of modules; returns them as architectures, and lines of those left out."""
        names: dict[str, str] = {}
        points: list[Architecture] = []
        frozen: list[str] = []
        for seed in seeds:
            seed = replace(seed, model=self._trained(seed.model))  # seeds may differ in what the recipe replaces
            what = repr(_constant(seed))
            name = names.get(what, f'seed{len(names) + 1}')
            point = Architecture((name, seed.base, seed.code, seed.neck))
            reason = self.limits.broken(seed.base, seed.code, seed.neck)
            if not reason and point in points:
                reason = f'it is the same as {self._read(point)}'
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
                f'search.space.seeds: none is left to start from. {"; ".join(left_out) or "None was given"}. Give '
                f'detectors with a neck whose backbone is a ResNet, a ResNeXt or an SMNASBackbone within base, neck '
                f'and depth of search.space.'
            )
        if left_out:
            warnings.warn(f'search.space.seeds: left out {"; ".join(left_out)}.', stacklevel=3)
        if frozen and self.recipe is None:
            warnings.warn(
                f'search.space: recipe=None trains detectors from random weights, so what seeds freeze is trained as '
                f'well: {"; ".join(frozen)}.',
                stacklevel=3,
            )
        return points, left_out

    def _trained(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """A model config as the recipe trains it."""
        if self.recipe is None:
            return unfrozen(model)
        return from_scratch(model, **self.recipe, not_taken=self.not_taken)

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        codes = sum(self.limits.codes(one.stages) for one in self.combinations.values())
        return codes * len(self.limits.base) * len(self.limits.neck)

    def spec(self) -> dict[str, Any]:
        """See :meth:`SearchSpace.spec`: detectors by what they are, not by the files they are read from."""
        return copy.deepcopy(self._spec)

    def _made_spec(self) -> dict[str, Any]:
        combinations = {name: _constant(one) for name, one in self.combinations.items()}
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
            # None of the structural space is another one: ImageNet's weights.
            recipe='of the seeds' if self.recipe is None else self.recipe,
            **(dict(not_taken=self.not_taken) if self.not_taken else {}),
            **self.moves,
        )

    # -- drawing ------------------------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draws combination, base and neck uniformly, and a code of any depth, see :func:`.random_code`."""
        limits = self.limits
        name = list(self.combinations)[rng.integers(len(self.combinations))]
        base, neck = (values[rng.integers(len(values))] for values in (limits.base, limits.neck))
        stages = self.combinations[name].stages
        code = random_code(rng, limits.depth, limits.doublings_of(stages), stages)
        return Architecture((name, base, str(code), neck))

    def mutate(self, arch: Architecture, rng: np.random.Generator, prob: float) -> Architecture:
        """Moves base and neck to a neighbouring value and edits the code, each of these with probability ``prob``.

        With probability 1 it is the mutation of the authors' early code: a move of the base with probability
        ``base_move``, then ``edits`` edits. Codes that are too deep or too shallow are drawn again. Edits may undo one
        another, so that a child is its parent.

        Raises:
            ValueError: If the architecture is no member.
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
        """Takes the combination with its code, the base and the neck from either parent. The paper has none.

        Raises:
            ValueError: If a parent is no member.
        """
        parents = [self._read(self.parse(arch)) for arch in (first, second)]
        whole_, base, neck = (parents[i] for i in rng.integers(2, size=3))
        return Architecture((whole_.seed, base.base, whole_.code, neck.neck))

    def precedes(self, first: Architecture, second: Architecture) -> bool:
        """Whether the first comes before the second in the partial order, see :func:`.modules.precedes`."""
        return precedes(self._read(first), self._read(second))

    # -- reading and writing ------------------------------------------------------------------------------------

    def parse(self, value: Any) -> Architecture:
        """Reads a text such as ``'seed1:basic_64_1-21-21-12_128'``, genes, or an :class:`Architecture`.

        Raises:
            ValueError: If it is no member of this space; says why.
        """
        if isinstance(value, str):
            read = Modules.parse(value)
        else:
            genes = getattr(value, 'genes', value)
            kinds = (str, int, str, int)
            if not isinstance(genes, (list, tuple)) or tuple(map(type, genes)) != kinds:
                raise DetNASError(f'A detector is written as in {EXAMPLE}; got {value!r}.')
            seed, base, code, neck = genes
            block = self.combinations[seed].block if seed in self.combinations else ''
            read = Modules(seed, block, base, code, neck)
        if read.seed not in self.combinations:
            raise DetNASError(f'{read.seed!r} is no seed of this space; it has {", ".join(self.combinations)}.')
        block = self.combinations[read.seed].block
        reason = self.limits.broken(read.base, read.code, read.neck, self.combinations[read.seed].stages)
        if read.block != block:
            reason = f'its blocks are {read.block}, those of {read.seed} {block}'
        if reason:
            raise DetNASError(f'{read} is not in this space: {reason}.')
        return Architecture((read.seed, read.base, str(BlockCode.parse(read.code)), read.neck))

    def _read(self, arch: Architecture) -> Modules:
        seed, base, code, neck = arch.genes
        return Modules(seed, self.combinations[seed].block, base, code, neck)

    def describe(self, arch: Architecture) -> str:
        return str(self._read(arch))

    def encode(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Number of the combination, base, neck, length of every stage, then the blocks, 0 beyond the last."""
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
        """The inverse of :meth:`encode`."""
        names = list(self.combinations)
        found = []
        for seed, base, neck, *rest in np.asarray(codes).tolist():
            ends = np.cumsum([0, *rest[:STAGES]]).tolist()
            stages = [rest[STAGES + a : STAGES + b] for a, b in zip(ends, ends[1:], strict=False) if a < b]
            code = '-'.join(''.join(map(str, stage)) for stage in stages)
            found.append(Architecture((names[seed], base, code, neck)))
        return found

    def check(self, cfg: Mapping[str, Any]) -> None:
        """Builds all seeds without memory.

        Raises:
            DetNASError: If one does not build, such as with the recipe's norms; names it.
        """
        for point in self.starting_points:
            name = f'{self.combinations[point.genes[0]].source}, as {self.describe(point)},'
            # by its name: a space loads no torch until something is to be built
            MODELS.get('detnas_mm.check_seed')(self.configure(cfg, point), name)

    def configure(self, cfg: Mapping[str, Any], arch: Architecture) -> dict[str, Any]:
        """See :meth:`SearchSpace.configure`: the whole model, and the pipelines of all loaders that the config has."""
        read = self._read(self.parse(arch))
        seed = self.combinations[read.seed]
        backbone = dict(type='detnas_mm.SMNASBackbone', code=read.code, base=read.base, block=read.block)
        channels = BlockCode.parse(read.code).channels(read.base, read.block)
        model = replace_backbone(dict(model=seed.with_neck(read.neck)), backbone, channels, KEPT)['model']
        out = copy.deepcopy(dict(cfg))
        out['model'] = self._trained(model)
        out.setdefault('default_scope', seed.scope)
        set_pipelines(out, seed.pipelines)
        if seed.imports:
            own = dict(out.get('custom_imports') or dict(allow_failed_imports=False))
            given = own.get('imports') or []
            known = [given] if isinstance(given, str) else list(given)
            out['custom_imports'] = own | dict(imports=list(dict.fromkeys([*known, *seed.imports])))
        return out


def _constant(seed: Seed) -> Any:
    """What a combination of modules keeps, comparable."""
    return comparable(dict(block=seed.block, stages=seed.stages, model=seed.model, pipelines=seed.pipelines))
