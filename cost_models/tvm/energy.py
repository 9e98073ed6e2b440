"""Energy that the CPU itself counts (running average power limit, RAPL), on Linux, of Intel and AMD."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
COUNTED = ("package", "dram")
"""Zones that do not include each other: a package includes its cores, but not its memory."""

MICRO = 1e-6


@dataclass(frozen=True)
class Rapl:
    """Energy counters of the machine: they count whatever runs on it, idle cores included.

    Attributes:
        zones: Folders with ``energy_uj`` and ``max_energy_range_uj``.

    Reference: Linux, Documentation/power/powercap/powercap.rst.
    """

    zones: tuple[Path, ...]

    @classmethod
    def find(cls, powercap: Path = POWERCAP) -> "Rapl | None":
        """The counters of this machine, or None where it has none, or lets only root read them."""
        try:
            every = sorted(powercap.glob("intel-rapl:*"))  # AMD's have the same name
            zones = tuple(zone for zone in every if (zone / "name").read_text().startswith(COUNTED))
            rapl = cls(zones)
            rapl.energy_j(lambda: None)
        except OSError:
            return None
        return rapl if zones else None

    def energy_j(self, run: Callable[[], object]) -> float:
        """Joules counted while ``run`` runs, in less time than a counter needs to wrap around twice: minutes."""
        before = self._read("energy_uj")
        run()
        after = self._read("energy_uj")
        return MICRO * sum(map(counted_uj, before, after, self._read("max_energy_range_uj")))

    def _read(self, name: str) -> list[int]:
        return [int((zone / name).read_text()) for zone in self.zones]


def counted_uj(before: int, after: int, largest: int) -> int:
    """Microjoules between two readings of a counter that goes on at zero after ``largest``."""
    return after - before if after >= before else after - before + largest
