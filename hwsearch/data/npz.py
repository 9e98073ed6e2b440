"""Images or features stored as arrays in .npz files."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from hwsearch.data.dataset import Dataset
from hwsearch.data.preprocess import Preprocess
from hwsearch.data.split import evenly_spaced

MASK, SCALE, ZERO_POINT = "calib_mask", "scale", "zero_point"
"""Arrays a file may hold beside images and labels."""


def load_npz(
    root: str | PathLike[str],
    test: str,
    calibration: str | None = None,
    *,
    name: str,
    preprocess: Preprocess,
    images_key: str = "images",
    labels_key: str = "labels",
    max_calibration: int | None = None,
) -> Dataset:
    """Load labelled and calibration images from one or two .npz files.

    Images are uint8 or float32, ``[N, H, W, C]`` or ``[N, H, W]`` for one channel; int8 values with scalars ``scale``
    and ``zero_point`` beside them become ``scale * (value - zero_point)`` in float32.

    Args:
        root: Folder that holds the files.
        test: File with images and their labels, ``[N]``. Images under its boolean array ``calib_mask``, ``[N]``, are
            not scored.
        calibration: File with calibration images and, for training, their labels; without one, those under
            ``calib_mask`` of ``test`` are used.
        name: Name of the data set.
        preprocess: Input that the images must fit.
        images_key: Name of the image array in each file.
        labels_key: Name of the label array.
        max_calibration: Calibration images to keep, evenly spaced; None keeps all.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not .npz or lacks an array, or an array has the wrong type or shape.
    """
    test_path = Path(root).expanduser() / test
    arrays = _read(test_path, [images_key, labels_key])
    images = _images(arrays, images_key, test_path)
    labels = _labels(arrays, labels_key, len(images), test_path)
    mask = _mask(arrays, len(images), test_path)
    if calibration is None:
        if not mask.any():
            raise ValueError(
                f"Data '{name}' has no calibration images: '{test_path}' marks none in a boolean array '{MASK}'. "
                "Add that array, or set data.loader.calibration to a file of training images."
            )
        calibration_images = images[mask]
        calibration_labels: NDArray[np.int64] | None = labels[mask]
    else:
        path = Path(root).expanduser() / calibration
        if path.resolve() == test_path.resolve():
            raise ValueError(
                f"Data '{name}' would calibrate on the images it scores: test and calibration are both '{path}'. "
                f"Use another file, or mark calibration images in a boolean array '{MASK}'."
            )
        found = _read(path, [images_key], [labels_key])
        calibration_images = _images(found, images_key, path)
        calibration_labels = _labels(found, labels_key, len(calibration_images), path) if labels_key in found else None
    chosen = evenly_spaced(len(calibration_images), max_calibration)
    calibration_labels = None if calibration_labels is None else calibration_labels[chosen]
    dataset = Dataset(name, images[~mask], labels[~mask], calibration_images[chosen], calibration_labels)
    dataset.check_fits(preprocess)
    return dataset


def _read(path: Path, wanted: list[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read the wanted arrays and those of the optional ones that are there."""
    if not path.is_file():
        raise FileNotFoundError(
            f"No file '{path}'; expected a .npz file with arrays {wanted}. Set data.root to the folder that holds it."
        )
    if not is_zipfile(path):
        raise ValueError(f"File '{path}' is not a .npz file; expected one with arrays {wanted}.")
    with np.load(path, allow_pickle=False) as arrays:
        missing = [key for key in wanted if key not in arrays.files]
        if missing:
            raise ValueError(
                f"File '{path}' has no array {missing}; it has {arrays.files}. "
                "Set data.loader.images_key and data.loader.labels_key to names that are there."
            )
        keys = [*wanted, *(key for key in (*optional, MASK, SCALE, ZERO_POINT) if key in arrays.files)]
        try:
            return {key: arrays[key] for key in keys}
        except (ValueError, BadZipFile, ZlibError) as error:
            raise ValueError(f"File '{path}' cannot be read ({error}); expected numeric arrays {keys}.") from error


def _images(arrays: dict[str, NDArray[Any]], key: str, path: Path) -> NDArray[Any]:
    images = arrays[key]
    if images.dtype == np.int8:
        images = _dequantize(images, arrays, key, path)
    if images.ndim == 3:
        images = images[..., np.newaxis]  # [N, H, W] -> [N, H, W, 1]
    if images.ndim != 4 or images.dtype not in (np.uint8, np.float32):
        raise ValueError(
            f"Array '{key}' in '{path}' is {arrays[key].dtype} of shape {arrays[key].shape}; "
            "expected uint8, float32 or scaled int8 of shape [N, H, W, C] or [N, H, W]."
        )
    return images


def _dequantize(values: NDArray[Any], arrays: dict[str, NDArray[Any]], key: str, path: Path) -> NDArray[np.float32]:
    for scalar in (SCALE, ZERO_POINT):
        if scalar not in arrays or arrays[scalar].size != 1:
            raise ValueError(
                f"Array '{key}' in '{path}' is int8 and needs scalar arrays ['{SCALE}', '{ZERO_POINT}'] beside it; "
                f"'{scalar}' is {'no scalar' if scalar in arrays else 'missing'}."
            )
    difference = values.astype(np.float32) - np.float32(arrays[ZERO_POINT].item())
    return np.float32(arrays[SCALE].item()) * difference


def _labels(arrays: dict[str, NDArray[Any]], key: str, count: int, path: Path) -> NDArray[np.int64]:
    labels = arrays[key]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Array '{key}' in '{path}' is {labels.dtype} of shape {labels.shape}; "
            f"expected integers of shape [{count}]."
        )
    return labels.astype(np.int64)


def _mask(arrays: dict[str, NDArray[Any]], count: int, path: Path) -> NDArray[np.bool_]:
    mask = arrays.get(MASK, np.zeros(count, dtype=bool))
    if mask.dtype != bool or mask.shape != (count,):
        raise ValueError(
            f"Array '{MASK}' in '{path}' is {mask.dtype} of shape {mask.shape}; expected bool of shape [{count}]."
        )
    return mask
