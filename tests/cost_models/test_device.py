"""Every shipped device file, and the messages that a wrong one gives."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cost_models import CostModel, LayerSpec, load_device

DEVICE_FILES = sorted((Path(__file__).parents[2] / "conf" / "hardware").glob("*.yaml"))
ANALYTIC = {"cost_models.BitFusion", "cost_models.Roofline"}

LAYERS = [
    LayerSpec("conv", "conv2d", 16, 32, (3, 3), padding=(1, 1), in_size=(16, 16), out_size=(16, 16)),
    LayerSpec("depthwise", "conv2d", 32, 32, (3, 3), groups=32, padding=(1, 1), in_size=(16, 16), out_size=(16, 16)),
    LayerSpec("conv_1x7", "conv2d", 16, 32, (1, 7), padding=(0, 3), in_size=(17, 17), out_size=(17, 17)),
    LayerSpec("linear", "linear", 64, 10),
    LayerSpec("tokens", "linear", 64, 64, in_size=(50, 1), out_size=(50, 1)),
]


@pytest.fixture(params=[path for path in DEVICE_FILES if yaml.safe_load(path.read_text())["_target_"] in ANALYTIC])
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def example() -> dict[str, Any]:
    return yaml.safe_load(next(p for p in DEVICE_FILES if p.stem == "t4_roofline").read_text())


def test_every_analytic_device_costs_every_kind_of_layer(path: Path) -> None:
    device = load_device(path)
    assert isinstance(device, CostModel)
    assert device.name == path.stem
    assert device.cost_source == "modelled"
    for layer in LAYERS:
        choices = device.precisions(layer)
        assert choices == tuple(sorted(choices))
        for precision in choices:
            cost = device.layer_cost(layer, precision)
            assert cost.latency_s is not None
            assert cost.latency_s > 0
            assert cost.energy_j is None or cost.energy_j > 0


def test_device_files_begin_with_their_source(path: Path) -> None:
    assert path.read_text().startswith("# Source: ")


def test_a_mapping_and_its_file_give_the_same_device(path: Path) -> None:
    assert load_device(path) == load_device(yaml.safe_load(path.read_text()))


def test_missing_file_lists_its_neighbours() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"No device file '.*t5\.yaml'; its folder holds \[.*'t4_roofline\.yaml'"
    ):
        load_device(DEVICE_FILES[0].parent / "t5.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_target_": "cost_models.Rofline"}, "_target_: cannot import 'cost_models.Rofline'"),
        ({"_target_": "no_such_package.Device"}, "_target_: cannot import 'no_such_package.Device'"),
        ({"_target_": None}, "_target_ must be the dotted path of a class, e.g. cost_models.Roofline; got None"),
        ({"_target_": "builtins.dict"}, "_target_: 'builtins.dict' is no cost model"),
        ({"memory_gb_per_s": 320}, "memory_gb_per_s: unknown field"),
        ({"batch": 0}, r"batch: Input should be greater than 0 \(got 0\)"),
        ({"memory_bytes_per_s": float("inf")}, r"memory_bytes_per_s: .*finite.* \(got inf\)"),
        ({"overlap": "none"}, r"overlap: Input should be 'max' or 'sum' \(got 'none'\)"),
        ({"rates": []}, "rates: .*at least 1 item"),
        (
            {"rates": [{"weight_bits": 8, "activation_bits": 8, "macs_per_s": -1}]},
            r"rates\.0\.macs_per_s: .*\(got -1\)",
        ),
        ({"rates": [{"weight_bits": 8, "activation_bits": 8, "tops": 1}]}, r"rates\.0\.tops: unknown field"),
        ({"rates": [{"weight_bits": 8, "macs_per_s": 1.0}]}, r"rates\.0\.activation_bits: missing"),
        (
            {"rates": [{"weight_bits": 8, "activation_bits": 8}]},
            r"rates\.0: \[8, 8\] needs either macs_per_s or computed",
        ),
        (
            {"rates": [{"weight_bits": 4, "activation_bits": 8, "computed_as": [8, 8]}]},
            r"\[4, 8\] is computed_as \[8, 8\], which has no macs_per_s for conv2d; choose from \[\]",
        ),
        ({"rates": 2 * [{"weight_bits": 8, "activation_bits": 8, "macs_per_s": 1.0}]}, r"\[8, 8\] twice for conv2d"),
        ({"static_w": 1.0}, "active_w excludes mac_pj, memory_pj_per_bit and static_w"),
        ({"active_w": None, "memory_pj_per_bit": 1.0}, "energy needs both rates' mac_pj and memory_pj_per_bit"),
        ({"active_w": None, "static_w": 1.0}, "static_w alone gives no energy"),
    ],
)
def test_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "device.yaml"
    path.write_text(yaml.safe_dump(example() | change))
    with pytest.raises(ValueError, match=message) as error:
        load_device(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["- a list", "a: [", ""])
def test_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "device.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"device\.yaml: "):
        load_device(path)


def test_bit_fusion_refuses_operands_wider_than_its_lanes() -> None:
    file = next(p for p in DEVICE_FILES if p.stem == "bitfusion_isca_2018")
    with pytest.raises(ValueError, match="weight_bits holds 16, more than max_lane_bits=8"):
        load_device(yaml.safe_load(file.read_text()) | {"weight_bits": [8, 16]})
