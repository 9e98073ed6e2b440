"""The network of the first example: scikit-learn's 8x8 digits, trained in seconds, shipped with the package."""

import torch.nn.functional as F
from torch import Tensor, nn

from hwsearch.networks.residual import BasicBlock, projection


class DigitsResNet(nn.Module):
    """Residual network for ``[N, 1, 8, 8]`` inputs with nine quantizable layers and 38,266 parameters."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.block1 = BasicBlock(16, 16)
        self.block2 = BasicBlock(16, 32, 2, projection(16, 32, 2))
        self.block3 = BasicBlock(32, 32)
        self.fc = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.block3(self.block2(self.block1(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits
