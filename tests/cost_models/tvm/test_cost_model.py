"""Devices whose costs are measured, on kernels small enough to be measured while the test runs."""

from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from cost_models import LayerSpec, NetworkSpec, OperatorSpec, Precision, load_device
from cost_models.tvm import TvmCpu

QUICK = {"rounds": 1, "samples": 1, "sample_s": 1e-5}
CONVOLUTION = LayerSpec("conv", "conv2d", 32, 16, (3, 3), padding=(1, 1), in_size=(6, 6), out_size=(6, 6))
DEPTHWISE = LayerSpec("depthwise", "conv2d", 16, 16, (3, 3), padding=(1, 1), groups=16, in_size=(6, 6), out_size=(6, 6))
LINEAR = LayerSpec("linear", "linear", 64, 10)
SUM = OperatorSpec("add", "add", 16, (6, 6), (6, 6), (576, 576))
POOL = OperatorSpec("mean", "avg_pool2d", 16, (6, 6), (1, 1), (576,), kernel=(6, 6), stride=(6, 6))


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    cache_dir = str(tmp_path_factory.mktemp("kernels"))
    return TvmCpu(
        name="cpu",
        cache_dir=cache_dir,
        procedure=QUICK,
        search_s=0.01,
        tiles=1,
        weight_bits=(1, 2, 4, 8),
        activation_bits=(1, 2, 4, 8),
        weight_formats=("uniform", "codebook"),
    )


@pytest.mark.parametrize("layer", [CONVOLUTION, DEPTHWISE, LINEAR], ids=lambda layer: layer.name)
def test_latency_never_rises_when_bits_fall(device, layer):
    seconds = {precision: device.layer_cost(layer, precision).latency_s for precision in device.precisions(layer)}
    for narrow, wide in product(seconds, seconds):
        fits = narrow.weight_bits <= wide.weight_bits and narrow.activation_bits <= wide.activation_bits
        if fits and narrow.weight_format == wide.weight_format:
            assert seconds[narrow] <= seconds[wide]


def test_cost_tells_what_is_stored_and_computed(device):
    cost = device.layer_cost(CONVOLUTION, Precision(4, 4))
    assert cost.computed_as == Precision(8, 8)
    assert cost.stored_weight_bits in (4, 8)
    assert device.layer_cost(CONVOLUTION, Precision(8, 8)).computed_as is None


def test_uniform_weights_that_are_stored_as_codebooks_cost_what_these_do(device):
    stored = device.storing([2])
    two, codebook = Precision(2, 2), Precision(2, 2, "codebook")
    assert stored.layer_cost(CONVOLUTION, two).computed_as == Precision(8, 8)
    assert stored.layer_cost(CONVOLUTION, two) == device.layer_cost(CONVOLUTION, codebook)
    assert stored.layer_cost(CONVOLUTION, Precision(4, 4)) == device.layer_cost(CONVOLUTION, Precision(4, 4))


def test_depthwise_weights_are_stored_as_bytes(device):
    assert device.layer_cost(DEPTHWISE, Precision(2, 2)).stored_weight_bits == 8


def test_winograd_kernels_are_measured_unless_excluded(device):
    layer = LayerSpec("conv", "conv2d", 16, 16, (3, 3), padding=(1, 1), in_size=(8, 8), out_size=(8, 8))
    network = NetworkSpec((layer,), (), {"conv": ("(input)",)})
    records = {record["method"]: record for record in device.measurements(network)}
    bits = ("stored_weight_bits", "computed_weight_bits", "computed_activation_bits")
    assert ("winograd" in records) == device.tuner.isa.multiplies_pairs
    if "winograd" in records:
        assert [records["winograd"][name] for name in bits] == [64, 16, 16]
    fields = {field: getattr(device, field) for field in device.__dataclass_fields__}
    without = TvmCpu(**fields | {"excluded_methods": ("winograd", "bit_serial")})
    assert {record["method"] for record in without.measurements(network)} == set(records) - {"winograd", "bit_serial"}
    assert "bit_serial" in records


