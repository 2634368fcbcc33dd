"""Find the layers before and after a convolution, by recording one run of the backbone on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

#: Functions that treat all channels alike and do not mix them.
_PER_CHANNEL: frozenset[Callable[..., Any]] = frozenset(
    {
        F.relu, F.relu6, F.hardtanh, F.leaky_relu, F.silu, F.hardswish, F.gelu, F.elu, F.mish, F.dropout, F.max_pool2d,
        F.avg_pool2d, torch.relu, torch.relu_, Tensor.contiguous,
    }
)  # fmt: skip


@dataclass
class Step:
    """One call of a function.

    Attributes:
        function: The function.
        inputs: Numbers of the values that it reads.
        outputs: Numbers of the values that it returns.
        owner: Name of the module whose parameters or statistics it uses; '' if none.
    """

    function: Callable[..., Any]
    inputs: list[int]
    outputs: list[int]
    owner: str = ''

    @property
    def name(self) -> str:
        """Name for messages: that of the module, else that of the function."""
        return self.owner or str(getattr(self.function, '__name__', self.function)).strip('_')


class Recorder(TorchFunctionMode):
    """Records the torch functions that a net calls and the values that they read.

    A tensor that is changed in place counts as a new value.

    Args:
        net: The net; its parameters and buffers identify the module of a call.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._owners = {
            id(tensor): key.rpartition('.')[0] for key, tensor in (*net.named_parameters(), *net.named_buffers())
        }
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []  # keeps ids unique

    def number(self, tensor: Tensor) -> int:
        """Returns the number of the current value of a tensor."""
        if id(tensor) not in self._numbers:
            self._renew(tensor)
        return self._numbers[id(tensor)]

    def _renew(self, tensor: Tensor) -> None:
        self._numbers[id(tensor)] = len(self._alive)
        self._alive.append(tensor)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        owners = {self._owners[id(tensor)]: None for tensor in read if id(tensor) in self._owners}
        inputs = [self.number(tensor) for tensor in read if id(tensor) not in self._owners]
        out = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if made:  # functions that return a shape are left out
            for tensor in made:
                self._renew(tensor)
            self.steps.append(Step(func, inputs, [self.number(tensor) for tensor in made], next(iter(owners), '')))
        return out


@dataclass
class Neighbours:
    """Layers that share the output channels, or the input channels, of one convolution.

    Attributes:
        norms: Names of the norms.
        other: Name of the convolution that reads the outputs, or that computes the inputs; '' if the channels cannot
            be moved.
        reason: Reason why they cannot be moved; '' if they can.
    """

    norms: list[str] = field(default_factory=list)
    other: str = ''
    reason: str = ''


class Graph:
    """Graph of the steps of a net.

    Args:
        net: The net, on the meta device and in evaluation mode.
        images: Input of shape (1, channels, h, w), on the meta device.
    """

    def __init__(self, net: nn.Module, images: Tensor) -> None:
        recorder = Recorder(net)
        with torch.no_grad(), recorder:
            out = net(images)
        self.modules: Mapping[str, nn.Module] = dict(net.named_modules())
        self.steps = recorder.steps
        self._results = {recorder.number(leaf) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)}
        self._readers: dict[int, list[Step]] = {}
        self._makers: dict[int, Step] = {}
        for step in self.steps:
            for value in step.inputs:
                self._readers.setdefault(value, []).append(step)
            self._makers |= dict.fromkeys(step.outputs, step)
        self._runs: dict[str, list[Step]] = {}
        for step in self.steps:
            self._runs.setdefault(step.owner, []).append(step)

    def behind(self, conv: str) -> Neighbours:
        """Returns the layers after a convolution: the one convolution that reads its output, and norms."""
        found = Neighbours()
        step = self._only_run(conv, found)
        while step is not None and not found.reason:
            value = step.outputs[0]
            readers = self._readers.get(value, [])
            if value in self._results or len(readers) != 1:
                names = ', '.join(dict.fromkeys(reader.name for reader in readers))
                given = ' and are outputs of the backbone' if value in self._results else ''
                found.reason = f'its output channels are read by {names or "no layer"}{given}'
                break
            step = readers[0]
            if self._passes(step, found):
                break
        return found

    def before(self, conv: str) -> Neighbours:
        """Returns the layers before a convolution: the one convolution that computes its input, and norms."""
        found = Neighbours()
        step = self._only_run(conv, found)
        while step is not None and not found.reason:
            value = step.inputs[0]
            if len(self._readers[value]) != 1 or value in self._results:
                names = ', '.join(dict.fromkeys(reader.name for reader in self._readers[value]))
                given = ' and is an output of the backbone' if value in self._results else ''
                found.reason = f'its input is read by {names}{given}'
                break
            step = self._makers.get(value)
            if step is None:
                found.reason = 'its input is computed by no convolution'
            elif self._passes(step, found):
                break
        return found

    def _only_run(self, name: str, found: Neighbours) -> Step | None:
        """Returns the one step of a module; sets the reason if it has none or several."""
        runs = self._runs.get(name, [])
        if len(runs) != 1:
            found.reason = f'{name} runs {len(runs)} times'
            return None
        return runs[0]

    def _passes(self, step: Step, found: Neighbours) -> bool:
        """Handles a step between two convolutions; returns True if it is the other convolution."""
        module = self.modules.get(step.owner) if step.owner else None
        if isinstance(module, nn.Conv2d) and len(step.inputs) == 1:
            if module.groups > 1:
                found.reason = f'{step.owner}, with which it shares channels, is a grouped convolution'
            elif self._only_run(step.owner, found) is not None:
                found.other = step.owner
            return True
        if step.function is F.batch_norm and isinstance(module, nn.modules.batchnorm._BatchNorm):
            if self._only_run(step.owner, found) is not None:
                found.norms.append(step.owner)
        elif step.function not in _PER_CHANNEL or len(step.inputs) != 1:
            found.reason = f'its channels go through {step.name}, which may mix them'
        return False
