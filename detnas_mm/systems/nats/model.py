"""Dilated backbones and supernets of dilations, made from any plain backbone with 3×3 convolutions."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from detnas_mm.checks import flag, real
from detnas_mm.errors import DetNASError
from detnas_mm.models.supernet import Segment, Supernet
from detnas_mm.registry import MODELS, SPACES, build_from
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.systems.nats import segments
from detnas_mm.systems.nats.channel_order import (
    check_order,
    dilations_metadata,
    genotypes_of,
    initial_checkpoints,
    keep_dilations,
)
from detnas_mm.systems.nats.convs import by_unit, read_dilations
from detnas_mm.systems.nats.enlarged import enlarged_backbone
from detnas_mm.systems.nats.fusing import keep_dilations_when_merged, refuse_to_merge
from detnas_mm.systems.nats.layers import DilatedConv2d, DilationPlan, MixedConv2d
from detnas_mm.systems.nats.plain import build_plain, searched_convs
from detnas_mm.systems.nats.sorted_export import sort_dilations
from detnas_mm.systems.nats.space import DilationSpace

#: Lower bound of n · softmax in float32 with n equal logits.
_EQUAL = 1 - 1e-6
#: Imported by the registry of models.
__all__ = [
    'DilatedSupernet',
    'dilated_backbone',
    'dilated_supernet',
    'enlarged_backbone',
    'searched_convs',
    'sort_dilations',
]


@MODELS.register_module(name='DilatedBackbone')
def dilated_backbone(
    plain: Any, genotypes: str, stages: Sequence[str] | None = None, channel_order: str | None = None, **backbone: Any
) -> nn.Module:
    """Builds a plain backbone with other dilations; its class, keys and settings are those of the plain backbone.

    The channel order of checkpoints is checked (:mod:`.channel_order`): those of ``init_cfg`` when the net is built,
    others, such as ``load_from``, when they are loaded.

    Args:
        plain: Type of the plain backbone, such as ``'mmdet.ResNet'``.
        genotypes: Run lengths of dilations along the output channels of every convolution, separated by ``'|'``, such
            as ``'42:1x1+22:2x3|…'``; or a published name, such as ``'ic-resnet50-detection'``.
        stages: Names of the stages that ``genotypes`` describes. Defaults to all modules called layers, stages or
            blocks.
        channel_order: ``'sorted'``: accept only checkpoints that name these genotypes. ``'arbitrary'``: accept any
            checkpoint; one that was saved with other dilations is warned of. Defaults to None: ``'sorted'`` for
            published genotypes, else ``'arbitrary'``.
        **backbone: Settings of the plain backbone.

    Raises:
        DetNASError: If the genotypes do not fit the backbone, or the channel order of a checkpoint does not fit the
            genotypes; names the convolution or the checkpoint.
    """
    settings = dict(backbone, type=plain)
    table = searched_convs(settings, stages)
    dilations = read_dilations(genotypes_of(genotypes), table)
    required = check_order(genotypes, channel_order, settings)
    net = build_plain(settings)
    for conv, found in zip(table, dilations, strict=True):
        units = by_unit(found, conv)
        DilatedConv2d.of(cast(nn.Conv2d, net.get_submodule(conv.name)), units)
        keep_dilations_when_merged(net, conv.name, units)
    checked = any(initial_checkpoints(settings))
    keep_dilations(net, dilations_metadata(table, dilations), required, checked)
    return net


@MODELS.register_module(name='DilatedSupernet')
def dilated_supernet(
    plain: Any, space: Any = 'nats', mixture: bool = False, skip_below: float = 0.0, **backbone: Any
) -> nn.Module:
    """Builds a supernet of all dilations of a plain backbone: a subclass of the plain class with the same keys.

    Args:
        plain: Type of the plain backbone, such as ``'mmdet.ResNet'``.
        space: Settings of :class:`DilationSpace` without its backbone, or the name of a preset. Defaults to
            ``'nats'``.
        mixture: Create architecture parameters α and mix all genotypes when no path is active, as the search by
            gradient needs. Defaults to False: the supernet runs single paths.
        skip_below: In a mixture, skip channels of a genotype whose weight softmax(α) is below this. Must be below 1
            over the number of genotypes. Defaults to 0: nothing is skipped.
        **backbone: Settings of the plain backbone.

    Raises:
        DetNASError: If a setting is invalid, or a searched convolution is frozen.
    """
    settings = dict(backbone, type=plain)
    if not isinstance(space, (str, Mapping)):
        raise DetNASError(
            f'model.backbone.space must be the name of a preset or settings such as dict(groups=16); got {space!r}.'
        )
    given = dict(preset=space) if isinstance(space, str) else dict(space)
    found: DilationSpace = build_from(SPACES, dict(given, backbone=settings), type=DilationSpace)
    net = build_plain(settings)
    net.__class__ = _supernet_class(cast(Any, type(net)))
    assert isinstance(net, DilatedSupernet)
    net.make_searched(found, flag('mixture', mixture), real('skip_below', skip_below))
    return net


class DilatedSupernet(Supernet):
    """Mixin that turns the class of a plain backbone into a supernet whose dilations share the weights."""

    space: DilationSpace
    mixture: bool
    #: True if paths run in segments of one block; None until :meth:`segments` has checked it.
    runs_in_blocks: bool | None = None

    def make_searched(self, space: DilationSpace, mixture: bool, skip_below: float) -> None:
        """Turns the convolutions of the space into :class:`MixedConv2d`, in place.

        Raises:
            DetNASError: If one of them is frozen, or ``skip_below`` could skip all genotypes.
        """
        self.space, self.mixture = space, mixture
        count = max(space.choices)
        if not 0 <= skip_below < _EQUAL / count:
            raise DetNASError(
                f'model.backbone.skip_below must be at least 0 and below 1/{count} = {1 / count:.3g}, the weight of '
                f'each of {count} genotypes before α is trained: a larger value would skip all of them; got '
                f'{skip_below}.'
            )
        for conv, split in zip(space.convs, space.splits, strict=True):
            module = self.get_submodule(conv.name)
            if not module.weight.requires_grad:
                raise DetNASError(
                    f'{conv.name} is searched but frozen (frozen_stages): search other stages, stages=[…], or freeze '
                    f'fewer stages, such as frozen_stages=1.'
                )
            MixedConv2d.of(cast(nn.Conv2d, module), space.genotypes[conv.stage], split, mixture, skip_below)
            refuse_to_merge(
                self, conv.name, 'has several genotypes in a supernet. Export a found net and merge that one instead.'
            )

    def check_space(self, space: SearchSpace) -> None:
        """See :meth:`Supernet.check_space`; ``mutation`` of the spaces may differ."""
        if not isinstance(space, DilationSpace):
            super().check_space(space)
            return
        ours, theirs = self.space.spec(), space.spec()
        for key in ours.keys() - {'mutation'}:
            if ours[key] != theirs.get(key):
                raise DetNASError(
                    f'search.space differs from the space of the supernet: {key} is {theirs.get(key)!r:.300} in '
                    f'search.space, {ours[key]!r:.300} in model.backbone. Use the same backbone and settings in both.'
                )

    @property
    def searched(self) -> list[MixedConv2d]:
        """The searched convolutions in the order of the space."""
        return [cast(MixedConv2d, self.get_submodule(conv.name)) for conv in self.space.convs]

    def decode(self) -> Architecture:
        """Returns the architecture with the largest α of every group (NATS, section 3.3); of equal α the first.

        Raises:
            DetNASError: If the supernet has no α, or α is NaN.
        """
        if not self.mixture:
            raise DetNASError('This supernet has no α to decode: build it with mixture=True.')
        for row, conv in zip(self.space.convs, self.searched, strict=True):
            if conv.alpha is not None and conv.alpha.isnan().any():  # argmax would return the first of several NaN
                raise DetNASError(
                    f'α of {row.name} is NaN, so it has no largest value: the training has diverged. Lower '
                    f'optim_wrapper.optimizer.lr or optim_wrapper.alpha.optimizer.lr, or set optim_wrapper.clip_grad.'
                )
        ids = [conv.alpha.detach().argmax(1).tolist() for conv in self.searched if conv.alpha is not None]
        return Architecture(tuple(gene for genes in ids for gene in genes))

    def set_path(self, path: Architecture | str | Sequence[int] | None) -> None:
        """See :meth:`Supernet.set_path`; with None, a supernet with α mixes all genotypes."""
        super().set_path(path)
        plans = [None] * len(self.space.convs) if self._active_path is None else self._plans(self._active_path)
        for conv, plan in zip(self.searched, plans, strict=True):
            conv.plan = plan

    def _plans(self, path: Architecture) -> list[DilationPlan]:
        return [conv.plan_of(ids) for conv, ids in zip(self.searched, self.space.genes(path), strict=True)]

    def forward(self, x: Tensor) -> Any:
        """Returns the outputs of the plain class, with the active path or the mixture of all genotypes."""
        if not self.mixture:
            self._require_path()
        return self.run_plain(x)

    def run_plain(self, x: Tensor) -> Any:
        """Runs the forward of the plain backbone, without checking that a path is set."""
        return super().forward(x)

    def segments(self, path: Architecture) -> list[Segment]:
        """See :meth:`Supernet.segments`: the stem and every block; see :mod:`.segments`."""
        return segments.segments(self, path)

    @staticmethod
    def subnet_key(key: str, path: Architecture) -> str | None:
        """See :meth:`Supernet.subnet_key`: all keys except those of α."""
        return None if key.endswith('.alpha') else key

    def subnet_metadata(self, path: Architecture) -> dict[str, Any]:
        """See :meth:`Supernet.subnet_metadata`: the dilations, which are compared when a net loads the weights."""
        return dilations_metadata(self.space.convs, self.space.dilations(path))

    @classmethod
    def has_path(cls, keys: Collection[str], path: Architecture) -> bool:
        """See :meth:`Supernet.has_path`: all paths have the same keys."""
        return bool(keys)


@functools.cache
def _supernet_class(plain: type[nn.Module]) -> type[nn.Module]:
    """Returns the class of supernets of a plain class."""
    return type(f'{plain.__name__}DilatedSupernet', (DilatedSupernet, plain), {})
