"""MobileNetV2: Sandler et al. 2018, arXiv:1801.04381, table 2, with torchvision's parameter names."""

from torch import Tensor, nn

from hwsearch.networks.stem import is_small

BLOCKS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
"""(expansion, output channels, repetitions, stride of the first)."""


def conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Pointwise expansion, depthwise convolution, linear pointwise projection; a sum where the shape is kept."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = [] if expansion == 1 else [conv_norm(in_channels, hidden, 1)]
        self.conv = nn.Sequential(
            *expand,
            conv_norm(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.is_residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1 for ``[N, 3, 224, 224]`` ("imagenet") or ``[N, 3, 32, 32]`` ("cifar") inputs.

    The CIFAR stem leaves out the first two of five downsamplings, as in kuangliu/pytorch-cifar; blocks and parameter
    names are the same.

    Args:
        stem: "imagenet" or "cifar".
        classes: Number of classes.

    Raises:
        ValueError: If ``stem`` is neither.
    """

    def __init__(self, stem: str = "imagenet", classes: int = 1000) -> None:
        super().__init__()
        small, channels = is_small(stem), 32
        features: list[nn.Module] = [conv_norm(3, channels, 3, 1 if small else 2)]
        for expansion, out_channels, repetitions, stride in BLOCKS:
            first_stride = 1 if small and out_channels == 24 else stride
            for i in range(repetitions):
                features.append(InvertedResidual(channels, out_channels, 1 if i else first_stride, expansion))
                channels = out_channels
        self.features = nn.Sequential(*features, conv_norm(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits
