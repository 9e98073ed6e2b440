"""Image classification and keyword spotting of MLPerf Tiny: Banbury et al. 2021, arXiv:2106.07597.

Parameter names are those of the weights converted from mlcommons/tiny. Visual wake words is in ``mobilenet_v1``.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from hwsearch.networks.same_padding import SameConvNorm


class TinyBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; where the shape changes, a 1x1 convolution without batch norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.c1 = SameConvNorm(in_channels, out_channels, (3, 3), stride)
        self.c2 = SameConvNorm(out_channels, out_channels, (3, 3))
        self.sc = nn.Identity() if stride == 1 else nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.sc(x) + self.c2(F.relu(self.c1(x))))


class ResNet8(nn.Module):
    """ResNet-8 for ``[N, 3, 32, 32]`` inputs, raw 0..255."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = SameConvNorm(3, 16, (3, 3))
        self.blocks = nn.Sequential(TinyBlock(16, 16, 1), TinyBlock(16, 32, 2), TinyBlock(32, 64, 2))
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.stem(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class DSCNN(nn.Module):
    """Depthwise-separable network for ``[N, 1, 49, 10]`` MFCC features."""

    def __init__(self, channels: int = 64, classes: int = 12) -> None:
        super().__init__()
        self.stem = SameConvNorm(1, channels, (10, 4), 2)
        self.dw = nn.ModuleList(SameConvNorm(channels, channels, (3, 3), groups=channels) for _ in range(4))
        self.pw = nn.ModuleList(SameConvNorm(channels, channels, (1, 1)) for _ in range(4))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))  # [N, channels, 25, 5]
        for depthwise, pointwise in zip(self.dw, self.pw, strict=True):
            x = F.relu(pointwise(F.relu(depthwise(x))))
        logits: Tensor = self.fc(x[:, :, :24].mean((2, 3)))  # Keras' 24x5 'VALID' average pool never reads row 24
        return logits
