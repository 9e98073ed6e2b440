"""Sensitivities as losses of choices."""

import numpy as np
import pandas as pd
import pytest

from cost_models import Precision
from hwsearch.sensitivity_table import COLUMNS, losses, read_sensitivities

TABLE = pd.DataFrame(
    [
        *(("conv", "weights", bits, "uniform", loss) for bits, loss in ((2, 0.5), (4, 0.1), (8, 0.0))),
        *(("conv", "activations", bits, "", loss) for bits, loss in ((4, 0.2), (8, 0.3))),
        *(("fc", "weights", bits, "uniform", loss) for bits, loss in ((2, 0.25), (4, -0.1), (8, 0.0))),
        *(("fc", "activations", bits, "", loss) for bits, loss in ((4, 0.0), (8, 0.0))),
    ],
    columns=list(COLUMNS),
)
CHOICES = [Precision(2, 4), Precision(4, 8), Precision(8, 8)]


def test_losses_of_one_layer_are_those_of_weights_and_activations():
    assert losses(TABLE, ["fc"], CHOICES) == pytest.approx(np.array([[0.25, 0], [0, 0], [0, 0]]))


def test_layers_that_decide_together_add_up():
    assert losses(TABLE, ["conv", "fc"], CHOICES)[:, 0] == pytest.approx([0.75, 0.1, 0])


def test_more_bits_never_lose_more():
    """8 activation bits were measured to lose 0.3, so 4 lose no less."""
    assert losses(TABLE, ["conv"], CHOICES)[:, 1] == pytest.approx([0.3, 0.3, 0.3])


def test_a_width_without_a_sensitivity_is_named():
    with pytest.raises(
        ValueError, match=r"^There is no sensitivity of layers \['fc'\] for weights of 3 bits uniform\.$"
    ):
        losses(TABLE, ["fc"], [Precision(3, 8)])


def test_a_file_gives_the_table_back(tmp_path):
    TABLE.to_csv(tmp_path / "sensitivity.csv", index=False)
    pd.testing.assert_frame_equal(
        read_sensitivities(tmp_path / "sensitivity.csv"), TABLE, check_dtype=False, check_exact=True
    )


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="search with sampler=chain, which stores them"):
        read_sensitivities(tmp_path / "sensitivity.csv")


def test_a_file_without_losses_is_refused(tmp_path):
    TABLE.drop(columns="loss").to_csv(tmp_path / "sensitivity.csv", index=False)
    with pytest.raises(ValueError, match=r"lack the columns \['loss'\]"):
        read_sensitivities(tmp_path / "sensitivity.csv")