def test_layers_are_measured_where_nothing_links_libraries(device, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    bare = replace(device, cache_dir=str(tmp_path))
    cost = bare.layer_cost(LINEAR, Precision(8, 8))
    assert replace(device, cache_dir=str(tmp_path)).layer_cost(LINEAR, Precision(8, 8)) == cost
    assert not list(tmp_path.rglob("*.so"))


def test_kernels_of_another_search_are_not_taken_for_this_ones(device):
    device.layer_cost(LINEAR, Precision(8, 8))
    before = set(Path(device.cache_dir).rglob("record.json"))
    replace(device, tiles=2).layer_cost(LINEAR, Precision(8, 8))
    assert len(set(Path(device.cache_dir).rglob("record.json")) - before) > 0


def test_a_second_device_reads_what_the_first_measured(device, monkeypatch):
    again = TvmCpu(**{field: getattr(device, field) for field in device.__dataclass_fields__})
    expected = device.layer_cost(LINEAR, Precision(4, 8))
    monkeypatch.setattr("cost_models.tvm.tuner.measure", None)  # measuring would now fail
    assert again.layer_cost(LINEAR, Precision(4, 8)) == expected


def test_other_operators_are_measured_and_sums_cost_what_they_add_to_a_layer(device):
    inputs = {
        "conv": ("(input)",),
        "depthwise": ("conv",),
        "add": ("conv", "depthwise"),
        "mean": ("add",),
        "linear": ("mean",),
    }
    network = NetworkSpec((CONVOLUTION, DEPTHWISE, LINEAR), (SUM, POOL), inputs)
    seconds = defaultdict(list)
    for record in device.measurements(network):
        seconds[record["used_by"]].append(record["latency_s"])
    with_sum, without = seconds["add"]
    assert device.network_cost(network, {}).latency_s == max(0.0, with_sum - without) + sum(seconds["mean"])


def test_a_sum_with_a_constant_is_a_table(device):
    alone = NetworkSpec((), (replace(SUM, in_counts=(576,)),), {"add": ("(input)",)})
    assert {record["method"] for record in device.measurements(alone)} == {"LookupKernel"}
    assert device.network_cost(alone, {}).latency_s > 0


def test_a_batch_norm_that_no_layer_took_in_is_a_depthwise_convolution(device):
    norm = OperatorSpec("norm", "batch_norm", 16, (6, 6), (6, 6), (576,))
    network = NetworkSpec((), (norm,), {"norm": ("(input)",)})
    (record,) = device.measurements(network)
    assert record["method"] == "DepthwiseKernel"
    assert device.network_cost(network, {}).latency_s == record["latency_s"] > 0


def test_an_operator_without_a_kernel_is_named(device):
    attention = OperatorSpec("attention", "softmax", 4, (4, 4), (4, 4), (64,))
    with pytest.raises(ValueError, match=r"No integer kernel computes operator 'attention' of type 'softmax'\."):
        device.network_cost(NetworkSpec((), (attention,), {"attention": ("(input)",)}), {})


def test_energy_is_power_times_latency_and_unknown_without_a_power(device):
    fields = {field: getattr(device, field) for field in device.__dataclass_fields__}
    powered = TvmCpu(**fields | {"power_w": 3.0, "power_source": "wall plug"})
    cost = powered.layer_cost(LINEAR, Precision(8, 8))
    assert powered.runner.rapl is not None or cost.energy_j == 3.0 * cost.latency_s
    assert powered.warnings == ("Energy is 3 W (wall plug) times latency, unless the CPU counts it.",)
    assert device.warnings == ()
    counted = device.runner.rapl is not None
    assert (device.layer_cost(LINEAR, Precision(8, 8)).energy_j is not None) == counted


def test_a_power_needs_its_source():
    with pytest.raises(ValueError, match="power_w needs power_source"):
        load_device({"_target_": "cost_models.tvm.TvmCpu", "name": "cpu", "power_w": 3.0})


def test_a_precision_that_is_not_measured_is_refused(device):
    message = r"Hardware 'cpu' has no kernels for weight_bits=\[3\] in layer 'conv'; it supports \[1, 2, 4, 8\]."
    with pytest.raises(ValueError, match=message):
        device.layer_cost(CONVOLUTION, Precision(3, 8))
