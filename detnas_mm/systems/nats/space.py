"""Search space of NATS (NeurIPS 2019, section 3) and IC-Conv (CVPR 2021, section 3): one dilation per channel group."""

from __future__ import annotations

import copy
import itertools
import numbers
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from detnas_mm.checks import flag, whole
from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS, SPACES
from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.choice import ChoiceSpace
from detnas_mm.spaces.images import RGB, unless_rgb
from detnas_mm.systems.nats.convs import Genotype, SearchedConv, genotype_text, read_dilations, runs_text
from detnas_mm.systems.nats.settings import PRESETS, equal_genotypes, genotypes_by_stage, split

#: Keys of ``model.backbone`` in configs of this system that are not settings of the plain backbone.
OWN_KEYS = ('type', 'plain', 'space', 'mixture', 'skip_below', 'stages', 'genotypes', 'channel_order', 'd_max')


@SPACES.register_module()
class DilationSpace(ChoiceSpace):
    """Chooses a dilation (d_h, d_w) for every group of output channels of a backbone's 3×3 convolutions.

    Every architecture has the weights, the number of parameters and the multiply-adds of the plain backbone. The
    smallest unit with a dilation is a channel; in grouped convolutions it is a conv-group.

    Args:
        backbone: Config of the plain backbone, such as ``dict(type='mmdet.ResNet', depth=50)``: any registered
            backbone with 3×3 convolutions. It is built once, on the meta device, to list them.
        preset: ``'nats'``: 16 groups per convolution, all stages but the first, the genotypes of the paper (five, nine
            in the last stage). ``'ic-conv'``: one unit per group, all stages, dilations 1 to 4 in both directions.
            Defaults to ``'nats'``.
        stages: Names of the stages to search, such as ``['layer2', 'layer3']``: prefixes of the names of modules.
            Defaults to those of the preset.
        genotypes: Pairs (d_h, d_w), as a list for all stages or a dict of lists by stage; or a number, for all pairs
            up to it. Defaults to those of the preset.
        groups: Number of groups per convolution, or ``'unit'`` for one unit per group. If the units do not divide,
            groups differ by one unit; if there are fewer units than groups, each unit is a group. Defaults to that of
            the preset.
        channels_per_group: Minimum number of channels per group; replaces ``groups``.
        strict: Require that the units of every convolution divide into equal groups. Defaults to False.
        mutation: ``'group'``: each group is redrawn with the probability of the strategy; ``'conv'``: all groups of a
            convolution are redrawn together. Defaults to ``'group'``.
        input_size: (height, width) of the images in pixels. A warning is issued if genotypes of a stage give equal
            outputs because its maps are small. Defaults to None: no check.
        convs: Table of the convolutions, rows of :class:`SearchedConv` as in :meth:`spec`; replaces ``backbone``.
        in_channels: Number of channels of the images. Defaults to that of the backbone, else 3.

    Raises:
        DetNASError: If a setting is invalid, or the backbone has no such convolution; names it.
    """

    in_channels: int
    channel_sorter = 'detnas_mm.sort_dilations'

    def __init__(
        self,
        backbone: Mapping[str, Any] | None = None,
        preset: str = 'nats',
        stages: Sequence[str] | None = None,
        genotypes: Any = None,
        groups: int | str | None = None,
        channels_per_group: int | None = None,
        strict: bool = False,
        mutation: str = 'group',
        input_size: Any = None,
        convs: Sequence[Sequence[Any]] | None = None,
        in_channels: int | None = None,
    ) -> None:
        if preset not in PRESETS:
            raise DetNASError(f'preset must be one of {", ".join(PRESETS)}; got {preset!r}.')
        if mutation not in ('group', 'conv'):
            raise DetNASError(f"mutation must be 'group' or 'conv'; got {mutation!r}.")
        self.mutation = mutation
        if backbone is not None and not (isinstance(backbone, Mapping) and backbone.get('type')):
            raise DetNASError(
                f"backbone must be the config of the plain backbone, such as dict(type='mmdet.ResNet', depth=50); got "
                f'{backbone!r}.'
            )
        self.backbone = None if backbone is None else dict(backbone)
        self.in_channels = in_channels or (backbone or {}).get('in_channels') or RGB
        whole('in_channels', self.in_channels, 1)
        self.convs = self._table(backbone, convs, stages, PRESETS[preset]['stages'])
        self.stages = tuple(dict.fromkeys(conv.stage for conv in self.convs))
        self.genotypes = genotypes_by_stage(self.stages, genotypes, preset)
        if groups is None and channels_per_group is None:
            groups = PRESETS[preset]['groups']
        self.splits = tuple(split(conv, groups, channels_per_group, flag('strict', strict)) for conv in self.convs)
        for line in [] if input_size is None else equal_genotypes(self.convs, self.genotypes, input_size):
            warnings.warn(line, stacklevel=2)

    @staticmethod
    def _table(backbone: Any, convs: Any, stages: Any, default: str) -> tuple[SearchedConv, ...]:
        if (backbone is None) == (convs is None):
            raise DetNASError(
                "DilationSpace needs either the plain backbone, backbone=dict(type='mmdet.ResNet', depth=50), or a "
                'table of convolutions, convs=[…], not both.'
            )
        if convs is not None:
            if isinstance(convs, str) or not convs or not all(len(row) >= 4 for row in convs):
                raise DetNASError(
                    f'convs must be a table of convolutions, rows of (name, channels, groups, stage, stride, '
                    f'dilation); got {convs!r:.200}.'
                )
            return tuple(SearchedConv(*row) for row in convs)
        # looked up by name, since spaces must not import torch before a backbone is built
        table: list[SearchedConv] = MODELS.get('detnas_mm.searched_convs')(backbone, stages)
        if stages is None and default == 'later':
            first = table[0].stage
            table = [conv for conv in table if conv.stage != first] or table
        return tuple(table)

    # -- description --------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        return dict(
            convs=[list(conv) for conv in self.convs],
            genotypes={stage: [list(one) for one in found] for stage, found in self.genotypes.items()},
            splits=[_lengths(sizes) for sizes in self.splits],
            mutation=self.mutation,
            **unless_rgb(self.in_channels),
        )

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> DilationSpace:
        """Returns the space of a :meth:`spec`, as in the header of a ledger; needs neither a backbone nor torch."""
        settings = {key: value for key, value in spec.items() if key != 'splits'}
        space = cls(**settings)
        space.splits = tuple(tuple(size for count, size in runs for _ in range(count)) for runs in spec['splits'])
        return space

    def __repr__(self) -> str:
        return f'DilationSpace({len(self.convs)} convolutions of {", ".join(self.stages)}, {len(self.choices)} groups)'

    @cached_property
    def choices(self) -> tuple[int, ...]:
        return tuple(
            len(self.genotypes[conv.stage])
            for conv, sizes in zip(self.convs, self.splits, strict=True)
            for _ in sizes
        )  # fmt: skip

    def genes(self, arch: Architecture) -> list[tuple[int, ...]]:
        """Returns the genes of every convolution: the id of a genotype per group."""
        genes = iter(arch.genes)
        return [tuple(itertools.islice(genes, len(sizes))) for sizes in self.splits]

    def dilations(self, arch: Architecture) -> list[list[Genotype]]:
        """Returns, for every convolution, one genotype per output channel."""
        out = []
        for conv, sizes, ids in zip(self.convs, self.splits, self.genes(arch), strict=True):
            genotypes = self.genotypes[conv.stage]
            out.append([genotypes[i] for i, size in zip(ids, sizes, strict=True) for _ in range(size * conv.unit)])
        return out

    def shares(self, arch: Architecture) -> dict[str, dict[str, float]]:
        """Returns, per stage, the share of channels with each genotype: the paper's intensity (section 3.3)."""
        counts = {stage: dict.fromkeys(map(genotype_text, found), 0) for stage, found in self.genotypes.items()}
        for conv, dilations in zip(self.convs, self.dilations(arch), strict=True):
            for genotype in dilations:
                counts[conv.stage][genotype_text(genotype)] += 1
        return {
            stage: {name: count / sum(found.values()) for name, count in found.items()}
            for stage, found in counts.items()
        }  # fmt: skip

    def shares_text(self, arch: Architecture) -> str:
        """Returns the shares as text, such as ``'layer2: 1x1 50 %, 2x2 50 %; layer3: …'``."""
        return '; '.join(
            f'{stage}: ' + ', '.join(f'{name} {share:.0%}'.replace('%', ' %') for name, share in found.items() if share)
            for stage, found in self.shares(arch).items()
        )

    def notes(self) -> list[str]:
        """Returns a line per stage with the groups that its convolutions are split into."""
        lines = []
        for stage in self.stages:
            alike = Counter(
                (conv.channels, len(sizes), *sorted({size * conv.unit for size in sizes}))
                for conv, sizes in zip(self.convs, self.splits, strict=True)
                if conv.stage == stage
            )
            parts = [
                f'{count} of {channels} channels in {groups} group{"s" if groups > 1 else ""} of '
                f'{" or ".join(map(str, sizes))}'
                for (channels, groups, *sizes), count in alike.items()
            ]
            lines.append(f'{stage}: convolutions: {"; ".join(parts)}.')
        return lines

    # -- mutation -----------------------------------------------------------------------------------------------

    def mutate(self, arch: Architecture, rng: np.random.Generator, prob: float) -> Architecture:
        """See :class:`ChoiceSpace`; with ``mutation='conv'`` all groups of a convolution are redrawn together."""
        if self.mutation == 'group':
            return super().mutate(arch, rng, prob)
        hit = np.repeat(rng.random(len(self.convs)) < prob, [len(sizes) for sizes in self.splits])
        return Architecture(tuple(np.where(hit, self.sample_ids(rng, 1)[0], np.array(arch.genes)).tolist()))

    # -- reading and writing ------------------------------------------------------------------------------------

    def parse(self, value: str | Sequence[int] | Architecture) -> Architecture:
        """Reads the text of :meth:`describe`, a flat sequence of ids, or an :class:`Architecture`.

        Raises:
            DetNASError: If it does not fit the table, the groups or the genotypes; names the convolution.
        """
        if isinstance(value, str):
            return self._from_dilations(read_dilations(value, self.convs))
        if isinstance(value, Architecture):
            value = value.genes
        if not isinstance(value, (Sequence, np.ndarray)):
            raise DetNASError(
                f'An architecture must be a text such as {self._example()!r:.120}… or a sequence of '
                f'{len(self.choices)} ids; got {value!r} of type {type(value).__name__}.'
            )
        if len(value) != len(self.choices):
            raise DetNASError(f'An architecture of this space must have {len(self.choices)} ids; got {len(value)}.')
        for number, (gene, count) in enumerate(zip(value, self.choices, strict=True)):
            if isinstance(gene, bool) or not isinstance(gene, numbers.Integral) or int(gene) not in range(count):
                raise DetNASError(f'Id {number} of the architecture is {gene!r}; allowed are 0 to {count - 1}.')
        return Architecture(tuple(int(gene) for gene in value))

    def _from_dilations(self, dilations: Sequence[Sequence[Genotype]]) -> Architecture:
        genes: list[int] = []
        for conv, sizes, found in zip(self.convs, self.splits, dilations, strict=True):
            ids = {genotype: number for number, genotype in enumerate(self.genotypes[conv.stage])}
            first = 0
            for size in sizes:
                group = found[first : first + size * conv.unit]
                if len(set(group)) > 1:
                    raise DetNASError(
                        f'{conv.name}: channels {first} to {first + len(group) - 1} are one group of this space, which '
                        f'must have one dilation; got {runs_text(group)}.'
                    )
                if group[0] not in ids:
                    raise DetNASError(
                        f'{conv.name}: unknown genotype {genotype_text(group[0])}; those of {conv.stage} are '
                        f'{", ".join(map(genotype_text, ids))}.'
                    )
                genes.append(ids[group[0]])
                first += len(group)
        return Architecture(tuple(genes))

    def describe(self, arch: Architecture) -> str:
        """Returns the dilations of every convolution as run lengths: ``'8:1x1+8:2x2|16:1x3|…'``."""
        return '|'.join(map(runs_text, self.dilations(arch)))

    def _example(self) -> str:
        return self.describe(Architecture((0,) * len(self.choices)))

    # -- building -----------------------------------------------------------------------------------------------

    def configure(self, cfg: Mapping[str, Any], arch: Architecture) -> dict[str, Any]:
        """See :meth:`SearchSpace.configure`: gives the plain backbone of the config these dilations.

        All its settings are kept, including an ``init_cfg`` with pre-trained weights, which fit.
        """
        own = (cfg.get('model') or {}).get('backbone') or self.backbone
        if own is None:
            raise DetNASError('Neither the space nor the config has a backbone: set search.space.backbone.')
        plain = plain_backbone(own, cfg.get('default_scope'))
        self.check_backbone(plain)
        backbone = dict(plain, type='detnas_mm.DilatedBackbone', plain=plain['type'])
        backbone |= dict(stages=list(self.stages), genotypes=self.describe(self.parse(arch)))
        out = copy.deepcopy(dict(cfg))
        out['model'] = dict(out.get('model') or {}, backbone=copy.deepcopy(backbone))
        return out

    def check_backbone(self, plain: Mapping[str, Any]) -> None:
        """Checks that the convolutions of a plain backbone are those of the table.

        Raises:
            DetNASError: If not; names the first that differs.
        """
        found = MODELS.get('detnas_mm.searched_convs')(plain, self.stages)
        for ours, theirs in itertools.zip_longest(self.convs, found):
            if ours is None or theirs is None or ours[:4] != theirs[:4]:
                raise DetNASError(
                    f'The backbone of the config, {plain["type"]}, is not that of the search space: it has '
                    f'{_conv_text(theirs)}, the space has {_conv_text(ours)}. Use the same backbone in both.'
                )


def plain_backbone(own: Mapping[str, Any], scope: str | None = None) -> dict[str, Any]:
    """Returns the config of the plain backbone, from that of a supernet or dilated net or from a plain config.

    Args:
        own: ``model.backbone`` of a config.
        scope: Default scope of the config, for a type without a scope. Defaults to mmdet.
    """
    plain = {key: value for key, value in own.items() if key not in OWN_KEYS} if 'plain' in own else dict(own)
    kind = own.get('plain', own.get('type'))
    if isinstance(kind, str) and '.' not in kind:
        kind = f'{scope or "mmdet"}.{kind}'
    return dict(plain, type=kind)


def _conv_text(conv: SearchedConv | None) -> str:
    if conv is None:
        return 'no further convolution'
    return f'{conv.name} of {conv.channels} channels' + (f' in {conv.groups} groups' if conv.groups > 1 else '')


def _lengths(sizes: Sequence[int]) -> list[list[int]]:
    """Returns run lengths of group sizes: [[number of groups, units per group], …]."""
    return [[sum(1 for _ in run), size] for size, run in itertools.groupby(sizes)]
