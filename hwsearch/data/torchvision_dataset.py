"""Datasets of torchvision, which is imported only here and only if asked for."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwsearch.data.dataset import Dataset
from hwsearch.data.images import as_array
from hwsearch.data.preprocess import Preprocess
from hwsearch.data.split import evenly_spaced
from hwsearch.progress import track


def load_torchvision(
    dataset: str,
    test: Mapping[str, Any],
    calibration: Mapping[str, Any],
    *,
    name: str,
    preprocess: Preprocess,
    max_calibration: int | None = None,
) -> Dataset:
    """Load labelled and calibration images from a torchvision dataset.

    Args:
        dataset: Dotted path of a class whose items are (Pillow image, class number), as
            ``torchvision.datasets.CIFAR10``.
        test: Arguments of that class for the images to score, as ``{root: ..., train: false}``.
        calibration: Its arguments for the calibration images, as ``{root: ..., train: true}``.
        name: Name of the data set.
        preprocess: Size of the images; ``preprocess.resize`` resizes them to it (bilinear, whole image).
        max_calibration: Calibration images to decode, evenly spaced; None decodes all.

    Raises:
        ImportError: If the package of ``dataset`` is not installed or does not work.
        TypeError: If an item is not a Pillow image and an integer.
        ValueError: If ``dataset`` names no class, both argument sets are equal, or an image has the wrong size.
    """
    if dict(test) == dict(calibration):
        raise ValueError(
            f"Data '{name}' would calibrate on the images it scores: test and calibration are both {dict(test)}."
        )
    build = _locate(dataset, name)
    scored, calibrated = build(**test), build(**calibration)
    chosen = evenly_spaced(len(calibrated), max_calibration)
    inputs, labels = _decode(scored, np.arange(len(scored)), preprocess, f"{dataset} (test)")
    return Dataset(name, inputs, labels, *_decode(calibrated, chosen, preprocess, f"{dataset} (calibration)"))


def _locate(dataset: str, name: str) -> Any:
    module, _, attribute = dataset.rpartition(".")
    if not module:
        raise ValueError(f"data.loader.dataset='{dataset}' is no dotted path, as torchvision.datasets.CIFAR10 is.")
    try:
        build = getattr(import_module(module), attribute, None)
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision built for another torch
        raise ImportError(
            f"Data '{name}' needs '{dataset}', but '{module}' cannot be imported: {error}. "
            "Install the torchvision that belongs to your torch, or choose data of stored files."
        ) from error
    if build is None:
        raise ValueError(f"data.loader.dataset='{dataset}' is not found: module '{module}' has no '{attribute}'.")
    return build


def _decode(
    items: Sequence[Any], chosen: NDArray[np.int64], preprocess: Preprocess, place: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    channels, height, width = preprocess.shape
    pixels = np.empty((len(chosen), height, width, channels), dtype=np.uint8)
    labels = np.empty(len(chosen), dtype=np.int64)
    bar = track(chosen.tolist(), f"Decoding {place}")
    for i, index in enumerate(bar):
        match items[index]:
            case Image.Image() as image, (int() | np.integer()) as label:
                pixels[i], labels[i] = as_array(image, preprocess, f"{index} of {place}"), label
            case item:
                parts = [type(part).__name__ for part in item] if isinstance(item, tuple) else type(item).__name__
                raise TypeError(
                    f"Item {index} of {place} is {parts}; expected (Pillow image, class number). "
                    "Scale images by model.input, not by the dataset's transforms."
                )
    return pixels, labels
