"""ResNet-20 to ResNet-110 for CIFAR: He et al. 2016, arXiv:1512.03385, section 4.2."""

import torch.nn.functional as F
from torch import Tensor, nn

from hwsearch.networks.residual import BasicBlock, PadShortcut, projection, stage


class CifarResNet(nn.Module):
    """ResNet-(6n+2) for ``[N, 3, 32, 32]`` inputs.

    Args:
        depth: 20, 32, 44, 56, 110, or any other ``6n+2``.
        shortcut: "A" fills new channels with zeros (as in the paper); "B" projects with 1x1 convolutions.
        classes: Number of classes.

    Parameter names are those of published weights: akamaster/pytorch_resnet_cifar10 for option A (head ``linear``),
    chenyaofo/pytorch-cifar-models for option B (head ``fc``).

    Raises:
        ValueError: If ``depth`` or ``shortcut`` is not one of these.
    """

    def __init__(self, depth: int, shortcut: str = "A", classes: int = 10) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"CifarResNet depth={depth} is not 6n+2; use 20, 32, 44, 56 or 110.")
        if shortcut not in ("A", "B"):
            raise ValueError(f"CifarResNet shortcut={shortcut!r} is unknown; use 'A' (zero-padded) or 'B' (projected).")
        blocks, option = depth // 6, PadShortcut if shortcut == "A" else projection
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(BasicBlock, 16, 16, blocks, 1, option)
        self.layer2 = stage(BasicBlock, 16, 32, blocks, 2, option)
        self.layer3 = stage(BasicBlock, 32, 64, blocks, 2, option)
        self.head = "linear" if shortcut == "A" else "fc"
        self.add_module(self.head, nn.Linear(64, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.get_submodule(self.head)(x.mean((2, 3)))
        return logits
