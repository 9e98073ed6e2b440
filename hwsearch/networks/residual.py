"""Residual blocks of He et al. 2016, arXiv:1512.03385, with torchvision's parameter names."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


class PadShortcut(nn.Module):
    """Shortcut option A: every ``stride``-th pixel, new channels filled with zeros; no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        new = out_channels - in_channels
        self.stride = stride
        self.pad = (0, 0, 0, 0, new // 2, new - new // 2)  # innermost dimension first: width, height, channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.pad)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Shortcut option B: 1x1 convolution and batch norm."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; ``downsample=None`` is the identity."""

    expansion = 1

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; as in torchvision, the 3x3 one has the stride ("ResNet v1.5")."""

    expansion = 4

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        width = out_channels // self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + shortcut)


def stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    out_channels: int,
    blocks: int,
    stride: int,
    shortcut: Callable[[int, int, int], nn.Module] = projection,
) -> nn.Sequential:
    """``blocks`` blocks in a row; the first one has the stride, and a ``shortcut`` where the shape changes."""
    unchanged = stride == 1 and in_channels == out_channels
    downsample = None if unchanged else shortcut(in_channels, out_channels, stride)
    rest = (block(out_channels, out_channels) for _ in range(blocks - 1))
    return nn.Sequential(block(in_channels, out_channels, stride, downsample), *rest)
