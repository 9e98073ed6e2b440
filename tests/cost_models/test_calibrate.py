"""Fitted constants: recovered where they are known, and judged on published figures that they were not fitted to."""

import json
from itertools import pairwise

import pytest

from cost_models import LayerSpec, NetworkSpec, Precision, load_device
from cost_models.agreement import agreement
from cost_models.calibrate import Measurement, fit, held_out, modelled
from hwsearch.networks import DSCNN, MobileNetV1, MobileNetV2, ResNet, ResNet8, VisualWakeWords

from .published import device_file, fixture, perceptron, spec, table, uniform

OVERHEADS = ["compute[0].efficiency", "overhead.layer_s"]


def synthetic() -> list[Measurement]:
    """What a device with other constants than the file's would take."""
    content = device_file("stm32u575_xcubeai")
    content["compute"][0]["efficiency"], content["overhead"]["layer_s"] = 0.8, 1e-3
    layers = [LayerSpec(f"layer{n}", "linear", 100 * n, 100 * n * n) for n in range(1, 6)]
    device = load_device(content)
    return [
        Measurement(
            layer.name, layer, {layer.name: Precision(8, 8)}, device.layer_cost(layer, Precision(8, 8)).latency_s
        )
        for layer in layers
    ]


def test_known_constants_are_recovered() -> None:
    fitted = fit(device_file("stm32u575_xcubeai"), synthetic(), OVERHEADS)
    assert fitted["compute"][0]["efficiency"] == pytest.approx(0.8, rel=1e-5)
    assert fitted["overhead"]["layer_s"] == pytest.approx(1e-3, rel=1e-5)
    table = held_out(device_file("stm32u575_xcubeai"), synthetic(), OVERHEADS)
    assert agreement(table["modelled_s"], table["measured_s"])["max_error"] < 1e-4


def test_a_share_stops_at_its_bound() -> None:
    """Kernels faster than the peak: no share above 1 is a valid file."""
    faster = [Measurement(m.group, m.subject, m.config, m.latency_s / 10) for m in synthetic()]
    assert 0.9 < fit(device_file("stm32u575_xcubeai"), faster, OVERHEADS)["compute"][0]["efficiency"] <= 1


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["compute[0].share"], "'compute[0].share' is to be fitted, so it must hold a first guess above 0; it holds nothing."),
        (["compute[7].efficiency"], "'compute[7].efficiency' is to be fitted, so it must hold a first guess above 0; it holds nothing."),
        (["overhead.source"], "'overhead.source' is to be fitted, so it must hold a first guess above 0; it holds nothing."),
        (["power.active_w"] * 6, "5 measurements cannot fit 6 constants: power.active_w, power.active_w, power.active_w, power.active_w, power.active_w, power.active_w."),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_named(paths, message) -> None:
    with pytest.raises(ValueError) as error:
        fit(device_file("stm32u575_xcubeai"), synthetic(), paths)
    assert str(error.value) == message


def tiny(board: str) -> list[Measurement]:
    networks = {
        "image_classification": spec(ResNet8, shape=(3, 32, 32)),
        "visual_wake_words": spec(VisualWakeWords, shape=(3, 96, 96)),
        "keyword_spotting": spec(DSCNN, shape=(1, 49, 10)),
        "anomaly_detection": perceptron([640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]),
    }
    rows = table("mlperf_tiny_v1_1.csv")
    measurements = []
    for row in rows[rows["board"] == board].itertuples():
        network = networks[row.network]
        assert sum(layer.macs for layer in network.layers) == row.macs
        measurements.append(Measurement(row.network, network, uniform(network, 8), row.latency_ms / 1e3))
    return measurements


BOARDS = {
    "NUCLEO-L4R5ZI": "stm32l4r5_xcubeai",
    "NUCLEO-U575ZI-Q": "stm32u575_xcubeai",
    "NUCLEO-H7A3ZI-Q": "stm32h7a3_xcubeai",
}


@pytest.mark.parametrize("board", BOARDS)
def test_microcontrollers_predict_the_network_that_they_were_not_fitted_to(board) -> None:
    content, measurements = device_file(BOARDS[board]), tiny(board)
    predicted = held_out(content, measurements, OVERHEADS)
    assert agreement(predicted["modelled_s"], predicted["measured_s"])["mape"] <= 0.22
    # the shipped constants are those of all four networks, rounded
    fitted = fit(content, measurements, OVERHEADS)
    assert content["compute"][0]["efficiency"] == pytest.approx(fitted["compute"][0]["efficiency"], rel=0.01)
    assert content["overhead"]["layer_s"] == pytest.approx(fitted["overhead"]["layer_s"], rel=0.01)


@pytest.mark.parametrize(
    ("board", "error"), [("NUCLEO-U575ZI-Q", 0.05), ("NUCLEO-H7A3ZI-Q", 0.05), ("NUCLEO-L4R5ZI", 0.30)]
)
def test_energy_of_a_microcontroller_is_power_times_time(board, error) -> None:
    rows = table("mlperf_tiny_v1_1.csv")
    rows = rows[rows["board"] == board]
    energy_uj = load_device(device_file(BOARDS[board])).power.active_w * rows["latency_ms"] * 1e3
    assert (energy_uj / rows["energy_uj"] - 1).abs().max() <= error


def kernels() -> list[Measurement]:
    """Tuned TVM kernels of ResNet18; the logs time a batch of 8."""
    measurements = []
    for row in table("hawq_t4_kernels_resnet18.csv").itertuples():
        side = (row.h_padded - row.k) // row.stride + 1
        layer = LayerSpec(
            *("conv", "conv2d", row.cin, row.cout, (row.k, row.k), (row.stride, row.stride)),
            in_size=(row.h_padded, row.h_padded),
            out_size=(side, side),
        )
        for bits, microseconds in ((4, row.int4_us), (8, row.int8_us)):
            group = f"{row.h_padded} {row.cin} {row.cout} {row.k}"
            measurements.append(Measurement(group, layer, {"conv": Precision(bits, bits)}, microseconds / 8e6))
    return measurements


