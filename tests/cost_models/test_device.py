"""Every shipped device file keeps its contract, and a wrong one is explained."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cost_models import CostModel, load_device
from cost_models.contract import LAYERS, breaches
from cost_models.device import DeviceError
from cost_models.device_file import DeviceFile
from cost_models.schema import KINDS, device_schema

HARDWARE = Path(__file__).parents[2] / "conf" / "hardware"
TARGETS = {f"cost_models.{kind.__name__}" for kind in KINDS}
DEVICE_FILES = [p for p in sorted(HARDWARE.glob("*.yaml")) if yaml.safe_load(p.read_text())["_target_"] in TARGETS]


@pytest.fixture(params=DEVICE_FILES, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_a_file_says_what_it_is_and_from_where(path: Path) -> None:
    assert path.read_text().startswith("# Source: ")
    content = yaml.safe_load(path.read_text())
    assert content["schema"] == "hwsearch.device/1"
    device = load_device(path)
    assert isinstance(device, CostModel)
    assert isinstance(device, DeviceFile)
    assert device.name == path.stem
    assert device.cost_source == "modelled"
    used = json.dumps({key: value for key, value in content.items() if key != "sources"})
    assert all(f'"{key}"' in used for key in device.sources)  # no source that nothing comes from


def test_an_estimate_is_among_the_warnings(path: Path) -> None:
    device = load_device(path)
    estimates = [source for source in device.sources.values() if source.kind == "estimate"]
    assert all(any(source.cite in warning for warning in device.warnings) for source in estimates)


def test_a_file_keeps_the_contract(path: Path) -> None:
    """Positive, finite, the sum of its parts, monotone where claimed; unsupported pairs are refused by name."""
    device = load_device(path)
    assert any(device.precisions(layer) for layer in LAYERS)
    assert breaches(device) == []


def test_costs_are_repeatable(path: Path) -> None:
    device, again = load_device(path), load_device(path)
    for layer in LAYERS:
        for precision in device.precisions(layer)[:: max(1, len(device.precisions(layer)) - 1)]:  # first and last
            assert again.layer_cost(layer, precision) == device.layer_cost(layer, precision)


def test_a_mapping_and_its_file_give_the_same_device(path: Path) -> None:
    assert load_device(path) == load_device(yaml.safe_load(path.read_text()))


def test_the_published_schema_is_that_of_the_code() -> None:
    """``python -m cost_models.schema > conf/hardware/device.schema.json`` writes it."""
    assert json.loads((HARDWARE / "device.schema.json").read_text()) == device_schema()


def test_the_schema_describes_every_field_of_every_kind() -> None:
    for name, section in device_schema()["$defs"].items():
        for field, content in section["properties"].items():
            assert field == "_target_" or "description" in content, f"{name}.{field}"


def test_missing_file_lists_its_neighbours() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"No device file '.*t5\.yaml'; its folder holds \[.*'t4_roofline\.yaml'"
    ):
        load_device(HARDWARE / "t5.yaml")


def example() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((HARDWARE / "t4_roofline.yaml").read_text())
    return content


RATE = {"weight_bits": 8, "activation_bits": 8, "macs_per_s": 1.0, "source": "peaks"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_target_": "cost_models.Analitic"}, "_target_: cannot import 'cost_models.Analitic'"),
        ({"_target_": "no_such_package.Device"}, "_target_: cannot import 'no_such_package.Device'"),
        ({"_target_": None}, "_target_ must be the dotted path of a class, e.g. cost_models.Analytic; got None"),
        ({"_target_": "builtins.dict"}, "_target_: 'builtins.dict' is no cost model"),
        ({"memory_gb_per_s": 320}, r"memory_gb_per_s: unknown field; choose from \['batch', 'calibration', 'chip', "),
        ({"batch": 0}, r"batch: Input should be greater than 0 \(got 0\)"),
        ({"chip": None}, r"chip: Input should be a valid string \(got None\)"),
        ({"overlap": "none"}, r"overlap: Input should be 'max' or 'sum' \(got 'none'\)"),
        ({"compute": []}, r"compute: .*at least 1 item"),
        ({"compute": [RATE | {"weight_bits": 99}]}, r"yaml: compute\[0\]\.weight_bits\[0\]: .*\(got 99\)$"),
        ({"compute": [RATE | {"macs_per_s": -1}]}, r"yaml: compute\[0\]\.macs_per_s: .*not negative.*got -1.*$"),
        ({"compute": [RATE | {"macs_per_s": float("inf")}]}, r"compute\[0\]\.macs_per_s: .*got inf"),
        ({"compute": [RATE | {"macs_per_s": "macs * f"}]}, r"compute\[0\]\.macs_per_s: 'f' is no quantity of a layer"),
        ({"compute": [RATE | {"tops": 1}]}, r"compute\[0\]\.tops: unknown field; choose from \['activation_bits', "),
        ({"compute": [{"weight_bits": 8}]}, r"compute\[0\]\.activation_bits: missing"),
        ({"memory": [{"name": "dram", "gb_per_s": 1}]}, r"memory\[0\]\.gb_per_s: unknown field; choose from \['bytes_per_s', "),
        ({"memory": [{"name": "dram"}]}, r"memory\[0\]\.source: missing"),
        ({"overhead": {"layers_s": 1}}, r"overhead\.layers_s: unknown field; choose from \['between_layers_s', "),
        ({"sources": {"hawq": {"typ": "paper"}}}, r"sources\.hawq\.typ: unknown field; choose from \['cite', 'kind', "),
        ({"compute": [RATE | {"source": "web"}]}, r"yaml: compute\[0\]\.source: 'web' is not in sources; choose from "),
    ],
)  # fmt: skip
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


def test_every_mistake_is_found_at_once(tmp_path: Path) -> None:
    path = tmp_path / "device.yaml"
    wrong = {"batch": 0, "memory": [{"name": "dram", "gb_per_s": 1, "source": "peaks"}], "overlap": "none"}
    path.write_text(yaml.safe_dump(example() | wrong))
    with pytest.raises(DeviceError) as error:
        load_device(path)
    assert error.value.place == str(path)
    fields = [mistake.partition(":")[0] for mistake in error.value.mistakes]
    assert sorted(fields) == ["batch", "memory[0].gb_per_s", "overlap"]


def test_every_unknown_source_is_found_at_once() -> None:
    with pytest.raises(DeviceError) as error:
        load_device(example() | {"compute": [RATE | {"source": "web"}], "source": "page"})
    choices = "choose from ['hawq', 'peaks']"
    assert "source: 'page' is not in sources; compute[0].source: 'web' is not in sources; " in str(error.value)
    assert str(error.value).endswith(choices)


def test_a_field_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "device.yaml"
    path.write_text((HARDWARE / "t4_roofline.yaml").read_text() + "batch: 16\n")
    with pytest.raises(DeviceError, match="not valid YAML: 'batch' is given twice"):
        load_device(path)


def test_bit_fusion_refuses_operands_wider_than_its_lanes() -> None:
    content = yaml.safe_load((HARDWARE / "bitfusion_isca_2018.yaml").read_text())
    with pytest.raises(ValueError, match="weight_bits holds 16, more than max_lane_bits=8"):
        load_device(content | {"weight_bits": [8, 16]})
