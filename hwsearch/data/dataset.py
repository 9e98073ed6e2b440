"""Labelled images to score on, and images to calibrate on."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsearch.data.preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as stored, before ``Preprocess``; the calibration images are never scored.

    Attributes:
        name: Name in messages and in the run folder.
        inputs: Images to score, uint8 or float32, ``[N, H, W, C]``.
        labels: Their classes, counted from 0, int64, ``[N]``.
        calibration: Images of the same type and size, ``[M, H, W, C]``; those that a network may be trained on.
        calibration_labels: Their classes, int64, ``[M]``, where the loader knows them.

    Raises:
        TypeError: If an array has another type.
        ValueError: If shapes do not belong together, an array is empty, or a value is not allowed.
    """

    name: str
    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    calibration: NDArray[Any]
    calibration_labels: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        self._check_images("inputs", self.inputs)
        self._check_images("calibration", self.calibration)
        self._check_labels(self.labels, self.inputs)
        if self.calibration_labels is not None:
            self._check_labels(self.calibration_labels, self.calibration)
        stored, calibration = (f"{x.dtype} {_size(x)}" for x in (self.inputs, self.calibration))
        if stored != calibration:
            raise ValueError(
                f"Data '{self.name}' has inputs of {stored} but calibration images of {calibration} (H x W x C); "
                "both must have the same type and size."
            )

    def _check_images(self, field: str, images: NDArray[Any]) -> None:
        if images.dtype not in (np.uint8, np.float32):
            raise TypeError(f"Data '{self.name}' has {field} of type {images.dtype}; expected uint8 or float32.")
        if images.ndim != 4 or 0 in images.shape:
            raise ValueError(
                f"Data '{self.name}' has {field} of shape {images.shape}; "
                "expected [N, H, W, C] with at least one image."
            )
        if images.dtype == np.float32 and not np.isfinite(images).all():
            raise ValueError(f"Data '{self.name}' has NaN or infinite values in {field}.")

    def _check_labels(self, labels: NDArray[Any], images: NDArray[Any]) -> None:
        if labels.dtype != np.int64:
            raise TypeError(f"Data '{self.name}' has labels of type {labels.dtype}; expected int64.")
        if labels.shape != images.shape[:1]:
            raise ValueError(
                f"Data '{self.name}' has labels of shape {labels.shape} for {len(images)} images; "
                "expected one label per image."
            )
        if labels.min() < 0:
            raise ValueError(f"Data '{self.name}' has label {labels.min()}; classes are counted from 0.")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over bytes, types and shapes of what is scored: inputs and labels, in hexadecimal."""
        return _sha256(self.inputs, self.labels)

    @cached_property
    def calibration_fingerprint(self) -> str:
        """The same over the calibration images."""
        return _sha256(self.calibration)

    def check_fits(self, preprocess: Preprocess) -> None:
        """Refuse images of another size than the network's input.

        Raises:
            ValueError: If (height, width, channels) of the images is not that of ``preprocess.shape``.
        """
        channels, height, width = preprocess.shape
        if self.inputs.shape[1:] != (height, width, channels):
            raise ValueError(
                f"Data '{self.name}' has images of {_size(self.inputs)} (H x W x C), "
                f"but model input is {channels}x{height}x{width} (C x H x W). Choose data and model that agree; "
                "model.input.resize=true resizes image files, not stored arrays."
            )


def _sha256(*arrays: NDArray[Any]) -> str:
    digest = sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _size(images: NDArray[Any]) -> str:
    return "x".join(map(str, images.shape[1:]))
