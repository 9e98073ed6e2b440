import numpy as np
import pytest
import torch

from hwsearch.data import Preprocess


def test_scales_by_divisor_mean_and_std_per_channel():
    images = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
    got = Preprocess(shape=(3, 2, 2), divisor=4.0, mean=(1.0, 2.0, 3.0), std=(0.5, 1.0, 2.0))(images)
    assert got.dtype == torch.float32 and got.shape == (2, 3, 2, 2)
    for (n, h, w, c), value in np.ndenumerate(images):  # all powers of two: exact in float32
        assert got[n, c, h, w] == (int(value) / 4 - (1, 2, 3)[c]) / (0.5, 1, 2)[c]


def test_one_mean_and_std_serve_all_channels():
    images = np.full((1, 1, 1, 3), 8, dtype=np.uint8)
    assert torch.equal(Preprocess([3, 1, 1], mean=[4.0], std=[2.0])(images), torch.full((1, 3, 1, 1), 2.0))


def test_lists_and_tuples_give_equal_preprocessing():
    assert Preprocess([1, 8, 8], mean=[0.0], std=[1.0]) == Preprocess((1, 8, 8))


def test_input_stays_as_it_was_even_if_it_is_read_only_float():
    images = np.ones((1, 2, 2, 1), dtype=np.float32)
    images.flags.writeable = False
    assert torch.equal(Preprocess((1, 2, 2), mean=(1.0,))(images), torch.zeros(1, 1, 2, 2))
    assert np.array_equal(images, np.ones((1, 2, 2, 1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"shape": [1, 8]},
            "model.input.shape=[1, 8] must be three positive integers: channels, height, width.",
        ),
        (
            {"shape": [1, 8, 0]},
            "model.input.shape=[1, 8, 0] must be three positive integers: channels, height, width.",
        ),
        (
            {"shape": [3, 8, 8], "mean": [0.1, 0.2]},
            "model.input.mean=[0.1, 0.2] has 2 values; it needs 1, or one for each of the 3 channels.",
        ),
        ({"shape": [1, 8, 8], "mean": [float("nan")]}, "model.input.mean=[nan] must be finite."),
        ({"shape": [1, 8, 8], "std": [0.0]}, "model.input.std=[0.0] must be positive."),
        ({"shape": [1, 8, 8], "divisor": 0.0}, "model.input.divisor=0.0 must be positive and finite."),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        Preprocess(**arguments)
    assert str(error.value) == message


def test_other_types_are_refused():
    with pytest.raises(TypeError) as error:
        Preprocess((1, 2, 2))(np.zeros((1, 2, 2, 1)))
    assert str(error.value) == "Images are float64; expected uint8 or float32."


def test_grey_images_are_not_broadcast_to_three_channels():
    with pytest.raises(ValueError) as error:
        Preprocess((3, 2, 2))(np.zeros((5, 2, 2, 1), dtype=np.uint8))
    assert str(error.value) == "Images have shape (5, 2, 2, 1); model input needs [N, 2, 2, 3] (N, H, W, C)."


def test_channels_last_layout_keeps_the_stored_order():
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    last, first = (Preprocess(shape=(3, 4, 5), divisor=2.0, layout=layout)(images) for layout in ("NHWC", "NCHW"))
    assert last.shape == (2, 4, 5, 3)
    assert torch.equal(last.permute(0, 3, 1, 2), first)
    with pytest.raises(ValueError, match=r"^model\.input\.layout=CHW must be NCHW or NHWC\.$"):
        Preprocess(shape=(3, 4, 5), layout="CHW")
