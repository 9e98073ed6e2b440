"""Image files in folders or .zip files."""

import re
from collections.abc import Iterator
from io import BytesIO
from os import PathLike
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from hwsearch.data.dataset import Dataset
from hwsearch.data.preprocess import Preprocess
from hwsearch.data.split import evenly_spaced
from hwsearch.progress import track

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
FOLDER = "folder"
"""``labels_from`` of this value takes classes from folder names."""


def load_images(
    root: str | PathLike[str],
    images: str,
    calibration: str,
    *,
    name: str,
    preprocess: Preprocess,
    labels_from: str = r"^\d+_(?P<label>\d+)_",
    max_calibration: int | None = None,
) -> Dataset:
    """Decode labelled and calibration images from two folders or .zip files.

    Files are taken in the order of their names. Pixels are RGB or grey, by the channels of ``preprocess.shape``.

    Args:
        root: Folder that holds both.
        images: Folder or .zip file with the images to score.
        calibration: Folder or .zip file with calibration images; needs no labels.
        name: Name of the data set.
        preprocess: Size of the images; ``preprocess.resize`` resizes them to it (bilinear, whole image).
        labels_from: ``"folder"``: a class per parent folder, numbered in the order of sorted names; otherwise a regular
            expression whose group ``label`` finds the class number in the file name. The default reads
            ``index_label_ImageId.jpg``.
        max_calibration: Calibration images to decode, evenly spaced; None decodes all.

    Raises:
        FileNotFoundError: If a folder or file is missing.
        ValueError: If there are no images, one cannot be decoded or has the wrong size, or a label cannot be found.
    """
    folder = Path(root).expanduser()
    scored, calibrated = folder / images, folder / calibration
    if scored.resolve() == calibrated.resolve():
        raise ValueError(
            f"Data '{name}' would calibrate on the images it scores: images and calibration are both '{scored}'. "
            "Set data.loader.calibration to training images."
        )
    names, calibration_names = _list(scored), _list(calibrated)
    labels = _folder_labels(scored, names) if labels_from == FOLDER else _name_labels(scored, names, labels_from)
    chosen = [calibration_names[i] for i in evenly_spaced(len(calibration_names), max_calibration)]
    return Dataset(name, _decode(scored, names, preprocess), labels, _decode(calibrated, chosen, preprocess))


def as_array(image: Image.Image, preprocess: Preprocess, place: str) -> NDArray[np.uint8]:
    """Turn a decoded image into uint8 pixels of the network's input size.

    Args:
        image: Any Pillow image.
        preprocess: Wanted size and channels, and whether to resize.
        place: What the image is called in an error.

    Returns:
        RGB or grey, ``[H, W, C]``.

    Raises:
        ValueError: If the image has another size and is not to be resized, or ``C`` is neither 1 nor 3.
    """
    channels, height, width = preprocess.shape
    if channels not in (1, 3):
        raise ValueError(
            f"Model input has {channels} channels, but image files have 1 or 3; choose data of stored arrays."
        )
    image = image.convert("L" if channels == 1 else "RGB")
    if preprocess.resize:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if image.size != (width, height):
        raise ValueError(
            f"Image {place} is {image.height}x{image.width} (H x W), but model input is "
            f"{channels}x{height}x{width} (C x H x W); set model.input.resize=true or choose images of that size."
        )
    return np.asarray(image, dtype=np.uint8).reshape(height, width, channels)  # grey: [H, W] -> [H, W, 1]


def _list(path: Path) -> list[str]:
    """Sorted names of the image files below a folder or in a .zip file."""
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    elif not path.exists():
        raise FileNotFoundError(
            f"No folder or file '{path}'; expected a folder or a .zip file with images {list(SUFFIXES)}. "
            "Set data.root to the folder that holds it."
        )
    elif is_zipfile(path):
        with ZipFile(path) as archive:
            names = archive.namelist()
    else:
        raise ValueError(f"File '{path}' is neither a folder nor a .zip file of images.")
    # Names with a leading dot are file-system metadata, such as macOS's ._name.jpg.
    images = [n for n in names if n.lower().endswith(SUFFIXES) and not PurePosixPath(n).name.startswith(".")]
    if not images:
        raise ValueError(f"'{path}' holds no images; expected files that end in {list(SUFFIXES)}.")
    return sorted(images)


def _read(path: Path, names: list[str]) -> Iterator[bytes]:
    if path.is_dir():
        yield from ((path / name).read_bytes() for name in names)
    else:
        with ZipFile(path) as archive:
            yield from (archive.read(name) for name in names)


def _decode(path: Path, names: list[str], preprocess: Preprocess) -> NDArray[np.uint8]:
    channels, height, width = preprocess.shape
    pixels = np.empty((len(names), height, width, channels), dtype=np.uint8)
    bar = track(names, f"Decoding {path.name}")
    contents = _read(path, names)
    for i, name in enumerate(bar):
        place = f"'{name}' in '{path}'"
        try:
            image = Image.open(BytesIO(next(contents)))
            image.load()
        except (UnidentifiedImageError, OSError, BadZipFile) as error:
            raise ValueError(f"Image {place} cannot be decoded: {error}.") from error
        pixels[i] = as_array(image, preprocess, place)
    return pixels


def _folder_labels(path: Path, names: list[str]) -> NDArray[np.int64]:
    parents = [PurePosixPath(name).parent.name for name in names]
    if "" in parents:
        raise ValueError(
            f"Image '{names[parents.index('')]}' in '{path}' lies in no class folder, as labels_from='{FOLDER}' needs; "
            "move it to one, or set data.loader.labels_from to a regular expression with a group (?P<label>...)."
        )
    return np.unique(parents, return_inverse=True)[1].astype(np.int64)


def _name_labels(path: Path, names: list[str], labels_from: str) -> NDArray[np.int64]:
    try:
        pattern = re.compile(labels_from)
    except re.error as error:
        raise ValueError(f"data.loader.labels_from='{labels_from}' is no regular expression: {error}.") from error
    if "label" not in pattern.groupindex:
        raise ValueError(
            f"data.loader.labels_from='{labels_from}' must be '{FOLDER}' or a regular expression "
            "with a group (?P<label>...)."
        )
    matches = [pattern.search(PurePosixPath(name).name) for name in names]
    labels = [match["label"] if match else None for match in matches]
    for name, label in zip(names, labels, strict=True):
        if label is None or not label.isdecimal():
            raise ValueError(
                f"File name '{name}' in '{path}' has no class number by labels_from='{labels_from}'; "
                f"rename it, or set data.loader.labels_from to another expression or to '{FOLDER}'."
            )
    return np.array(labels, dtype=np.int64)
