from hashlib import sha256

import numpy as np
import pytest

from hwsearch.data import Dataset, Preprocess


def build(**changes):
    arrays = {
        "inputs": np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5, 1),
        "labels": np.array([0, 1, 1]),
        "calibration": np.zeros((2, 4, 5, 1), dtype=np.uint8),
    }
    return Dataset("mine", **(arrays | changes))


def test_fingerprint_is_the_hash_of_types_shapes_and_bytes():
    expected = sha256()
    for head, array in (
        (b"|u1 (3, 4, 5, 1)", build().inputs),
        (b"<i8 (3,)", build().labels),
    ):
        expected.update(head + array.tobytes())
    assert build().fingerprint == expected.hexdigest()


def test_fingerprint_differs_when_what_is_scored_does_and_not_with_memory_order():
    inputs = build().inputs
    fingerprints = {
        build().fingerprint,
        build(inputs=inputs + np.uint8(1)).fingerprint,
        build(labels=np.array([0, 1, 2])).fingerprint,
    }
    assert len(fingerprints) == 3
    fewer = build(calibration=build().calibration[:1])
    assert fewer.fingerprint == build().fingerprint
    assert fewer.calibration_fingerprint != build().calibration_fingerprint
    assert build(inputs=np.asfortranarray(inputs)).fingerprint == build().fingerprint


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"inputs": np.zeros((3, 4, 5, 1))},
            TypeError,
            "Data 'mine' has inputs of type float64; expected uint8 or float32.",
        ),
        (
            {"inputs": np.zeros((3, 4, 5), dtype=np.uint8)},
            ValueError,
            "Data 'mine' has inputs of shape (3, 4, 5); expected [N, H, W, C] with at least one image.",
        ),
        (
            {"inputs": np.zeros((0, 4, 5, 1), dtype=np.uint8), "labels": np.zeros(0, dtype=np.int64)},
            ValueError,
            "Data 'mine' has inputs of shape (0, 4, 5, 1); expected [N, H, W, C] with at least one image.",
        ),
        (
            {"calibration": np.zeros((0, 4, 5, 1), dtype=np.uint8)},
            ValueError,
            "Data 'mine' has calibration of shape (0, 4, 5, 1); expected [N, H, W, C] with at least one image.",
        ),
        (
            {"calibration": np.zeros((2, 4, 4, 1), dtype=np.uint8)},
            ValueError,
            "Data 'mine' has inputs of uint8 4x5x1 but calibration images of uint8 4x4x1 (H x W x C); "
            "both must have the same type and size.",
        ),
        (
            {"calibration": np.zeros((2, 4, 5, 1), dtype=np.float32)},
            ValueError,
            "Data 'mine' has inputs of uint8 4x5x1 but calibration images of float32 4x5x1 (H x W x C); "
            "both must have the same type and size.",
        ),
        (
            {"labels": np.array([0, 1, 1], dtype=np.int32)},
            TypeError,
            "Data 'mine' has labels of type int32; expected int64.",
        ),
        (
            {"labels": np.array([0, 1])},
            ValueError,
            "Data 'mine' has labels of shape (2,) for 3 images; expected one label per image.",
        ),
        (
            {"labels": np.array([[0], [1], [1]])},
            ValueError,
            "Data 'mine' has labels of shape (3, 1) for 3 images; expected one label per image.",
        ),
        (
            {"labels": np.array([0, 1, -1])},
            ValueError,
            "Data 'mine' has label -1; classes are counted from 0.",
        ),
        (
            {
                "inputs": np.full((3, 4, 5, 1), np.nan, dtype=np.float32),
                "calibration": np.zeros((2, 4, 5, 1), dtype=np.float32),
            },
            ValueError,
            "Data 'mine' has NaN or infinite values in inputs.",
        ),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(changes, kind, message):
    with pytest.raises(kind) as error:
        build(**changes)
    assert str(error.value) == message


def test_images_of_another_size_than_the_model_input_are_refused():
    build().check_fits(Preprocess((1, 4, 5)))
    with pytest.raises(ValueError) as error:
        build().check_fits(Preprocess((3, 8, 9)))
    assert str(error.value) == (
        "Data 'mine' has images of 4x5x1 (H x W x C), but model input is 3x8x9 (C x H x W). Choose data and model that "
        "agree; model.input.resize=true resizes image files, not stored arrays."
    )
