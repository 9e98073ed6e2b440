"""How a network is trained: optimizer, learning rate, augmentation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum, a learning rate that falls in steps, random crops and flips.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Most images of a step.
        lr: Learning rate of the first epoch.
        decay: Factor of the learning rate at each of ``decay_at``.
        decay_at: Shares of the epochs after which it falls.
        momentum: Of the gradients, in [0, 1).
        weight_decay: Factor of the squared weights in the loss.
        crop_padding: Pixels of zeros around an image before it is cropped to its size.
        flip: Whether every other image is mirrored.

    Raises:
        ValueError: If a number is outside its range.
    """

    epochs: int
    batch_size: int
    lr: float
    decay: float
    decay_at: Sequence[float]
    momentum: float
    weight_decay: float
    crop_padding: int
    flip: bool

    def __post_init__(self) -> None:
        bounds = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "lr": self.lr > 0,
            "decay": 0 < self.decay <= 1,
            "decay_at": all(0 < share < 1 for share in self.decay_at),
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": self.weight_decay >= 0,
            "crop_padding": self.crop_padding >= 0,
        }
        wrong = [name for name, holds in bounds.items() if not holds]
        if wrong:
            raise ValueError(
                f"Training with {wrong[0]}={getattr(self, wrong[0])} is not possible; epochs and batch_size are at "
                "least 1, lr is positive, decay in (0, 1], decay_at in (0, 1), momentum in [0, 1), weight_decay and "
                "crop_padding are at least 0."
            )

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.SGD:
        """Of the parameters; :meth:`lr_at` gives its learning rate."""
        nesterov = self.momentum > 0
        return torch.optim.SGD(parameters, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=nesterov)

    def lr_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return self.lr * self.decay ** sum(epoch >= share * self.epochs for share in self.decay_at)


def crop_and_flip(images: Tensor, generator: Generator, padding: int, flip: bool) -> Tensor:
    """Shift each image by up to ``padding`` pixels per axis, zeros coming in, and mirror every other one.

    Args:
        images: ``[N, H, W, C]``.
        generator: Source of shifts and flips.
        padding: Largest shift.
        flip: Whether images are mirrored left to right, each with probability 1/2.

    Returns:
        Images of the same shape and type.
    """
    count, height, width, _ = images.shape
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    top, left = torch.randint(2 * padding + 1, (2, count, 1), generator=generator)
    rows, columns = top + torch.arange(height), left + torch.arange(width)  # [N, H], [N, W]
    mirrored = torch.rand(count, 1, generator=generator) < (0.5 if flip else 0.0)
    columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[torch.arange(count).view(-1, 1, 1), rows.unsqueeze(2), columns.unsqueeze(1)]