def test_t4_kernels_of_a_shape_that_was_left_out_are_predicted() -> None:
    """An efficiency per precision, and one launch overhead."""
    content, paths = device_file("t4_roofline"), ["compute[0].efficiency", "compute[1].efficiency", "overhead.layer_s"]
    predicted = held_out(content, kernels(), paths)
    for rows in (predicted, predicted[::2], predicted[1::2]):  # all, int4, int8
        assert agreement(rows["modelled_s"], rows["measured_s"])["mape"] <= 0.20
    assert agreement(predicted["modelled_s"], predicted["measured_s"])["mape"] == pytest.approx(0.108, abs=0.002)
    fitted = fit(content, kernels(), paths)
    for entry, shipped in zip(fitted["compute"], content["compute"], strict=True):
        assert shipped["efficiency"] == pytest.approx(entry["efficiency"], rel=0.01)
    assert content["overhead"]["layer_s"] == pytest.approx(fitted["overhead"]["layer_s"], rel=0.01)


# Speed-ups of HAWQ-V3's ResNet18 over its 9.7 ms in float32 (batch 8), by bit configuration.
SPEEDUPS = {
    **{"modelsize_0.75": 3.09, "modelsize_0.5": 3.18, "modelsize_0.25": 3.24},
    **{"bops_0.75": 3.36, "bops_0.5": 3.63, "bops_0.25": 4.05},
    **{"latency_0.75": 3.36, "latency_0.5": 3.57, "latency_0.25": 4.05},
}


def hawq_networks() -> list[Measurement]:
    published = json.loads(fixture("hawq_v3_resnet18.json").read_text())["published"]
    networks = {depth: spec(ResNet, depth, shape=(3, 224, 224)) for depth in (18, 50)}

    def measurement(depth: int, bits: list[int], milliseconds: float) -> Measurement:
        network = networks[depth]
        first, *inner, last = [layer.name for layer in network.layers]
        # HAWQ lists a block's convolutions before its downsampling; first and last layer have 8 bits
        config = {name: Precision(b, b) for name, b in zip(sorted(inner), bits, strict=True)}
        config |= {first: Precision(8, 8), last: Precision(8, 8)}
        return Measurement(f"resnet{depth}", network, config, milliseconds / 1e3 / 8)

    mixed = [
        measurement(18, [int(bit) for bit in published[f"bit_config_resnet18_{name}"]], 9.7 / speedup)
        for name, speedup in SPEEDUPS.items()
    ]
    uniforms = [(18, 8, 3.3), (18, 4, 9.7 / 4.44), (50, 8, 8.5), (50, 4, 5.8)]
    return mixed + [measurement(depth, [bits] * (19 if depth == 18 else 52), ms) for depth, bits, ms in uniforms]


@pytest.mark.slow
def test_t4_networks_that_were_left_out_are_predicted() -> None:
    content, paths = device_file("t4_roofline"), ["overhead.between_layers_s"]
    predicted = held_out(content, hawq_networks(), paths)
    found = agreement(predicted["modelled_s"], predicted["measured_s"])
    assert found["mape"] <= 0.08
    assert found["spearman"] >= 0.97
    fitted = fit(content, hawq_networks(), paths)
    assert content["overhead"]["between_layers_s"] == pytest.approx(fitted["overhead"]["between_layers_s"], rel=0.01)


def vgg(convolutions: list[int]) -> NetworkSpec:
    """Simonyan and Zisserman 2015: so many 3x3 convolutions between two poolings."""
    channels = [3, *(c for c, n in zip((64, 128, 256, 512, 512), convolutions, strict=True) for _ in range(n))]
    sides = [224 // 2**stage for stage, n in enumerate(convolutions) for _ in range(n)]
    layers = [
        LayerSpec(f"conv{i}", "conv2d", *pair, (3, 3), padding=(1, 1), in_size=(side, side), out_size=(side, side))
        for i, (pair, side) in enumerate(zip(pairwise(channels), sides, strict=True))
    ]
    return NetworkSpec.chain([*layers, *perceptron([512 * 49, 4096, 4096, 1000]).layers])


@pytest.mark.slow
def test_edge_tpu_predicts_networks_on_both_sides_of_its_cliff() -> None:
    """Milliseconds on USB 3: coral.ai, Edge TPU performance benchmarks."""
    milliseconds = {
        "MobileNet V1": (spec(MobileNetV1, 1.0, shape=(3, 224, 224)), 2.4),
        "MobileNet V2": (spec(MobileNetV2, shape=(3, 224, 224)), 2.6),
        "ResNet-50": (spec(ResNet, 50, shape=(3, 299, 299)), 49),
        "VGG16": (vgg([2, 2, 3, 3, 3]), 296),
        "VGG19": (vgg([2, 2, 4, 4, 4]), 308),
    }
    measurements = [Measurement(name, n, uniform(n, 8), ms / 1e3) for name, (n, ms) in milliseconds.items()]
    content, paths = device_file("edgetpu_usb"), ["memory[0].bytes_per_s", "overhead.inference_s"]
    predicted = held_out(content, measurements, paths)
    assert agreement(predicted["modelled_s"], predicted["measured_s"])["mape"] <= 0.10
    shipped = modelled(content, measurements)
    assert agreement(shipped, [m.latency_s for m in measurements])["max_error"] <= 0.10
