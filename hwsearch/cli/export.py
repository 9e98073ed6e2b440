"""``hwsearch export``."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import cast, get_args

import yaml
from rich.console import Console

from cost_models import CostModel, load_device
from cost_models.tvm.cost_model import MeasuredDevice
from cost_models.tvm.integer import Requantization
from cost_models.tvm.target import Target, host, resolve
from cost_models.tvm.untuned import untuned
from hwsearch.cli.judging import requantization
from hwsearch.cli.run_config import read_run_config
from hwsearch.cli.setup import Task, layer_database, load_task
from hwsearch.compare import Run, load_run
from hwsearch.evaluate import read_precisions
from hwsearch.export import Export, export_tvm, require_writable
from hwsearch.lowering import lower
from hwsearch.lowering.program import Choose
from hwsearch.progress import STDERR
from hwsearch.quantize.calibrate import read_ranges
from hwsearch.run_folder import versions

FORMATS = ("tvm",)


def export_command(
    folder: Path, trial: int, form: str, arithmetic: str | None, target: str | None, out: Path | None
) -> None:
    """Rebuild a trial's network from its run folder, compile it, and write it with a script that runs it."""
    _require("--format", form, FORMATS)
    if arithmetic is not None:
        _require("--requantization", arithmetic, get_args(Requantization))
    run, config = load_run(folder), read_run_config(folder)
    precisions = read_precisions(folder / "precisions.csv", trial)
    sys.path.insert(0, str(Path.cwd()))  # so that a `_target_` may name a module of the user's
    device = load_device(config.hardware)
    kind = cast(Requantization, arithmetic) if arithmetic else requantization(device)
    cpu, choose = _kernels(device, target)
    out = out or folder / "export" / f"trial_{trial}_{form}"
    require_writable(out)
    task = load_task(config)
    _check_fingerprints(run, task)
    ranges = read_ranges(folder / "ranges.csv")
    network = lower(task.network, precisions, layer_database(config, task, set(precisions.values())), ranges)
    about = {
        "model": config.model.name,
        "model_fingerprint": task.network.fingerprint,
        "run": folder.resolve().name,
        "trial": trial,
        "precisions": {layer: str(precision) for layer, precision in precisions.items()},
        "versions": versions(),
    }
    export = Export(network, kind, cpu, choose, task.preprocess, task.data.inputs[0])
    with STDERR.status(f"compiling trial {trial} of {config.model.name}"):
        export_tvm(export, out, about)
    text = f"{config.model.name}, trial {trial}, {kind} requantization, for {cpu.mcpu} ({cpu.mtriple}): {out}"
    Console().print(f"{text}\nIt checks itself: python {out / 'run.py'}", highlight=False, soft_wrap=True)


def _require(option: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise ValueError(f"{option} is one of {list(choices)}, not '{value}'.")


def _kernels(device: CostModel, target: str | None) -> tuple[Target, Choose]:
    """What to compile for, and who picks kernels: the run's measurements, where they are of that target."""
    measured = resolve(device.target) if isinstance(device, MeasuredDevice) else None
    cpu = resolve(yaml.safe_load(target)) if target else measured or host()
    if isinstance(device, MeasuredDevice) and cpu == measured:
        return cpu, device.tuner.choose
    return cpu, untuned(cpu)


def _check_fingerprints(run: Run, task: Task) -> None:
    """Refuse a network or images that are not those of the run."""
    found = {
        "model_fingerprint": task.network.fingerprint,
        "data_fingerprint": task.data.fingerprint,
        "calibration": task.data.calibration_fingerprint,
    }
    for key, value in found.items():
        if run.info[key] != value:
            raise ValueError(
                f"Run '{run.path}' has {key} {run.info[key][:12]}, but what its config.yaml names has {value[:12]}; "
                "a file has changed since the search."
            )
