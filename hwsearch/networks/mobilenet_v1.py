"""MobileNetV1 of any width: Howard et al. 2017, arXiv:1704.04861, table 1, with TensorFlow's padding."""

import torch.nn.functional as F
from torch import Tensor, nn

from hwsearch.networks.same_padding import SameConvNorm, same_conv

BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
"""(output channels at width 1, stride) of each pair of a depthwise and a pointwise convolution."""


def convolutions(width: float) -> list[tuple[int, int, tuple[int, int], int, int]]:
    """(in_channels, out_channels, kernel, stride, groups) of the 27 convolutions.

    Raises:
        ValueError: If ``width`` is not positive or leaves a layer without channels.
    """
    channels = int(32 * width)
    if channels < 1:
        raise ValueError(f"model.network.width={width} must be at least 1/32; published are 0.25, 0.5, 0.75 and 1.0.")
    convs = [(3, channels, (3, 3), 2, 1)]
    for full_width, stride in BLOCKS:
        wider = int(full_width * width)
        convs += [(channels, channels, (3, 3), stride, channels), (channels, wider, (1, 1), 1, 1)]
        channels = wider
    return convs


class MobileNetV1(nn.Module):
    """As in Keras (ReLU6, 1x1 convolution as classifier) for ``[N, 3, H, W]`` inputs, 224x224 at best.

    Args:
        width: Scales the channels of every layer ("alpha").
        classes: Number of classes.
    """

    def __init__(self, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        blocks = [
            nn.Sequential(*same_conv(i, o, kernel, stride, groups, bias=False), nn.BatchNorm2d(o, eps=1e-3), nn.ReLU6())
            for i, o, kernel, stride, groups in convolutions(width)
        ]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Conv2d(int(1024 * width), classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).mean((2, 3), keepdim=True)
        logits: Tensor = self.classifier(x)  # [N, classes, 1, 1]
        return logits.flatten(1)


class VisualWakeWords(nn.Module):
    """Visual wake words of MLPerf Tiny, arXiv:2106.07597: width 0.25, ReLU, ``[N, 3, 96, 96]`` inputs.

    Parameter names are those of the weights converted from mlcommons/tiny.
    """

    def __init__(self, width: float = 0.25, classes: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(SameConvNorm(*conv) for conv in convolutions(width))
        self.fc = nn.Linear(int(1024 * width), classes)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits
