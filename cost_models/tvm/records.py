"""What was measured, in a form that fits a table: one record per kernel."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from cost_models.tvm.measure import Measurement
from cost_models.tvm.runner import Runner
from cost_models.tvm.target import compiler_versions
from cost_models.tvm.tuner import Timed
from cost_models.tvm.variants import Variant

Record = Mapping[str, object]


def layer_records(names: Sequence[str], timed: Mapping[Variant, Timed], runner: Runner) -> Iterator[Record]:
    """The best kernel of every variant of a shape.

    Args:
        names: Layers of that shape.
        timed: Kernels and their times.
        runner: Where they were measured.
    """
    for variant, best in timed.items():
        bits = {
            "stored_weight_bits": variant.stored_weight_bits,
            "computed_weight_bits": variant.computed_as.weight_bits,
            "computed_activation_bits": variant.computed_as.activation_bits,
            "weight_format": variant.weight_format,
        }
        knobs = " ".join(f"{name}={value}" for name, value in asdict(best.kernel.tiling).items())
        yield _record(names, variant.method, bits | {"tiling": knobs}, best.measurement, runner)


def operator_record(name: str, method: str, measurement: Measurement, runner: Runner) -> Record:
    """The kernel of an operator between layers."""
    bits = dict.fromkeys(("stored_weight_bits", "computed_weight_bits", "computed_activation_bits"))
    return _record([name], method, bits | {"weight_format": None, "tiling": None}, measurement, runner)


def _record(
    names: Sequence[str], method: str, knobs: Mapping[str, object], measurement: Measurement, runner: Runner
) -> Record:
    times = asdict(measurement) | {"date": measurement.date.isoformat(timespec="seconds")}
    machine = {"cpu": runner.cpu_model, "target": " ".join(map(str, runner.target.attributes.values()))}
    return {"used_by": " ".join(names), "method": method, **knobs, **times, **machine, **compiler_versions()}
