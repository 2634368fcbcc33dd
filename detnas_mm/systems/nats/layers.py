"""Convolutions with one dilation per group of output channels, and mixtures of dilations (NATS, section 3.2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detnas_mm.errors import DetNASError
from detnas_mm.systems.nats.convs import Genotype, runs_text


class DilationPlan(nn.Module):
    """Runs a convolution with the dilations of its channels: one convolution per genotype that occurs.

    Index tensors are non-persistent buffers, so they are not in the state dict.

    Args:
        conv: The convolution; its stride, padding, dilation and groups are used.
        dilations: One genotype per unit (a channel, or the channels of a conv-group).
    """

    def __init__(self, conv: nn.Conv2d, dilations: Sequence[Genotype]) -> None:
        super().__init__()
        self.stride, self.groups = conv.stride, conv.groups
        unit = 1 if conv.groups == 1 else conv.out_channels // conv.groups
        inputs = conv.in_channels // conv.groups
        #: (padding, dilation, groups) of every genotype that occurs, in order of first occurrence.
        self.parts: list[tuple[tuple[int, int], tuple[int, int], int]] = []
        #: Run lengths of every genotype along the output channels.
        self.runs: list[list[int]] = []
        #: (part, run) of every run, in the order of the output channels.
        self.order: list[tuple[int, int]] = []
        genotypes = list(dict.fromkeys(dilations))
        for number, genotype in enumerate(genotypes):
            members = [i for i, one in enumerate(dilations) if one == genotype]
            self.runs.append([])
            groups = len(members) if conv.groups > 1 else 1
            self.parts.append((scaled(conv.padding, genotype), scaled(conv.dilation, genotype), groups))
            self._keep(f'rows{number}', members, unit)
            if conv.groups > 1:
                self._keep(f'inputs{number}', members, inputs)
        for genotype, run in itertools.groupby(dilations):
            number = genotypes.index(genotype)
            self.order.append((number, len(self.runs[number])))
            self.runs[number].append(sum(1 for _ in run) * unit)

    def _keep(self, name: str, units: Sequence[int], size: int) -> None:
        """Stores the channels of some units: as a slice if they are contiguous, else as an index tensor."""
        first = units[0]
        if list(units) == list(range(first, first + len(units))):
            setattr(self, name, slice(first * size, (first + len(units)) * size))
        else:
            self.register_buffer(name, channels_of(torch.tensor(units), size), persistent=False)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns the output of the convolution; channels keep their positions.

        Args:
            x: Shape (n, c_in, h, w).
            weight: Shape (c_out, c_in / groups, 3, 3).
            bias: Shape (c_out,) or None.
        """
        if len(self.parts) == 1:
            padding, dilation, _ = self.parts[0]
            return F.conv2d(x, weight, bias, self.stride, padding, dilation, self.groups)
        outs = []
        for number, (padding, dilation, groups) in enumerate(self.parts):
            rows = getattr(self, f'rows{number}')
            images = x if self.groups == 1 else taken(x, getattr(self, f'inputs{number}'), 1)
            own = None if bias is None else taken(bias, rows, 0)
            out = F.conv2d(images, taken(weight, rows, 0), own, self.stride, padding, dilation, groups)
            outs.append(out.split(self.runs[number], 1))
        return torch.cat([outs[part][run] for part, run in self.order], 1)  # copies in any order of the channels


def keep_whole(conv: nn.Conv2d) -> None:
    """Makes torch.fx trace a convolution as one step, as it traces the modules of torch.nn.

    torch.fx decides this by ``__module__``. mmengine's ``efficient_conv_bn_eval`` and torch's fusion of BN look for
    such steps.
    """
    conv.__module__ = nn.Conv2d.__module__


def scaled(own: Sequence[int] | str, genotype: Genotype) -> tuple[int, int]:
    """Returns the padding or dilation of a plain convolution, multiplied by a genotype."""
    return int(own[0]) * genotype[0], int(own[1]) * genotype[1]


def taken(tensor: Tensor, where: slice | Tensor, dim: int) -> Tensor:
    """Returns a part of a tensor along a dimension: a view if ``where`` is a slice, else a copy."""
    if isinstance(where, slice):
        return tensor.narrow(dim, where.start, where.stop - where.start)
    return tensor.index_select(dim, where)


class DilatedConv2d(nn.Conv2d):
    """A 3×3 convolution with one dilation per output channel or conv-group.

    Weight, bias, their keys, the number of parameters and the multiply-adds are those of the plain convolution.
    :meth:`of` turns a plain convolution into one in place.
    """

    plan: DilationPlan
    _dilations_text: str

    @staticmethod
    def of(conv: nn.Conv2d, dilations: Sequence[Genotype]) -> None:
        """Turns a plain convolution into a dilated one, in place.

        Args:
            conv: A convolution of the class ``nn.Conv2d``.
            dilations: One genotype per unit.
        """
        conv.__class__ = DilatedConv2d
        assert isinstance(conv, DilatedConv2d)
        keep_whole(conv)
        conv.plan = DilationPlan(conv, dilations)
        conv._dilations_text = runs_text(dilations)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.plan(input, weight, bias)

    def extra_repr(self) -> str:
        """Adds the dilations to the text of a convolution."""
        return f'{super().extra_repr()}, dilations={self._dilations_text}'


