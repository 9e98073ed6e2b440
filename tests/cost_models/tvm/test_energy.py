"""Energy counters, read from files laid out as Linux does."""

from pathlib import Path

import pytest

from cost_models.tvm.energy import Rapl, counted_uj

LARGEST_UJ = 262_143_328_850
ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl-mmio:0": "package-0",
}


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    for zone, name in ZONES.items():
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(f"{name}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text(f"{LARGEST_UJ}\n")
        count(tmp_path / zone, 1000)
    return tmp_path


def count(zone: Path, energy_uj: int) -> None:
    (zone / "energy_uj").write_text(f"{energy_uj}\n")


def test_packages_and_their_memory_are_added_up(powercap: Path) -> None:
    def run() -> None:
        for zone, energy_uj in zip(ZONES, (2_001_000, 1_500_000, 501_000, 1_000, 9_000_000), strict=True):
            count(powercap / zone, energy_uj)

    assert Rapl.find(powercap).energy_j(run) == pytest.approx(2.5, rel=1e-12)  # of binary fractions


def test_counters_wrap_around() -> None:
    assert counted_uj(10, 30, 100) == 20
    assert counted_uj(90, 5, 100) == 15


def test_a_machine_without_counters_has_no_energy(tmp_path: Path) -> None:
    assert Rapl.find(tmp_path) is None
    assert Rapl.find(tmp_path / "missing") is None


@pytest.mark.parametrize("file", ["energy_uj", "max_energy_range_uj"])
def test_counters_that_cannot_be_read_are_none(powercap: Path, file: str) -> None:
    (powercap / "intel-rapl:1" / file).unlink()
    assert Rapl.find(powercap) is None
