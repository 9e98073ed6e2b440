"""Activation ranges of a network from a calibration set."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwsearch.graph import Network, capture
from hwsearch.quantize import Range, activation_grid, calibrate, minmax, mse, percentile, ranges_table
from hwsearch.quantize.calibrate import COUNTABLE, _Histogram

SHAPE = (2, 6, 6)


class Residual(nn.Module):
    """With small whole weights, so that the values of whole inputs are whole: float32 sums them in any order exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randint(-3, 4, parameter.shape, generator=generator).float()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        return self.fc(F.relu(self.conv2(x) + x).amax((2, 3)))


@pytest.fixture(scope="module")
def network() -> Network:
    return capture(Residual(), torch.zeros(2, *SHAPE))


@pytest.fixture
def images() -> Tensor:
    return torch.randint(-4, 5, (12, *SHAPE), generator=torch.Generator().manual_seed(1)).float()


def tensors(images: Tensor) -> list[Tensor]:
    """All that the network's layers and its sum read, computed by the module."""
    module = Residual().eval()
    with torch.no_grad():
        first = F.relu(module.conv1(images))
        second = module.conv2(first)
        pooled = F.relu(second + first).amax((2, 3))
    return [images, first, second, pooled]


def test_every_tensor_that_is_read_has_a_grid_at_every_width(network, images):
    grids = calibrate(network, [images], minmax, bits=(2, 8))
    assert set(grids) == {(read.tensor, bits) for read in network.reads for bits in (2, 8)}
    assert len(grids) == 2 * len(tensors(images))


def test_histogram_ranges_of_minmax_are_the_exact_minimum_and_maximum(network, images):
    found = {grid for (_, bits), grid in calibrate(network, images.split(5), minmax).items() if bits == 8}
    expected = {activation_grid(minmax(values.flatten()[None], 8), 8) for values in tensors(images)}
    assert found == expected


@pytest.mark.parametrize("estimator", [minmax, mse, functools.partial(percentile, q=95)])
def test_ranges_do_not_depend_on_the_batch_size(network, images, estimator):
    whole = calibrate(network, [images], estimator, bits=(3, 8))
    for size in (1, 5):
        assert calibrate(network, images.split(size), estimator, bits=(3, 8)) == whole


def test_labels_of_labelled_batches_are_ignored(network, images):
    labelled = [(batch, torch.zeros(len(batch))) for batch in images.split(5)]
    assert calibrate(network, labelled, minmax) == calibrate(network, [images], minmax)


def test_histogram_ranges_of_percentile_are_off_by_one_bin_at_most(network, images):
    estimator = functools.partial(percentile, q=90)
    grids = {grid for (_, bits), grid in calibrate(network, [images], estimator, bits=(8,), bins=500).items()}
    for values in tensors(images):
        exact, whole = estimator(values.flatten()[None].double(), 8), minmax(values.flatten()[None], 8)
        bin_width = float(whole.hi - whole.lo) / 500
        # A grid spans the range's width; its zero is rounded to a code.
        assert any(abs(grid.scale * 255 - float(exact.hi - exact.lo)) <= 2 * bin_width for grid in grids)


def test_histograms_count_more_zeros_than_float32_can():
    histogram = _Histogram(8)
    values = torch.zeros(COUNTABLE + 101)
    values[-1] = 1.0
    histogram.widen(values)
    histogram.add(values)
    assert histogram.counts[0] == COUNTABLE + 100
    assert histogram.counts.sum() == len(values)


def test_every_value_is_counted_and_the_outer_bins_lie_on_the_extremes():
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 3 - 1
    histogram = _Histogram(100)
    for part in values.split(3000):
        histogram.widen(part)
    for part in values.split(3000):
        histogram.add(part)
    centres = histogram.centres()[0]
    assert histogram.counts.sum() == len(values)
    assert (float(centres[0]), float(centres[-1])) == (float(values.min()), float(values.max()))
    assert histogram.counts[0] > 0 and histogram.counts[-1] > 0
    mean = float((centres * histogram.counts).sum() / len(values))
    assert mean == pytest.approx(float(values.mean()), abs=float(centres[2] - centres[1]) / 2)  # half a bin


def test_a_tensor_that_is_always_zero_has_a_grid(network):
    grids = calibrate(network, [torch.zeros(3, *SHAPE)], mse)
    assert grids["x", 8].scale == 1.0


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, *SHAPE)]])
def test_an_empty_calibration_set_is_refused(network, batches):
    with pytest.raises(
        ValueError, match="Calibration needs at least one batch of inputs; the calibration set is empty"
    ):
        calibrate(network, batches, minmax)


def test_a_generator_is_refused_with_what_to_pass_instead(network, images):
    with pytest.raises(ValueError, match="iterated twice: pass a list or a loader, not a generator"):
        calibrate(network, (batch for batch in images.split(5)), minmax)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused_with_the_tensor(network, images, value):
    images[3, 0, 0, 0] = value
    with pytest.raises(
        ValueError,
        match=r"^Tensor 'x' of the float network holds NaN or infinity on the calibration set, so it has no range. [^\n]*$",
    ):
        calibrate(network, images.split(5), minmax)


def test_the_table_of_ranges_says_who_reads_and_what_interval_is_covered(network, images):
    bounds = Range(torch.tensor([-1.0]), torch.tensor([2.0]))
    table = ranges_table(network, calibrate(network, [images], lambda x, bits, counts: bounds, bits=(2,)))
    assert list(table["read_by"]) == ["conv1", f"conv2 {network.reads[-3].node}", network.reads[-2].node, "fc"]
    assert set(table["activation_bits"]) == {2}
    assert set(table["scale"]) == {1.0}
    assert set(table["zero_point"]) == {1}
    assert (set(table["lo"]), set(table["hi"])) == ({-1.0}, {2.0})
