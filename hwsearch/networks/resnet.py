"""ResNet-18, -34, -50 and -101: He et al. 2016, arXiv:1512.03385, with torchvision's parameter names."""

import torch.nn.functional as F
from torch import Tensor, nn

from hwsearch.networks.residual import BasicBlock, Bottleneck, stage
from hwsearch.networks.stem import is_small

BLOCKS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}
"""Table 1 of the paper: kind and number of blocks in the four stages."""


class ResNet(nn.Module):
    """ResNet for ``[N, 3, 224, 224]`` ("imagenet") or ``[N, 3, 32, 32]`` ("cifar") inputs.

    The CIFAR stem is one 3x3 convolution with stride 1 and no pooling, as in kuangliu/pytorch-cifar.

    Args:
        depth: 18, 34, 50 or 101.
        stem: "imagenet" or "cifar".
        classes: Number of classes.

    Raises:
        ValueError: If ``depth`` or ``stem`` is not one of these.
    """

    def __init__(self, depth: int, stem: str = "imagenet", classes: int = 1000) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"ResNet depth={depth} is unknown; use one of {list(BLOCKS)}.")
        block, (n1, n2, n3, n4) = BLOCKS[depth]
        small, e = is_small(stem), block.expansion
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False) if small else nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        self.layer1 = stage(block, 64, 64 * e, n1, 1)
        self.layer2 = stage(block, 64 * e, 128 * e, n2, 2)
        self.layer3 = stage(block, 128 * e, 256 * e, n3, 2)
        self.layer4 = stage(block, 256 * e, 512 * e, n4, 2)
        self.fc = nn.Linear(512 * e, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits
