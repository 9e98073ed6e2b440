"""Inception-v3: Szegedy et al. 2015, arXiv:1512.00567, with torchvision's parameter names and no auxiliary head."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwsearch.networks.stem import is_small


class ConvNormRelu(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, **kwargs: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **kwargs)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def smooth(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1)


class InceptionA(nn.Module):
    """1x1, 5x5, two 3x3 in a row, and pooled branches."""

    def __init__(self, in_channels: int, pool_channels: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNormRelu(in_channels, 64, kernel_size=1)
        self.branch5x5_1 = ConvNormRelu(in_channels, 48, kernel_size=1)
        self.branch5x5_2 = ConvNormRelu(48, 64, kernel_size=5, padding=2)
        self.branch3x3dbl_1 = ConvNormRelu(in_channels, 64, kernel_size=1)
        self.branch3x3dbl_2 = ConvNormRelu(64, 96, kernel_size=3, padding=1)
        self.branch3x3dbl_3 = ConvNormRelu(96, 96, kernel_size=3, padding=1)
        self.branch_pool = ConvNormRelu(in_channels, pool_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(smooth(x))], 1)


class InceptionB(nn.Module):
    """Downsampling to half the size (figure 10 of the paper)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNormRelu(in_channels, 384, kernel_size=3, stride=2)
        self.branch3x3dbl_1 = ConvNormRelu(in_channels, 64, kernel_size=1)
        self.branch3x3dbl_2 = ConvNormRelu(64, 96, kernel_size=3, padding=1)
        self.branch3x3dbl_3 = ConvNormRelu(96, 96, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class InceptionC(nn.Module):
    """7x7 convolutions as pairs of 1x7 and 7x1 (figure 6)."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        row, column = {"kernel_size": (1, 7), "padding": (0, 3)}, {"kernel_size": (7, 1), "padding": (3, 0)}
        self.branch1x1 = ConvNormRelu(in_channels, 192, kernel_size=1)
        self.branch7x7_1 = ConvNormRelu(in_channels, width, kernel_size=1)
        self.branch7x7_2 = ConvNormRelu(width, width, **row)
        self.branch7x7_3 = ConvNormRelu(width, 192, **column)
        self.branch7x7dbl_1 = ConvNormRelu(in_channels, width, kernel_size=1)
        self.branch7x7dbl_2 = ConvNormRelu(width, width, **column)
        self.branch7x7dbl_3 = ConvNormRelu(width, width, **row)
        self.branch7x7dbl_4 = ConvNormRelu(width, width, **column)
        self.branch7x7dbl_5 = ConvNormRelu(width, 192, **row)
        self.branch_pool = ConvNormRelu(in_channels, 192, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(smooth(x))], 1)


class InceptionD(nn.Module):
    """Downsampling to half the size, with a 7x7 convolution in one branch."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNormRelu(in_channels, 192, kernel_size=1)
        self.branch3x3_2 = ConvNormRelu(192, 320, kernel_size=3, stride=2)
        self.branch7x7x3_1 = ConvNormRelu(in_channels, 192, kernel_size=1)
        self.branch7x7x3_2 = ConvNormRelu(192, 192, kernel_size=(1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvNormRelu(192, 192, kernel_size=(7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvNormRelu(192, 192, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, 2)], 1)


class InceptionE(nn.Module):
    """1x3 and 3x1 convolutions side by side (figure 7)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        row, column = {"kernel_size": (1, 3), "padding": (0, 1)}, {"kernel_size": (3, 1), "padding": (1, 0)}
        self.branch1x1 = ConvNormRelu(in_channels, 320, kernel_size=1)
        self.branch3x3_1 = ConvNormRelu(in_channels, 384, kernel_size=1)
        self.branch3x3_2a = ConvNormRelu(384, 384, **row)
        self.branch3x3_2b = ConvNormRelu(384, 384, **column)
        self.branch3x3dbl_1 = ConvNormRelu(in_channels, 448, kernel_size=1)
        self.branch3x3dbl_2 = ConvNormRelu(448, 384, kernel_size=3, padding=1)
        self.branch3x3dbl_3a = ConvNormRelu(384, 384, **row)
        self.branch3x3dbl_3b = ConvNormRelu(384, 384, **column)
        self.branch_pool = ConvNormRelu(in_channels, 192, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        sides = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        sides += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *sides, self.branch_pool(smooth(x))], 1)


class InceptionV3(nn.Module):
    """Inception-v3 for ``[N, 3, 299, 299]`` ("imagenet") or ``[N, 3, 32, 32]`` ("cifar") inputs.

    The CIFAR stem has the same five convolutions with stride 1 and no pooling, as in weiaicunzai/pytorch-cifar100: the
    blocks see 30x30, 14x14 and 6x6 values.

    Args:
        stem: "imagenet" or "cifar".
        classes: Number of classes.

    Raises:
        ValueError: If ``stem`` is neither.
    """

    training_only = ("AuxLogits.",)
    """Keys of torchvision's checkpoints that inference does not need (see ``load_checkpoint``)."""

    def __init__(self, stem: str = "imagenet", classes: int = 1000) -> None:
        super().__init__()
        small = is_small(stem)
        pad = 1 if small else 0
        self.Conv2d_1a_3x3 = ConvNormRelu(3, 32, kernel_size=3, stride=1 if small else 2, padding=pad)
        self.Conv2d_2a_3x3 = ConvNormRelu(32, 32, kernel_size=3, padding=pad)
        self.Conv2d_2b_3x3 = ConvNormRelu(32, 64, kernel_size=3, padding=1)
        self.Conv2d_3b_1x1 = ConvNormRelu(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = ConvNormRelu(80, 192, kernel_size=3)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2)
        self.Mixed_5b = InceptionA(192, pool_channels=32)
        self.Mixed_5c = InceptionA(256, pool_channels=64)
        self.Mixed_5d = InceptionA(288, pool_channels=64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, width=128)
        self.Mixed_6c = InceptionC(768, width=160)
        self.Mixed_6d = InceptionC(768, width=160)
        self.Mixed_6e = InceptionC(768, width=192)
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280)
        self.Mixed_7c = InceptionE(2048)
        self.dropout = nn.Dropout()
        self.fc = nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = self.pool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        logits: Tensor = self.fc(self.dropout(x.mean((2, 3))))
        return logits
