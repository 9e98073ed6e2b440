"""Devices as tables."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cost_models import CostModel, load_device
from hwsearch.device_sheet import quantity, render_device

HARDWARE = Path(__file__).parents[2] / "conf" / "hardware"
FILES = [path for path in sorted(HARDWARE.glob("*.yaml")) if path.stem != "tvm_rpc"]  # which only Hydra composes


def shown(name: str) -> str:
    return in_words(load_device(HARDWARE / f"{name}.yaml"))


def in_words(device: CostModel) -> str:
    console = Console(width=200, file=StringIO())
    console.print(render_device(device))
    return " ".join(console.file.getvalue().split())


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


def test_a_measured_device_says_what_its_settings_mean() -> None:
    text = shown("tvm_cpu")
    assert "search_s 5 s Seconds of search over a kernel's knobs." in text
    quick = load_device({"_target_": "cost_models.tvm.TvmCpu", "name": "quick", "procedure": {"rounds": 3}})
    assert "procedure.rounds 3 Passes over all kernels." in in_words(quick)


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
