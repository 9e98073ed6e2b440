"""TensorFlow's 'SAME' padding: the output measures ceil(input / stride); an odd pixel of padding goes to the end."""

import torch.nn.functional as F
from torch import Tensor, nn


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one dimension of ``size`` values.

    Reference: tensorflow.org/api_docs/python/tf/nn, "Notes on padding".
    """
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SamePad(nn.Module):
    """Pads ``[N, C, H, W]`` for a convolution without padding of its own."""

    def __init__(self, kernel: tuple[int, int], stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        height = same_padding(x.shape[2], self.kernel[0], self.stride)
        width = same_padding(x.shape[3], self.kernel[1], self.stride)
        return F.pad(x, (*width, *height))


def same_conv(
    in_channels: int, out_channels: int, kernel: tuple[int, int], stride: int = 1, groups: int = 1, *, bias: bool = True
) -> list[nn.Module]:
    """A convolution with 'SAME' padding: its own where that is the same on both sides at any size, else a SamePad."""
    symmetric = kernel == (1, 1) or (stride == 1 and all(k % 2 for k in kernel))
    pad = (kernel[0] // 2, kernel[1] // 2) if symmetric else 0
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, pad, groups=groups, bias=bias)
    return [conv] if symmetric else [SamePad(kernel, stride), conv]


class SameConvNorm(nn.Module):
    """Convolution with bias and 'SAME' padding, then batch norm with Keras' epsilon."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: tuple[int, int], stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        *pad, self.conv = same_conv(in_channels, out_channels, kernel, stride, groups)
        self.pad = nn.Sequential(*pad)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(self.pad(x)))
        return y
