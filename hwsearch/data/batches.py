"""Preprocessed batches of stored images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwsearch.data.preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class Batch:
    """Images that are judged together; equal to itself only, so that engines can remember what they computed of it.

    Attributes:
        images: uint8 or float32, ``[N, H, W, C]``.
        labels: Classes, int64, ``[N]``.
        preprocess: Makes network input of the images.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.images)

    @property
    def inputs(self) -> Tensor:
        """Network input, float32 ``[N, C, H, W]``, made anew at each call."""
        return self.preprocess(self.images)


@dataclass(frozen=True, eq=False)
class Batches:
    """Preprocesses one batch at a time, in order, as often as it is iterated.

    ``len`` counts batches, as for torch's ``DataLoader``; the last one may be smaller.

    Attributes:
        inputs: Images, uint8 or float32, ``[N, H, W, C]``.
        labels: Classes, int64, ``[N]``.
        preprocess: Makes network input of the images.
        batch_size: Images per batch.

    Raises:
        ValueError: If there is not one label per image, or ``batch_size`` is not positive.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    preprocess: Preprocess
    batch_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"data.batch_size={self.batch_size} must be at least 1.")
        if len(self.inputs) != len(self.labels):
            raise ValueError(f"Batches got {len(self.inputs)} images but {len(self.labels)} labels.")

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.parts():
            yield batch.inputs, torch.tensor(batch.labels, dtype=torch.int64)

    def parts(self) -> Iterator[Batch]:
        """The batches, not preprocessed."""
        for start in range(0, len(self.inputs), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield Batch(self.inputs[part], self.labels[part], self.preprocess)
