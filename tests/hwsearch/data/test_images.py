from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from hwsearch.data import Preprocess, load_images

PREPROCESS = Preprocess((3, 4, 6))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 6, 3), dtype=np.uint8)


def write(folder, name, pixels):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def pack(folder, archive):
    with ZipFile(archive, "w") as file:
        for path in folder.rglob("*.*"):
            file.write(path, path.relative_to(folder))


@pytest.fixture
def root(tmp_path):
    """Four named images (classes 7, 0, 7, 12), and two calibration images without labels."""
    for i, label in enumerate((7, 0, 7, 12)):
        write(tmp_path, f"test/{i:04d}_{label}_abc.png", PIXELS[i])
    for i in (4, 5):
        write(tmp_path, f"calibration/n{i}.png", PIXELS[i])
    return tmp_path


def load(root, images="test", calibration="calibration", preprocess=PREPROCESS, **options):
    return load_images(root, images, calibration, name="mine", preprocess=preprocess, **options)


def test_class_numbers_are_read_from_file_names(root):
    data = load(root)
    assert data.labels.tolist() == [7, 0, 7, 12]
    assert np.array_equal(data.inputs, PIXELS[:4]) and np.array_equal(data.calibration, PIXELS[4:])


def test_zip_file_and_folder_load_alike(root):
    for name in ("test", "calibration"):
        pack(root / name, root / f"{name}.zip")
    assert load(root, "test.zip", "calibration.zip").fingerprint == load(root).fingerprint


def test_classes_are_numbered_by_sorted_parent_folders(root):
    for i, name in enumerate(("val/dog/a.png", "val/cat/b.png", "val/ant/z.png", "val/dog/._a.png")):
        write(root, name, PIXELS[i])
    data = load(root, "val", labels_from="folder")
    assert data.labels.tolist() == [0, 1, 2]  # ant, cat, dog; ._a.png is file-system metadata
    assert np.array_equal(data.inputs, PIXELS[[2, 1, 0]])


def test_grey_input_converts_images(root):
    data = load(root, preprocess=Preprocess((1, 4, 6)))
    expected = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in PIXELS[:4]])
    assert np.array_equal(data.inputs, expected[..., np.newaxis])


def test_resize_takes_the_whole_image_bilinearly(root):
    data = load(root, preprocess=Preprocess((3, 2, 3), resize=True))
    expected = [np.asarray(Image.fromarray(p).resize((3, 2), Image.Resampling.BILINEAR)) for p in PIXELS[:4]]
    assert data.inputs.shape == (4, 2, 3, 3) and np.array_equal(data.inputs, expected)


def test_max_calibration_decodes_evenly_spaced_images(root):
    assert np.array_equal(
        load(
            root, calibration="test", images="calibration", labels_from=r"n(?P<label>\d)", max_calibration=2
        ).calibration,
        PIXELS[[0, 2]],
    )


def test_missing_folder_is_named(root):
    with pytest.raises(FileNotFoundError) as error:
        load(root, "val.zip")
    assert str(error.value) == (
        f"No folder or file '{root / 'val.zip'}'; expected a folder or a .zip file with images "
        "['.bmp', '.jpeg', '.jpg', '.png', '.webp']. Set data.root to the folder that holds it."
    )


def test_file_of_another_kind_is_named(root):
    (root / "val.zip").write_bytes(b"text")
    with pytest.raises(ValueError) as error:
        load(root, "val.zip")
    assert str(error.value) == f"File '{root / 'val.zip'}' is neither a folder nor a .zip file of images."


def test_folder_without_images_is_named(root):
    (root / "val").mkdir()
    with pytest.raises(ValueError) as error:
        load(root, "val")
    assert str(error.value) == (
        f"'{root / 'val'}' holds no images; expected files that end in ['.bmp', '.jpeg', '.jpg', '.png', '.webp']."
    )


def test_image_of_another_size_is_named(root):
    write(root, "test/0002_7_abc.png", PIXELS[2][:, :5])
    with pytest.raises(ValueError) as error:
        load(root)
    assert str(error.value) == (
        f"Image '0002_7_abc.png' in '{root / 'test'}' is 4x5 (H x W), but model input is 3x4x6 (C x H x W); "
        "set model.input.resize=true or choose images of that size."
    )


def test_broken_image_is_named(root):
    path = root / "test/0002_7_abc.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError) as error:
        load(root)
    assert str(error.value).startswith(f"Image '0002_7_abc.png' in '{root / 'test'}' cannot be decoded: ")


def test_model_input_of_two_channels_has_no_image_files(root):
    with pytest.raises(ValueError) as error:
        load(root, preprocess=Preprocess((2, 4, 6)))
    assert str(error.value) == (
        "Model input has 2 channels, but image files have 1 or 3; choose data of stored arrays."
    )


@pytest.mark.parametrize("pattern", [r"^\d+_(?P<label>\d+)_", r"(?P<label>\w+)"])
def test_file_name_without_class_number_is_named(root, pattern):
    write(root, "test/photo.png", PIXELS[0])
    with pytest.raises(ValueError) as error:
        load(root, labels_from=pattern)
    name = "photo.png" if pattern.startswith("^") else "0000_7_abc.png"
    assert str(error.value) == (
        f"File name '{name}' in '{root / 'test'}' has no class number by labels_from='{pattern}'; "
        "rename it, or set data.loader.labels_from to another expression or to 'folder'."
    )


@pytest.mark.parametrize(
    ("labels_from", "message"),
    [
        ("folders", "='folders' must be 'folder' or a regular expression with a group (?P<label>...)."),
        ("(", "='(' is no regular expression: missing ), unterminated subpattern at position 0."),
    ],
)
def test_labels_from_must_find_labels(root, labels_from, message):
    with pytest.raises(ValueError) as error:
        load(root, labels_from=labels_from)
    assert str(error.value) == "data.loader.labels_from" + message


def test_image_outside_class_folders_is_named(root):
    with pytest.raises(ValueError) as error:
        load(root, labels_from="folder")
    assert str(error.value) == (
        f"Image '0000_7_abc.png' in '{root / 'test'}' lies in no class folder, as labels_from='folder' needs; "
        "move it to one, or set data.loader.labels_from to a regular expression with a group (?P<label>...)."
    )


def test_calibrating_on_scored_images_is_refused(root):
    with pytest.raises(ValueError) as error:
        load(root, calibration="test")
    assert str(error.value) == (
        f"Data 'mine' would calibrate on the images it scores: images and calibration are both '{root / 'test'}'. "
        "Set data.loader.calibration to training images."
    )
