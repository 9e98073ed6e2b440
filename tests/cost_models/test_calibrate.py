"""Fitted constants: recovered where they are known, and judged on published figures that they were not fitted to."""

import pytest
from published import BOARDS, FIXTURES, device_file, edge_tpu_networks, hawq_networks, kernels, table, tiny

from cost_models import LayerSpec, Precision, load_device
from cost_models.agreement import agreement
from cost_models.calibrate import Measurement, fit, held_out, modelled

needs_figures = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"needs {FIXTURES}")
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


@needs_figures
@pytest.mark.parametrize("board", BOARDS)
def test_microcontrollers_predict_the_network_that_they_were_not_fitted_to(board) -> None:
    content, measurements = device_file(BOARDS[board]), tiny(board)
    predicted = held_out(content, measurements, OVERHEADS)
    assert agreement(predicted["modelled_s"], predicted["measured_s"])["mape"] <= 0.22
    # the shipped constants are those of all four networks, rounded
    fitted = fit(content, measurements, OVERHEADS)
    assert content["compute"][0]["efficiency"] == pytest.approx(fitted["compute"][0]["efficiency"], rel=0.01)
    assert content["overhead"]["layer_s"] == pytest.approx(fitted["overhead"]["layer_s"], rel=0.01)


@needs_figures
@pytest.mark.parametrize(
    ("board", "error"), [("NUCLEO-U575ZI-Q", 0.05), ("NUCLEO-H7A3ZI-Q", 0.05), ("NUCLEO-L4R5ZI", 0.30)]
)
def test_energy_of_a_microcontroller_is_power_times_time(board, error) -> None:
    rows = table("mlperf_tiny_v1_1.csv")
    rows = rows[rows["board"] == board]
    energy_uj = load_device(device_file(BOARDS[board])).power.active_w * rows["latency_ms"] * 1e3
    assert (energy_uj / rows["energy_uj"] - 1).abs().max() <= error


@needs_figures
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


@needs_figures
@pytest.mark.slow
def test_t4_networks_that_were_left_out_are_predicted() -> None:
    content, paths = device_file("t4_roofline"), ["overhead.between_layers_s"]
    predicted = held_out(content, hawq_networks(), paths)
    found = agreement(predicted["modelled_s"], predicted["measured_s"])
    assert found["mape"] <= 0.08
    assert found["spearman"] >= 0.97
    fitted = fit(content, hawq_networks(), paths)
    assert content["overhead"]["between_layers_s"] == pytest.approx(fitted["overhead"]["between_layers_s"], rel=0.01)


@pytest.mark.slow
def test_edge_tpu_predicts_networks_on_both_sides_of_its_cliff() -> None:
    measurements = edge_tpu_networks()
    content, paths = device_file("edgetpu_usb"), ["memory[0].bytes_per_s", "overhead.inference_s"]
    predicted = held_out(content, measurements, paths)
    assert agreement(predicted["modelled_s"], predicted["measured_s"])["mape"] <= 0.10
    shipped = modelled(content, measurements)
    assert agreement(shipped, [m.latency_s for m in measurements])["max_error"] <= 0.10
