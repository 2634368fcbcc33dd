"""Structural space of SM-NAS (Yao et al., AAAI 2020, section 3.1): whole detectors built of exchangeable parts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from detnas_mm.checks import whole
from detnas_mm.config_types import type_name
from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS, SPACES
from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.base import SearchSpace
from detnas_mm.spaces.images import RGB, backbone_channels
from detnas_mm.systems.sm_nas.compatibility import conflict, valid_ids
from detnas_mm.systems.sm_nas.conditions import FACTORS, check_fragments
from detnas_mm.systems.sm_nas.factors import Value, plain, read_factors
from detnas_mm.systems.sm_nas.modular import ModularSpace
from detnas_mm.systems.sm_nas.recipe import from_scratch, read_recipe
from detnas_mm.systems.sm_nas.rendering import render, set_size, strides_of, used_outputs

__all__ = ['ModularSpace', 'StructuralSpace']

#: Keys of the parts of a model that a factor defines and a recipe changes.
_TAKERS = dict(backbone=('backbone',), neck=('neck',), rpn=('rpn_head',), head=('bbox_head', 'mask_head'))


@SPACES.register_module()
class StructuralSpace(SearchSpace):
    """Search space over five factors of a detector: input size, backbone, neck, RPN and head.

    An architecture names one value of each factor, ``'800x600/resnet50/fpn-p2-p5-256/rpn/cascade3'``. Members are the
    valid combinations. The table of values is part of the config. :meth:`configure` returns an ordinary mmdet config
    with model and pipelines.

    Args:
        factors: Values by factor, ``dict(backbone=dict(mine=dict(…)))``. They replace those of the paper
            (:mod:`.reference`); a factor that is not given keeps these. Of each factor a list of names of the paper's
            values, or a dict by name whose entries are such a name, a dict of settings, or None to remove the value.
            Settings:

            - ``base``: name of the paper's value to start from;
            - ``model``: part of the model config, such as ``dict(backbone=dict(type='…'))``;
            - ``needs``: the only values that it is combined with, by factor, as names or patterns, such as
              ``dict(neck='fpn-*')``;
            - ``when``: further parts of the model config for some combinations,
              ``[dict(neck='c4', model=dict(…))]``.

            A size has ``scale`` (width, height) in pixels. A neck has ``strides`` of its first and last feature map. A
            backbone has ``channels``, ``strides`` and ``out_indices`` of its outputs (found by building and running it
            once if not given); ``cuts``, by stride the settings that build it up to there,
            ``{'16': dict(num_stages=3)}``; and ``shared_head``, its stage after stride 16, for RoI heads without a
            neck. All but sizes may have ``not_taken``: arguments that the type does not accept, out of those that
            ``recipe`` sets, ``norm_cfg``, ``conv_cfg`` and, for backbones, ``norm_eval``, and those that are derived:
            ``out_indices`` of a backbone, which then goes only with necks that read all its outputs, and ``num_outs``
            of a neck. A backbone or neck with parts on which no map that it returns depends is an error, unless it has
            ``unread=True``, as mmpretrain's ShuffleNetV2 needs.

            Entries of ``when`` are merged last, those of ``base`` before the value's own. A pattern must match a value
            of this table or of the paper, and an entry of ``when`` must apply to a valid combination.
        num_classes: Number of object classes. Defaults to 80, COCO's.
        smallest_map: Minimum side, in pixels, of the smallest feature map of a neck. Defaults to 3.
        recipe: None, the default, trains from the pre-trained weights that values name. ``'from_scratch'`` trains from
            random weights with group normalisation and weight standardisation, nothing frozen
            (:func:`.recipe.from_scratch`); a dict of its ``norm_cfg`` and ``conv_cfg`` does so with other layers.

    Raises:
        DetNASError: If a value is malformed or in no valid combination; names it.
    """

    def __init__(
        self,
        factors: Mapping[str, Any] | None = None,
        num_classes: int = 80,
        smallest_map: int = 3,
        recipe: str | Mapping[str, Any] | None = None,
    ) -> None:
        self.num_classes = whole('num_classes', num_classes, 1)
        self.smallest_map = whole('smallest_map', smallest_map, 1)
        self.recipe = read_recipe('recipe', recipe)
        self.table = read_factors(factors)
        for value in self.table['backbone'].values():
            if value.data.get('channels') is None:
                try:  # looked up by name, so that torch is imported only where a backbone must be run
                    value.data.update(MODELS.get('detnas_mm.backbone_outputs')(value.model['backbone']))
                except DetNASError as error:
                    raise DetNASError(f'search.space.factors: {value.title}: {error}') from error
        self._valid = valid_ids(self.table, self.smallest_map)
        check_fragments(self.table, self._valid)
        self._names = [list(self.table[factor]) for factor in FACTORS]

        channels = {value.title: backbone_channels(value.model) for value in self.table['backbone'].values()}
        first, *others = [(title, given or RGB) for title, given in channels.items()]
        for title, given in others:
            if given != first[1]:
                raise DetNASError(
                    f'search.space.factors: {first[0]} takes images of {first[1]} channels, and {title} of {given}. '
                    f'All candidates read the same images: give all backbones one in_channels.'
                )
        self.in_channels = None if first[1] == RGB else first[1]

    # -- properties ---------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return len(self._valid)

    def spec(self) -> dict[str, Any]:
        """Returns the arguments of an equal space, with the outputs of all backbones; see :class:`SearchSpace`."""
        factors = {
            factor: {name: plain(value.data) for name, value in values.items()} for factor, values in self.table.items()
        }
        return dict(
            factors=factors, num_classes=self.num_classes, smallest_map=self.smallest_map, recipe=self.recipe
        )  # fmt: skip

    def __repr__(self) -> str:
        counts = ', '.join(f'{len(values)} of {factor}' for factor, values in self.table.items())
        return f'StructuralSpace({self.size} combinations of {counts})'

    @cached_property
    def members(self) -> tuple[Architecture, ...]:
        """All architectures in the order of the table."""
        return tuple(map(self._decode, self._valid))

    def values(self, arch: Architecture) -> dict[str, Value]:
        """Returns the values of an architecture by factor."""
        return {factor: self.table[factor][name] for factor, name in zip(FACTORS, arch.genes, strict=True)}

    def _decode(self, ids: np.ndarray) -> Architecture:
        return Architecture(tuple(names[i] for names, i in zip(self._names, ids.tolist(), strict=True)))

    def encode(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Returns the positions of values in the table, shape (candidates, factors)."""
        places = [{name: i for i, name in enumerate(names)} for names in self._names]
        rows = [[place[gene] for place, gene in zip(places, arch.genes, strict=True)] for arch in archs]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(FACTORS))

    def decode(self, codes: np.ndarray) -> list[Architecture]:
        """Inverts :meth:`encode`."""
        return [self._decode(row) for row in np.asarray(codes)]

    # -- drawing ------------------------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draws a valid combination uniformly."""
        return self._decode(self._valid[rng.integers(self.size)])

    def sample_many(self, rng: np.random.Generator, count: int) -> list[Architecture]:
        return [self._decode(ids) for ids in self._valid[rng.integers(self.size, size=count)]]

    def mutate(self, arch: Architecture, rng: np.random.Generator, prob: float) -> Architecture:
        """Redraws each factor with probability ``prob``; the others change only where the new values require it.

        Among the valid combinations with the redrawn values, one with the fewest other changes is drawn: a new head
        comes with an RPN that it can use.
        """
        parent = self.encode([arch])[0]
        hit = rng.random(len(FACTORS)) < prob
        drawn = self._valid[rng.integers(self.size)]
        fitting = self._valid[(self._valid[:, hit] == drawn[hit]).all(axis=1)]
        return self._nearest(fitting, parent, rng)

    def crossover(self, first: Architecture, second: Architecture, rng: np.random.Generator) -> Architecture:
        """Takes each factor from a parent drawn at random; if that is not valid, the nearest valid mix of both."""
        parents = self.encode([first, second])
        pick = rng.integers(2, size=len(FACTORS))
        target = parents[pick, np.arange(len(FACTORS))]
        fitting = self._valid[((self._valid == parents[0]) | (self._valid == parents[1])).all(axis=1)]
        return self._nearest(fitting, target, rng)

    def _nearest(self, rows: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Architecture:
        equal = (rows == target).sum(axis=1)
        nearest = rows[equal == equal.max()]
        return self._decode(nearest[rng.integers(len(nearest))])

    # -- reading and writing ------------------------------------------------------------------------------------

    def parse(self, value: Any) -> Architecture:
        """Parses ``'size/backbone/neck/rpn/head'``, a sequence of five names, or an :class:`Architecture`.

        Raises:
            DetNASError: If a name is unknown or the combination is not valid; gives the reason.
        """
        names = value.split('/') if isinstance(value, str) else getattr(value, 'genes', value)
        if not isinstance(names, (list, tuple)) or len(names) != len(FACTORS):
            raise DetNASError(
                f'An architecture of this space is {"/".join(FACTORS)}, such as '
                f'{self.describe(self._decode(self._valid[0]))!r}; got {value!r}.'
            )
        for factor, name in zip(FACTORS, names, strict=True):
            if not isinstance(name, str) or name not in self.table[factor]:
                raise DetNASError(f'Unknown {factor} {name!r}; this space has {", ".join(self.table[factor])}.')
        arch = Architecture(tuple(names))
        reason = conflict(self.values(arch), self.smallest_map)
        if reason:
            raise DetNASError(f'{self.describe(arch)} is not a valid combination: {reason}.')
        return arch

    def describe(self, arch: Architecture) -> str:
        return '/'.join(arch.genes)

    # -- building -----------------------------------------------------------------------------------------------

    def configure(self, cfg: Mapping[str, Any], arch: Architecture) -> dict[str, Any]:
        """Returns the config with the detector as its model and the input size set in all pipelines.

        Keeps ``data_preprocessor`` of the config's own model; see :meth:`SearchSpace.configure`.

        Raises:
            DetNASError: If the architecture is not a member, or a pipeline has no place for the input size.
        """
        arch = self.parse(arch)
        out = copy.deepcopy(dict(cfg))
        values = self.values(arch)
        model = render(values, self.num_classes, (out.get('model') or {}).get('data_preprocessor'))
        if self.recipe is not None:
            model = from_scratch(model, **self.recipe, not_taken=_not_taken(values, model))
        out['model'] = model
        out.setdefault('default_scope', 'mmdet')
        set_size(out, values['size'].data['scale'])
        return out

    def check(self, cfg: Mapping[str, Any]) -> None:
        """Builds detectors on the meta device until each value, cut of a backbone and shared head was in one.

        Then computes the loss of each pair of RPN and head that are not both the paper's once, for each number of maps.

        Raises:
            DetNASError: If one does not build, or a loss cannot be computed; names the value.
        """
        seen: set[str] = set()
        for arch in dict.fromkeys([*self.covering(), *self._ends()]):
            self.check_member(cfg, arch, seen)
        for arch in self._losses():
            built, strides = self.configure(cfg, arch), strides_of(self.values(arch)['neck'])
            MODELS.get('detnas_mm.check_loss')(built, self.describe(arch), self._titles(arch), strides)

    def _losses(self) -> list[Architecture]:
        """Returns one member for each number of maps and pair of RPN and head that are not both the paper's."""
        paper = read_factors(None)
        found: dict[Any, Architecture] = {}
        for arch in self.members:
            values = self.values(arch)
            if any(values[key] != paper[key].get(values[key].name) for key in ('rpn', 'head')):
                found.setdefault((arch.genes[3:], len(strides_of(values['neck']))), arch)
        return list(found.values())

    def _titles(self, arch: Architecture) -> dict[str, str]:
        return {factor: value.title for factor, value in self.values(arch).items()}

    def check_member(self, cfg: Mapping[str, Any], arch: Architecture, seen: set[str] | None = None) -> None:
        """Builds a detector on the meta device; see :func:`.checking.check_detector`, also for ``seen``.

        Raises:
            DetNASError: If it does not build; names the value.
        """
        values = self.values(arch)
        maps = [one[1:] for one in used_outputs(values['backbone'], values['neck'])]
        built, strides = self.configure(cfg, arch), strides_of(values['neck'])
        unread = {factor for factor in ('backbone', 'neck') if values[factor].unread}
        check = MODELS.get('detnas_mm.check_detector')
        check(built, self.describe(arch), self._titles(arch), maps, strides, unread, seen)

    def _ends(self) -> list[Architecture]:
        """Returns one member for each backbone and last map that is read, with and without a shared head."""
        found: dict[Any, Architecture] = {}
        for arch in self.members:
            values = self.values(arch)
            last = used_outputs(values['backbone'], values['neck'])[-1]
            shared = 'roi_head' in values['head'].model and 'neck' not in values['neck'].model
            found.setdefault((values['backbone'].name, last, shared), arch)
        return list(found.values())

    def covering(self) -> list[Architecture]:
        """Returns a small set of members, chosen greedily, in which each value occurs."""
        left = {(k, i) for k, names in enumerate(self._names) for i in range(len(names))}
        out = []
        while left:
            gains = np.array([[(k, i) in left for i in range(max(map(len, self._names)))] for k in range(len(FACTORS))])
            best = self._valid[gains[np.arange(len(FACTORS)), self._valid].sum(axis=1).argmax()]
            left -= set(enumerate(best.tolist()))
            out.append(self._decode(best))
        return out


def _not_taken(values: Mapping[str, Value], model: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns, by type, the arguments of a recipe that parts of a rendered model do not accept (``not_taken``)."""
    found: dict[str, list[str]] = {}
    for factor, keys in _TAKERS.items():
        for part in (part for key in keys for part in _parts(model, key)):
            found.setdefault(type_name(part.get('type')), []).extend(values[factor].not_taken)
    return {name: own for name, own in found.items() if own}


def _parts(model: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Returns the parts under a key of a detector and of its RoI head, as a list."""
    given = [model.get(key), (model.get('roi_head') or {}).get(key)]
    return [one for part in given for one in (part if isinstance(part, list) else [part]) if one]
