import numpy as np
import pytest

from hwsearch.data import Preprocess, load_npz

IMAGES = np.arange(6 * 2 * 3 * 3, dtype=np.uint8).reshape(6, 2, 3, 3)
LABELS = np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)
MASK = np.array([False, True, False, False, True, False])
PREPROCESS = Preprocess((3, 2, 3))


def load(root, test="test.npz", calibration=None, preprocess=PREPROCESS, **options):
    return load_npz(root, test, calibration, name="mine", preprocess=preprocess, **options)


def test_two_files_give_labelled_and_calibration_images(tmp_path):
    np.savez(tmp_path / "test.npz", images=IMAGES, labels=LABELS)
    np.savez_compressed(tmp_path / "calibration.npz", images=IMAGES[::-1])
    data = load(tmp_path, calibration="calibration.npz")
    assert data.name == "mine" and data.labels.dtype == np.int64
    assert np.array_equal(data.inputs, IMAGES) and np.array_equal(data.labels, LABELS)
    assert np.array_equal(data.calibration, IMAGES[::-1])


def test_images_under_the_mask_calibrate_and_are_not_scored(tmp_path):
    np.savez(tmp_path / "test.npz", images=IMAGES, labels=LABELS, calib_mask=MASK)
    data = load(tmp_path)
    assert np.array_equal(data.inputs, IMAGES[[0, 2, 3, 5]]) and data.labels.tolist() == [0, 2, 0, 2]
    assert np.array_equal(data.calibration, IMAGES[[1, 4]])


def test_labels_of_calibration_images_come_along_where_the_file_has_them(tmp_path):
    np.savez(tmp_path / "test.npz", images=IMAGES, labels=LABELS, calib_mask=MASK)
    np.savez(tmp_path / "calibration.npz", images=IMAGES, labels=LABELS)
    labels = load(tmp_path, calibration="calibration.npz", max_calibration=3).calibration_labels
    assert labels.tolist() == [0, 2, 1] and labels.dtype == np.int64
    assert load(tmp_path).calibration_labels.tolist() == [1, 1]
    np.savez(tmp_path / "calibration.npz", images=IMAGES)
    assert load(tmp_path, calibration="calibration.npz").calibration_labels is None
    np.savez(tmp_path / "calibration.npz", images=IMAGES, labels=LABELS[:3])
    with pytest.raises(ValueError, match=r"Array 'labels' in '.*calibration\.npz' is uint8 of shape \(3,\)"):
        load(tmp_path, calibration="calibration.npz")


def test_images_under_the_mask_are_not_scored_beside_a_calibration_file(tmp_path):
    np.savez(tmp_path / "test.npz", images=IMAGES, labels=LABELS, calib_mask=MASK)
    np.savez(tmp_path / "calibration.npz", images=IMAGES)
    data = load(tmp_path, calibration="calibration.npz")
    assert len(data.inputs) == 4 and len(data.calibration) == 6


def test_max_calibration_keeps_evenly_spaced_images(tmp_path):
    np.savez(tmp_path / "test.npz", images=IMAGES, labels=LABELS)
    np.savez(tmp_path / "calibration.npz", images=IMAGES)
    data = load(tmp_path, calibration="calibration.npz", max_calibration=3)
    assert np.array_equal(data.calibration, IMAGES[[0, 2, 4]])


def test_int8_features_are_dequantized_and_get_a_channel(tmp_path):
    features = np.array([[[-128, 127]], [[83, 84]]], dtype=np.int8)
    np.savez(tmp_path / "test.npz", x=features, y=LABELS[:2], scale=0.5, zero_point=83, calib_mask=[True, False])
    data = load(tmp_path, preprocess=Preprocess((1, 1, 2)), images_key="x", labels_key="y")
    assert data.inputs.dtype == np.float32
    assert data.calibration.tolist() == [[[[-105.5], [22.0]]]]  # 0.5 * (-128 - 83), 0.5 * (127 - 83)
    assert data.inputs.tolist() == [[[[0.0], [0.5]]]]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load(tmp_path)
    assert str(error.value) == (
        f"No file '{tmp_path / 'test.npz'}'; expected a .npz file with arrays ['images', 'labels']. "
        "Set data.root to the folder that holds it."
    )


