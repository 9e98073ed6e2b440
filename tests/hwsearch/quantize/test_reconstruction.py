"""Block reconstruction on a small residual network."""

import copy
from ast import literal_eval
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cost_models import Precision
from hwsearch.evaluate import FakeQuantNetwork
from hwsearch.graph import Network, capture
from hwsearch.quantize import Reconstruction, build_database, calibrate, minmax, requant_global


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, bias=False)
        self.one, self.two = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head((self.two(self.one(x).relu()) + x).relu().mean((2, 3)))


SMALL = Reconstruction(bits=(2, 3), iterations=40, batch_size=16)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return capture(Residual().eval(), torch.zeros(2, 2, 7, 7))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(48, 2, 7, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def ranges(network, images):
    return calibrate(network, [images], minmax, (4, 8))


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(
        all(
            (a is None and b is None) or torch.equal(a, b)
            for a, b in zip(vars(entry).values(), vars(other[key]).values(), strict=True)
        )
        for key, entry in one.items()
    )


def logits_error(network: Network, database, ranges, images: Tensor, bits: int) -> float:
    """Of the whole network, by the same fake quantization that judges candidates."""
    judge = FakeQuantNetwork(network, database, ranges)
    judge.configure({layer.name: Precision(bits, 8) for layer in network.layers})
    return float((judge(images) - network.graph(images)).square().mean())


@pytest.mark.parametrize(("bits", "form"), [(2, "uniform"), (3, "uniform"), (2, "codebook")])
def test_outputs_come_nearer_to_the_float_network_on_other_images(network, images, ranges, bits, form):
    start = build_database(network, requant_global, (bits,), formats=[form])
    found = SMALL(network, start, ranges, [images])
    other = torch.randn(64, 2, 7, 7, generator=torch.Generator().manual_seed(1))

    def error(database) -> float:
        uniform = {(layer, width, "uniform"): entry for (layer, width, _), entry in database.items()}
        return logits_error(network, uniform, ranges, other, bits)

    assert error(found) < error(start)
    for key, entry in found.items():
        assert entry.codes.dtype == torch.int8
        levels = start[key].levels
        assert levels is entry.levels
        allowed = range(1 - 2 ** (bits - 1), 2 ** (bits - 1)) if levels is None else levels.tolist()
        assert set(entry.codes.unique().tolist()) <= set(allowed)
    correction = found["stem", bits, form].bias_correction  # of a layer without a bias
    assert correction is None or not correction.any()


def test_other_widths_stay_and_the_result_depends_on_nothing_but_its_arguments(network, images, ranges):
    start = build_database(network, requant_global, (2, 8))
    torch.manual_seed(1)
    one = SMALL(network, start, ranges, [images[:20], (images[20:], None)])
    torch.manual_seed(2)
    assert same(one, SMALL(network, start, ranges, [images]))
    assert all(one[layer.name, 8, "uniform"] is start[layer.name, 8, "uniform"] for layer in network.layers)


def test_float_activations_need_no_ranges(network, images):
    start = build_database(network, requant_global, (3,))
    found = Reconstruction(bits=(3,), activation_bits=32, iterations=5)(network, start, {}, [images])
    assert not same(found, start)


@pytest.mark.parametrize("lost", [slice(3, None), slice(2, 3)], ids=["the last block", "half of a block"])
def test_a_run_that_was_stopped_goes_on_where_it_was(network, images, ranges, tmp_path, lost):
    start = build_database(network, requant_global, (3,))
    whole = SMALL(network, start, ranges, [images], tmp_path)
    files = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(files) == len(network.layers)
    for path in files[lost]:
        path.unlink()
    assert same(SMALL(network, start, ranges, [images], tmp_path), whole)


def test_another_start_is_another_entry(network, images, ranges, tmp_path):
    starts = [build_database(network, estimator, (3,)) for estimator in (minmax, requant_global)]
    found = [SMALL(network, start, ranges, [images], tmp_path) for start in starts]
    assert not same(*found)
    assert len(list(tmp_path.iterdir())) == 2 * len(network.layers)


def test_tuning_that_makes_a_block_worse_is_undone(network, images, ranges):
    start = build_database(network, requant_global, (3,))
    wild = Reconstruction(bits=(3,), iterations=2, lr=100.0, scale_lr=100.0)
    one, other = (replace(wild, seed=seed)(network, start, ranges, [images]) for seed in (0, 1))
    assert same(one, other)
    assert logits_error(network, one, ranges, images, 3) < logits_error(network, start, ranges, images, 3)


def test_no_inputs_are_refused(network, ranges):
    with pytest.raises(ValueError, match=r"^Reconstruction needs at least one batch of inputs; the calibration set is"):
        SMALL(network, build_database(network, minmax, (3,)), ranges, [])


WIDTHS = "[2, 3, 4, 5, 6, 7, 8]"

REFUSED = {
    "bits=[4, 9]": f"must be some of {WIDTHS}.",
    "bits=[]": f"must be some of {WIDTHS}.",
    "activation_bits=1": f"must be one of {WIDTHS}, or 32 for floats.",
    "activation_bits=16": f"must be one of {WIDTHS}, or 32 for floats.",
    "positions=0": "must be at least 1.",
    "iterations=0": "must be at least 1.",
    "batch_size=0": "must be at least 1.",
    "quantized_share=1.5": "must lie between 0 and 1.",
    "lr=0.0": "must be positive and finite.",
    "scale_lr=-0.1": "must be positive and finite.",
    "lr=nan": "must be positive and finite.",
}


@pytest.mark.parametrize("choice", REFUSED)
def test_each_field_is_checked(choice):
    name, value = choice.split("=")
    with pytest.raises(ValueError) as error:
        Reconstruction(**{name: float("nan") if value == "nan" else literal_eval(value)})
    assert str(error.value) == f"reconstruction.{choice} {REFUSED[choice]}"


def test_zero_layers_constant_channels_and_one_image_have_defined_results(network, ranges):
    dull = replace(network, graph=copy.deepcopy(network.graph))
    dull.weight("one").zero_()
    dull.weight("stem")[0] = 0.25
    start = build_database(dull, requant_global, (2, 3), codebook_bits=[2])
    found = SMALL(dull, start, ranges, [torch.ones(1, 2, 7, 7)])
    for entry in found.values():
        assert entry.dequantize().isfinite().all()
        assert (entry.scale > 0).all()
    assert float(found["one", 3, "uniform"].dequantize().abs().max()) < 1e-6