class MixedConv2d(nn.Conv2d):
    """A 3×3 convolution of a supernet: all genotypes share its weight.

    With an active path, it runs only the genotypes of that path. Without one, it mixes all genotypes: the output of a
    group of channels is their sum weighted by softmax(α) (NATS, equation 3). The sum is computed by scaling *weights*
    instead of outputs, which is equivalent since a convolution is linear in its weight. The backward pass thus keeps
    the scaled weight of each genotype and none of their outputs. For a ResNet-50 with the paper's genotypes these take
    322 MB more than the plain backbone, for any number and size of images, so recomputing single genotypes would save
    nothing more. ``with_cp=True`` reduces the memory of the supernet to that of the plain backbone with this setting.

    Attributes:
        alpha: α, shape (groups, genotypes); None in a supernet that runs single paths.
        plan: Plan of the active path; None without one.
        skip_below: In a mixture, channels of a genotype whose weight is below this are skipped.
    """

    genotypes: tuple[Genotype, ...]
    alpha: nn.Parameter | None
    plan: DilationPlan | None
    skip_below: float
    groups_of_units: tuple[int, ...]
    group_of_unit: Tensor

    @staticmethod
    def of(
        conv: nn.Conv2d,
        genotypes: Sequence[Genotype],
        split: Sequence[int],
        mixture: bool = False,
        skip_below: float = 0.0,
    ) -> None:
        """Turns a plain convolution into one of a supernet, in place.

        Args:
            conv: A convolution of the class ``nn.Conv2d``.
            genotypes: Genotypes that each group can have.
            split: Sizes of the groups, in units.
            mixture: Create α, initialised to zeros. Defaults to False.
            skip_below: See the attribute. Defaults to 0: nothing is skipped.
        """
        conv.__class__ = MixedConv2d
        assert isinstance(conv, MixedConv2d)
        keep_whole(conv)
        conv.genotypes, conv.plan, conv.skip_below = tuple(genotypes), None, skip_below
        conv.groups_of_units = tuple(group for group, size in enumerate(split) for _ in range(size))
        conv.register_buffer('group_of_unit', torch.tensor(conv.groups_of_units), persistent=False)
        conv.register_parameter('alpha', nn.Parameter(torch.zeros(len(split), len(genotypes))) if mixture else None)

    def plan_of(self, ids: Sequence[int]) -> DilationPlan:
        """Returns the plan of a path.

        Args:
            ids: Index of the genotype of every group.
        """
        return DilationPlan(self, [self.genotypes[ids[group]] for group in self.groups_of_units]).to(self.weight.device)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.plan is not None:
            return self.plan(input, weight, bias)
        if self.alpha is None:
            raise DetNASError('This supernet runs single paths (mixture=False): call set_path(…) first.')
        shares = self.alpha.softmax(1)[self.group_of_unit]  # (units, genotypes)
        parts = (self._part(input, weight, shares[:, i], genotype) for i, genotype in enumerate(self.genotypes))
        out = sum(part for part in parts if part is not None)
        assert isinstance(out, Tensor)  # the largest share of a group is never below skip_below
        return out if bias is None else out + bias[:, None, None]

    def _part(self, x: Tensor, weight: Tensor, share: Tensor, genotype: Genotype) -> Tensor | None:
        """Returns the term of one genotype in the mixture; None if its share is negligible in every unit.

        Args:
            x: The input.
            weight: The weight.
            share: Share of the genotype in every unit, shape (units,).
            genotype: The genotype.
        """
        unit = self.out_channels // len(share)
        weight = weight * share.repeat_interleave(unit)[:, None, None, None]
        padding, dilation = scaled(self.padding, genotype), scaled(self.dilation, genotype)
        skips = self.skip_below and not share.is_meta  # meta tensors have no values to compare
        active = (share.detach() >= self.skip_below).nonzero().flatten() if skips else share
        if len(active) == len(share):
            return F.conv2d(x, weight, None, self.stride, padding, dilation, self.groups)
        if not len(active):
            return None
        rows, groups = channels_of(active, unit), 1
        if self.groups > 1:
            groups = len(active)
            x = x.index_select(1, channels_of(active, self.in_channels // self.groups))
        part = F.conv2d(x, weight.index_select(0, rows), None, self.stride, padding, dilation, groups)
        whole = part.new_zeros(len(part), self.out_channels, *part.shape[2:])
        return whole.index_copy(1, rows, part)


def channels_of(units: Tensor, size: int) -> Tensor:
    """Returns the indices of the channels of some units with ``size`` channels each."""
    return (units[:, None] * size + torch.arange(size, device=units.device)).flatten()