def test_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / "test.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(ValueError) as error:
        load(tmp_path)
    assert str(error.value) == f"File '{path}' is not a .npz file; expected one with arrays ['images', 'labels']."


def test_missing_arrays_are_named_beside_those_there(tmp_path):
    np.savez(tmp_path / "test.npz", x=IMAGES, labels=LABELS)
    with pytest.raises(ValueError) as error:
        load(tmp_path)
    assert str(error.value) == (
        f"File '{tmp_path / 'test.npz'}' has no array ['images']; it has ['x', 'labels']. "
        "Set data.loader.images_key and data.loader.labels_key to names that are there."
    )


def test_pickled_objects_are_not_loaded(tmp_path):
    np.savez(tmp_path / "test.npz", images=np.array([{}, []], dtype=object), labels=LABELS)
    with pytest.raises(ValueError) as error:
        load(tmp_path)
    assert str(error.value) == (
        f"File '{tmp_path / 'test.npz'}' cannot be read (Object arrays cannot be loaded when allow_pickle=False); "
        "expected numeric arrays ['images', 'labels']."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": IMAGES.astype(np.float64)},
            "Array 'images' in '{path}' is float64 of shape (6, 2, 3, 3); "
            "expected uint8, float32 or scaled int8 of shape [N, H, W, C] or [N, H, W].",
        ),
        (
            {"images": IMAGES.reshape(6, -1)},
            "Array 'images' in '{path}' is uint8 of shape (6, 18); "
            "expected uint8, float32 or scaled int8 of shape [N, H, W, C] or [N, H, W].",
        ),
        (
            {"images": IMAGES.astype(np.int8)},
            "Array 'images' in '{path}' is int8 and needs scalar arrays ['scale', 'zero_point'] beside it; "
            "'scale' is missing.",
        ),
        (
            {"images": IMAGES.astype(np.int8), "scale": [1.0, 2.0], "zero_point": 0},
            "Array 'images' in '{path}' is int8 and needs scalar arrays ['scale', 'zero_point'] beside it; "
            "'scale' is no scalar.",
        ),
        (
            {"labels": LABELS.astype(np.float32)},
            "Array 'labels' in '{path}' is float32 of shape (6,); expected integers of shape [6].",
        ),
        (
            {"labels": LABELS[:5]},
            "Array 'labels' in '{path}' is uint8 of shape (5,); expected integers of shape [6].",
        ),
        (
            {"calib_mask": MASK.astype(np.uint8)},
            "Array 'calib_mask' in '{path}' is uint8 of shape (6,); expected bool of shape [6].",
        ),
        (
            {"calib_mask": np.zeros(6, dtype=bool)},
            "Data 'mine' has no calibration images: '{path}' marks none in a boolean array 'calib_mask'. "
            "Add that array, or set data.loader.calibration to a file of training images.",
        ),
        (
            {"calib_mask": np.ones(6, dtype=bool)},
            "Data 'mine' has inputs of shape (0, 2, 3, 3); expected [N, H, W, C] with at least one image.",
        ),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused(tmp_path, changes, message):
    np.savez(tmp_path / "test.npz", **({"images": IMAGES, "labels": LABELS, "calib_mask": MASK} | changes))
    with pytest.raises(ValueError) as error:
        load(tmp_path)
    assert str(error.value) == message.format(path=tmp_path / "test.npz")


def test_calibrating_on_scored_images_is_refused(tmp_path):
    np.savez(tmp_path / "test.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(ValueError) as error:
        load(tmp_path, calibration="./test.npz")
    assert str(error.value) == (
        "Data 'mine' would calibrate on the images it scores: test and calibration are both "
        f"'{tmp_path / 'test.npz'}'. Use another file, or mark calibration images in a boolean array 'calib_mask'."
    )


def test_images_that_do_not_fit_the_model_are_refused(tmp_path):
    np.savez(tmp_path / "test.npz", images=IMAGES, labels=LABELS, calib_mask=MASK)
    with pytest.raises(ValueError, match=r"has images of 2x3x3 \(H x W x C\), but model input is 1x8x8 \(C x H x W\)"):
        load(tmp_path, preprocess=Preprocess((1, 8, 8)))
