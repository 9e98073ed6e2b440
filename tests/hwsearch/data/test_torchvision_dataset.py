from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from hwsearch.data import Preprocess, load_torchvision

FAKE = "torchvision.datasets.FakeData"  # images made up from a seed: nothing to download
LIST = "collections.UserList"  # the smallest class that is indexed by number and built from keyword arguments


def load(dataset, test, calibration, **options):
    return load_torchvision(dataset, test, calibration, name="mine", **options)


def test_items_become_arrays():
    pytest.importorskip("torchvision", reason="torchvision is not installed", exc_type=ImportError)
    from torchvision.datasets import FakeData

    test = {"size": 5, "image_size": (3, 8, 6)}
    calibration = test | {"size": 4, "random_offset": 9}
    data = load(FAKE, test, calibration, preprocess=Preprocess((3, 8, 6)), max_calibration=2)
    assert np.array_equal(data.inputs, [np.asarray(image) for image, _ in FakeData(**test)])
    assert data.labels.tolist() == [int(label) for _, label in FakeData(**test)]
    assert np.array_equal(data.calibration, [np.asarray(FakeData(**calibration)[i][0]) for i in (0, 2)])

    resized = load(FAKE, test, calibration, preprocess=Preprocess((1, 4, 3), resize=True))
    image = FakeData(**test)[0][0].convert("L").resize((3, 4), Image.Resampling.BILINEAR)
    assert np.array_equal(resized.inputs[0, ..., 0], np.asarray(image))


def test_any_sequence_of_images_and_class_numbers_loads():
    images = [Image.new("L", (3, 2), grey) for grey in range(5)]
    test = {"initlist": [(image, 4 - i) for i, image in enumerate(images)]}
    data = load(LIST, test, {"initlist": test["initlist"][1:]}, preprocess=Preprocess((1, 2, 3)), max_calibration=2)
    assert data.inputs.shape == (5, 2, 3, 1) and data.inputs[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert data.labels.tolist() == [4, 3, 2, 1, 0]
    assert data.calibration[:, 0, 0, 0].tolist() == [1, 3]


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_missing_torchvision_is_named():
    with pytest.raises(ImportError) as error:
        load(FAKE, {"size": 5}, {"size": 4}, preprocess=Preprocess((3, 8, 8)))
    assert str(error.value) == (
        "Data 'mine' needs 'torchvision.datasets.FakeData', but 'torchvision.datasets' cannot be imported: "
        "No module named 'torchvision'. Install the torchvision that belongs to your torch, or choose data of stored "
        "files."
    )


def test_dataset_must_be_a_dotted_path():
    with pytest.raises(ValueError) as error:
        load("CIFAR10", {"train": False}, {"train": True}, preprocess=Preprocess((3, 32, 32)))
    assert str(error.value) == ("data.loader.dataset='CIFAR10' is no dotted path, as torchvision.datasets.CIFAR10 is.")


def test_unknown_class_is_named():
    with pytest.raises(ValueError) as error:
        load("torch.utils.data.CIFAR10", {"train": False}, {"train": True}, preprocess=Preprocess((3, 32, 32)))
    assert str(error.value) == (
        "data.loader.dataset='torch.utils.data.CIFAR10' is not found: module 'torch.utils.data' has no 'CIFAR10'."
    )


@pytest.mark.parametrize(
    ("item", "described"),
    [((np.zeros((8, 8)), 1), "['ndarray', 'int']"), ({"image": 0}, "dict"), ((Image.new("L", (8, 8)),), "['Image']")],
)
def test_items_other_than_image_and_number_are_refused(item, described):
    with pytest.raises(TypeError) as error:
        load(LIST, {"initlist": [item]}, {"initlist": []}, preprocess=Preprocess((1, 8, 8)))
    assert str(error.value) == (
        f"Item 0 of collections.UserList (test) is {described}; expected (Pillow image, class number). "
        "Scale images by model.input, not by the dataset's transforms."
    )


def test_image_of_another_size_is_named():
    item = (Image.new("L", (8, 7)), 1)
    with pytest.raises(ValueError) as error:
        load(LIST, {"initlist": [item]}, {"initlist": []}, preprocess=Preprocess((1, 8, 8)))
    assert str(error.value) == (
        "Image 0 of collections.UserList (test) is 7x8 (H x W), but model input is 1x8x8 (C x H x W); "
        "set model.input.resize=true or choose images of that size."
    )


def test_calibrating_on_scored_images_is_refused():
    with pytest.raises(ValueError) as error:
        load(FAKE, {"size": 5}, {"size": 5}, preprocess=Preprocess((3, 8, 8)))
    assert str(error.value) == (
        "Data 'mine' would calibrate on the images it scores: test and calibration are both {'size': 5}."
    )
