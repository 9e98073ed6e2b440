"""What every device file says beside its model: which device, from which sources, how well checked."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from cost_models.fields import DEVICE_FILE, Count, Positive, SomeText

SCHEMA = "hwsearch.device/1"


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Source:
    """Where constants come from."""

    kind: Literal["paper", "repository", "datasheet", "website", "measurement", "derived", "estimate"]
    """``derived`` is calculated from other sources; ``estimate`` is an assumption, of which every result warns."""
    cite: str
    """Authors, title, venue or vendor, and which table or file."""
    url: str | None = None
    """Where it can be read."""
    uncertainty: Positive | None = None
    """Relative uncertainty of the constants: 0.5 is plus or minus 50 percent. An estimate must give it."""

    @model_validator(mode="after")
    def _estimates_say_how_uncertain_they_are(self) -> Self:
        if self.kind == "estimate" and self.uncertainty is None:
            raise ValueError("an estimate needs its relative uncertainty, e.g. uncertainty: 0.5")
        return self


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Sourced:
    """A section of a device file; its constants have a source."""

    source: Annotated[SomeText, Field(description="Keys of sources: where the constants of this section come from.")]


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Validation:
    """How far the model is from published or measured figures."""

    data: str
    """Which figures, and how many."""
    metric: str
    """For example ``mape``, ``max_error``, ``spearman``."""
    value: float
    """Errors and shares as fractions: 0.05 is five percent."""
    held_out: bool = False
    """Whether no constant of the file was fitted to these figures."""


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Calibration:
    """Which constants are fitted to measurements, and to which."""

    fitted: SomeText
    """Paths of the fitted fields: ``compute[0].efficiency``, ``overhead.layer_s``."""
    data: str | None = None
    """The measurements; None if the fields hold first guesses that are still to be fitted."""


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class DeviceFile(Sourced):
    """Fields that every kind of device has; its own ``source`` is that of the clock and other bare constants."""

    schema: Annotated[Literal["hwsearch.device/1"], Field(description="Version of this format.")] = "hwsearch.device/1"
    name: Annotated[str, Field(description="Name of the file without its ending.")]
    chip: Annotated[str, Field(description="The hardware.")]
    runtime: Annotated[
        str, Field(description="Runtime or compiler with its version, or the simulator that is followed.")
    ]
    batch: Annotated[Count, Field(description="Images per inference; every cost is divided by it.")]
    sources: Annotated[Mapping[str, Source], Field(description="Where the constants come from, by a short key.")]
    notes: Annotated[
        tuple[str, ...], Field(description="What a reader of the results must know; shown with them.")
    ] = ()
    validation: Annotated[tuple[Validation, ...], Field(description="How well the model agrees with figures.")] = ()
    calibration: Annotated[Calibration | None, Field(description="Fitted fields.")] = None

    @model_validator(mode="after")
    def _every_source_is_known(self) -> Self:
        unknown = [
            f"{f'{path}.source'.lstrip('.')}: '{key}' is not in sources"
            for path, section in _sections(self)
            for key in section.source
            if key not in self.sources
        ]
        if unknown:
            raise ValueError(f"{'; '.join(unknown)}; choose from {sorted(self.sources)}")
        return self

    @property
    def cost_source(self) -> Literal["modelled", "measured"]:
        """Modelled, unless a subclass says otherwise."""
        return "modelled"

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notes, and a line for each estimate."""
        used: dict[str, list[str]] = {}
        for path, section in _sections(self):
            for key in section.source:
                used.setdefault(key, []).append(path or "clock and sizes")
        estimates = (
            f"Estimated to ±{source.uncertainty:.0%}: {', '.join(used[key])} ({source.cite})."
            for key, source in self.sources.items()
            if source.kind == "estimate" and key in used
        )
        return *self.notes, *estimates


def _sections(section: Any, path: str = "") -> Iterator[tuple[str, Sourced]]:
    """Every sourced part with its path, e.g. ``memory[1]``."""
    if isinstance(section, Sourced):
        yield path, section
    if isinstance(section, tuple):
        for index, part in enumerate(section):
            yield from _sections(part, f"{path}[{index}]")
    elif is_dataclass(section):
        for field in fields(section):
            yield from _sections(getattr(section, field.name), f"{path}.{field.name}".lstrip("."))
