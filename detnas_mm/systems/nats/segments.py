"""Split the paths of a supernet into segments, so that candidates with equal first segments share their outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from detnas_mm.errors import DetNASError
from detnas_mm.models.supernet import Segment
from detnas_mm.spaces import Architecture
from detnas_mm.systems.nats.layers import DilationPlan, MixedConv2d

if TYPE_CHECKING:
    from detnas_mm.systems.nats.model import DilatedSupernet

#: Side, in pixels, of the image on which segments are compared with the whole backbone.
_SIDE = 64


class _Reached(Exception):
    """Stops the forward of a backbone at its first block; carries the input of that block."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


class _Stem(nn.Module):
    """Runs a backbone up to the input of its first block."""

    def __init__(self, net: Any, block: nn.Module) -> None:
        super().__init__()
        self.net, self.block = [net], [block]  # lists, so that they are not registered as submodules

    def forward(self, x: Tensor) -> Tensor:
        def stop(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            raise _Reached(inputs[0])

        handle = self.block[0].register_forward_pre_hook(stop)
        try:
            self.net[0].run_plain(x)
        except _Reached as reached:
            return reached.x
        finally:
            handle.remove()
        raise AssertionError('the backbone does not run its first block')


class _Part(nn.Module):
    """Runs a part of a backbone on a given path; the active path is restored afterwards."""

    def __init__(self, module: nn.Module, plans: dict[MixedConv2d, DilationPlan]) -> None:
        super().__init__()
        self.module, self.plans = [module], plans

    def forward(self, x: Tensor) -> Any:
        before = {conv: conv.plan for conv in self.plans}
        try:
            for conv, plan in self.plans.items():
                conv.plan = plan
            return self.module[0](x)
        finally:
            for conv, own in before.items():
                conv.plan = own


class _Whole(_Part):
    """Runs a whole backbone on a path."""

    def __init__(self, net: DilatedSupernet, path: Architecture) -> None:
        super().__init__(net, {})
        self.path = path

    def forward(self, x: Tensor) -> Any:
        net: Any = self.module[0]
        before = net.active_path
        try:
            net.set_path(self.path)
            maps = net(x)
        finally:
            net.set_path(before)
        if isinstance(maps, Tensor):
            raise DetNASError(
                f'{type(net).__name__} returns a single tensor; one-shot evaluation needs a backbone that returns a '
                f'tuple of maps, as those of mmdet do.'
            )
        return tuple(maps)


def segments(net: DilatedSupernet, path: Architecture) -> list[Segment]:
    """Returns the segments of a path: the stem and every block, or the whole backbone as one segment.

    Backbones with ``res_layers`` (ResNet and its subclasses) are split into blocks if the blocks give the outputs of
    the whole backbone to the bit, which is checked on the first call; other backbones are one segment, and so are those
    with searched convolutions outside of blocks.
    """
    if net.runs_in_blocks is None:
        net.runs_in_blocks = _blocks_make_the_whole(net, path)
    return _in_blocks(net, path) if net.runs_in_blocks else [Segment(path.genes, _Whole(net, path), True)]


def _in_blocks(net: Any, path: Architecture) -> list[Segment]:
    genes = dict(zip(net.searched, net.space.genes(path), strict=True))
    layers = [getattr(net, name) for name in net.res_layers]
    parts = [Segment((), _Stem(net, layers[0][0]), False)]
    for number, layer in enumerate(layers):
        for block in layer:
            own = [module for module in block.modules() if module in genes]
            plans = {conv: conv.plan_of(genes[conv]) for conv in own}
            key = (number, *(genes[conv] for conv in own))
            parts.append(Segment(key, _Part(block, plans), number in net.out_indices and block is layer[-1]))
    return parts


@torch.no_grad()
def _blocks_make_the_whole(net: Any, path: Architecture) -> bool:
    """Returns True if the segments, run one after another, give the outputs of the backbone to the bit."""
    names = getattr(net, 'res_layers', None)
    if not names or not all(isinstance(getattr(net, name, None), nn.Sequential) for name in names):
        return False
    if not all(conv.name.partition('.')[0] in names for conv in net.space.convs):  # the stem is searched, too
        return False
    modes = {module: module.training for module in net.modules()}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, net.space.in_channels, _SIDE, _SIDE, generator=generator).to(next(net.parameters()).device)
    try:
        net.eval()
        whole, parts, y = _Whole(net, path)(x), [], x
        for segment in _in_blocks(net, path):
            y = segment.module(y)
            parts += [y] if segment.keep else []
        return len(whole) == len(parts) and all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    finally:
        for module, mode in modes.items():
            module.training = mode
