"""One convolution as data, from which both costs and layers are made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conv:
    """Shape of one convolution.

    Attributes:
        cin: Input channels.
        cout: Output channels.
        kernel: Side of the square kernel; the padding is ``kernel // 2``.
        stride: 1 or 2.
        groups: 1 for a dense convolution, ``cin`` for a depthwise one.
        bias: Whether it has a bias.
    """

    cin: int
    cout: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = False

    @property
    def params(self) -> int:
        """Number of weights and biases."""
        return self.cout * (self.cin // self.groups * self.kernel**2 + self.bias)

    def macs(self, height: int, width: int) -> int:
        """Returns the multiply-adds (biases not counted) for an *output* of ``height`` x ``width`` pixels."""
        return height * width * self.cout * (self.cin // self.groups) * self.kernel**2
