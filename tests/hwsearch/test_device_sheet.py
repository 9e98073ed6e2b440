"""Devices as tables."""

from pathlib import Path

import pytest
from rich.console import Console

from cost_models import load_device
from hwsearch.device_sheet import quantity, render_device

HARDWARE = Path(__file__).parents[2] / "conf" / "hardware"
FILES = [path for path in sorted(HARDWARE.glob("*.yaml")) if path.stem != "tvm_rpc"]  # which only Hydra composes


def shown(name: str) -> str:
    console = Console(width=200, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(render_device(load_device(HARDWARE / f"{name}.yaml")))
    return " ".join(console.export_text().split())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_device_is_shown_with_all_that_its_file_says(path: Path) -> None:
    text, device = shown(path.stem), load_device(path)
    assert text.startswith(path.stem)
    assert all(f"Note: {warning}" in text for warning in device.warnings)
    for key, source in getattr(device, "sources", {}).items():
        assert f"{key} {source.kind}" in text
    for entry in getattr(device, "validation", ()):
        assert f"{entry.metric} {entry.value:.4g} {'yes' if entry.held_out else 'no'}" in text


def test_rates_memories_sources_and_figures_are_shown() -> None:
    text = shown("t4_roofline")
    assert "8 8 65 TMAC/s 0.109 peaks, hawq" in text
    assert "dram 320 GB/s peaks" in text
    assert "overhead.layer_s 3.4 µs Seconds per layer and inference" in text
    assert "hawq measurement ±11% Yao et al." in text
    assert "20 kernels of ResNet18, leaving one shape out mape 0.108 yes" in text
    # 64 * 64 * 9 * 56 * 56 MACs at 65 * 0.109 TMAC/s, and an eighth of 3.4 microseconds
    seconds = 64 * 64 * 9 * 56 * 56 / (65e12 * 0.109) + 3.4e-6 / 8
    assert f"W8A8 {64 * 64 * 9 * 56 * 56 / seconds / 1e9:.0f} compute" in text


def test_kernels_and_runs_of_bits_are_short() -> None:
    assert "2 to 8 8 conv2d, linear 1x1 groups * " in shown("gap9_ne16")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("bytes_per_s", 3.2e11, "320 GB/s"),
        ("size_bytes", 65536, "65.54 kB"),
        ("layer_s", 2.33e-4, "233 µs"),
        ("active_w", 0.042, "42 mW"),
        ("inference_s", 0.0, "0 s"),
        ("read_pj_per_bit", 0.021, "0.021"),
        ("rows", 16, "16"),
    ],
)
def test_a_quantity_has_the_unit_of_its_field(field, value, words) -> None:
    assert quantity(field, value) == words
