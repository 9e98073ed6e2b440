"""From stored images to the tensor that a network reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Preprocess:
    """Scales images to a network's input: ``(x / divisor - mean) / std``.

    Sequences may be lists, as Hydra gives them; they are stored as tuples.

    Attributes:
        shape: (channels, height, width) of the network's input.
        divisor: Divides every value; 255 maps uint8 to [0, 1].
        mean: Subtracted per channel after the division; one value serves all channels.
        std: Divides per channel at last; one value serves all channels.
        layout: ``"NCHW"``, or ``"NHWC"`` for networks that take channels last as their shape.
        resize: Whether loaders that decode image files resize the whole image (bilinear) to ``shape``.

    Raises:
        ValueError: If a size, a length, ``divisor`` or ``std`` is not allowed.
    """

    shape: Sequence[int]
    divisor: float = 1.0
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    resize: bool = False
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def __post_init__(self) -> None:
        for field in ("shape", "mean", "std"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if len(self.shape) != 3 or any(not isinstance(size, int) or size < 1 for size in self.shape):
            raise ValueError(
                f"model.input.shape={list(self.shape)} must be three positive integers: channels, height, width."
            )
        for field, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.shape[0]):
                raise ValueError(
                    f"model.input.{field}={list(values)} has {len(values)} values; "
                    f"it needs 1, or one for each of the {self.shape[0]} channels."
                )
            if not all(map(isfinite, values)):
                raise ValueError(f"model.input.{field}={list(values)} must be finite.")
        if self.layout not in ("NCHW", "NHWC"):
            raise ValueError(f"model.input.layout={self.layout} must be NCHW or NHWC.")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"model.input.std={list(self.std)} must be positive.")
        if not (self.divisor > 0 and isfinite(self.divisor)):
            raise ValueError(f"model.input.divisor={self.divisor} must be positive and finite.")

    def __call__(self, images: NDArray[Any]) -> Tensor:
        """Turn stored images into network input.

        Args:
            images: uint8 or float32, ``[N, H, W, C]``.

        Returns:
            float32, ``[N, C, H, W]`` in channels-last memory order, or ``[N, H, W, C]``, as ``layout`` says.

        Raises:
            TypeError: If the values are neither uint8 nor float32.
            ValueError: If the images have another shape than ``self.shape``.
        """
        if images.dtype not in (np.uint8, np.float32):
            raise TypeError(f"Images are {images.dtype}; expected uint8 or float32.")
        channels, height, width = self.shape
        if images.shape[1:] != (height, width, channels):
            raise ValueError(
                f"Images have shape {images.shape}; model input needs [N, {height}, {width}, {channels}] (N, H, W, C)."
            )
        x = torch.from_numpy(images.astype(np.float32, order="C"))
        x = (x / self.divisor - torch.tensor(self.mean)) / torch.tensor(self.std)
        return x if self.layout == "NHWC" else x.permute(0, 3, 1, 2)  # [N, H, W, C] -> [N, C, H, W]
