"""Shape of a convolution, whatever computes it."""

from dataclasses import dataclass
from math import gcd

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.weights import DOT


@dataclass(frozen=True)
class Convolution:
    """Shape of a convolution.

    Attributes:
        image: Input; its ring holds at least ``padding``.
        out_size: Output (height, width).
        out_channels: Output channels of all groups.
        kernel: (height, width).
        stride: (vertical, horizontal).
        dilation: (vertical, horizontal).
        padding: (top, left).
        groups: Channel groups.
    """

    image: Image
    out_size: tuple[int, int]
    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        if self.image.channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"groups={self.groups} divides neither in_channels={self.image.channels} nor "
                f"out_channels={self.out_channels}, or only one of them."
            )
        top, left, bottom, right = self.image.ring
        last = [
            (out - 1) * stride + (kernel - 1) * dilation - padding
            for out, stride, kernel, dilation, padding in zip(
                self.out_size, self.stride, self.kernel, self.dilation, self.padding, strict=True
            )
        ]
        sides = (top, left, self.image.height + bottom - last[0] - 1, self.image.width + right - last[1] - 1)
        if self.padding[0] > top or self.padding[1] > left or min(sides) < 0:
            raise ValueError(f"The ring {self.image.ring} does not hold the padding of {self}.")

    @property
    def merged_groups(self) -> int:
        """Groups computed as one, with zeros between, so that their input channels fill whole dot products."""
        group_in = self.image.channels // self.groups
        merged = DOT // gcd(DOT, group_in)
        return merged if self.groups % merged == 0 else self.groups

    @property
    def macs_per_output(self) -> int:
        """Products that an output is the sum of."""
        return self.kernel[0] * self.kernel[1] * self.image.channels // self.groups

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations for the whole batch."""
        height, width = self.out_size
        return self.image.batch * height * width * self.out_channels * self.macs_per_output
