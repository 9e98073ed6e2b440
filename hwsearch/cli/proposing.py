"""Who chooses candidates: the sampler, and the proposer that may come before it."""

import logging
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from hwsearch.cli.schema import SearchConfig
from hwsearch.cli.setup import Task, build, cache_dir
from hwsearch.evaluate import Engine
from hwsearch.quantize import ActivationRanges, LayerDatabase
from hwsearch.quantize.cache import VERSION as QUANTIZATION_VERSION
from hwsearch.quantize.cache import identity
from hwsearch.run_folder import write_csv
from hwsearch.search import Proposer, SearchSpace
from hwsearch.sensitivity import Quantized, Sensitivity
from hwsearch.sensitivity_table import read_sensitivities

log = logging.getLogger(__name__)

PROPOSER = "proposer"
"""Key of a sampler's configuration; the others are the sampler's own."""

VERSION = 1
"""Part of every key of cached sensitivities; raised when the arithmetic of an engine changes."""


def build_sampler(config: Mapping[str, Any], seed: int) -> Any:
    """The Optuna sampler of ``conf/sampler``."""
    return build({key: value for key, value in config.items() if key != PROPOSER}, seed=seed)


def build_proposer(config: Mapping[str, Any], table: pd.DataFrame | None, **search: Any) -> Proposer | None:
    """What comes before the sampler, if anything.

    Args:
        config: ``conf/sampler``.
        table: Sensitivities, where there is a proposer.
        search: Arguments of every proposer.
    """
    return build(config[PROPOSER])(sensitivities=table, **search) if proposes(config) else None


def proposes(config: Mapping[str, Any]) -> bool:
    """Whether a proposer comes before the sampler."""
    return config.get(PROPOSER) is not None


def sensitivities(
    config: SearchConfig,
    task: Task,
    database: LayerDatabase,
    ranges: ActivationRanges,
    engine: Engine,
    space: SearchSpace,
) -> pd.DataFrame:
    """Sensitivity of every choice of the space; from the cache where they were computed before.

    As for layers, only what is made of module-level functions is cached, and an edited source file is another one.
    """
    measure: Sensitivity = build(config.sensitivity)
    made_by = identity(measure)
    choices = {layer: group.precisions for group in space.groups for layer in group.layers}
    origin = [
        VERSION,
        QUANTIZATION_VERSION,
        made_by,
        task.network.fingerprint,
        task.data.calibration_fingerprint,
        config.data.calibration_images,
        config.model.input,
        config.quantizer.model_dump(),
        sorted(choices.items()),
        type(engine).__name__,
        getattr(engine, "requantization", None),
    ]
    path = cache_dir(config) / "sensitivities" / f"{sha256(repr(origin).encode()).hexdigest()}.csv"
    if made_by and path.exists():
        return read_sensitivities(path)
    table = measure(Quantized(task.network, database, ranges, engine, task.calibration), choices)
    if made_by:
        _keep(table, path)
    return table


def _keep(table: pd.DataFrame, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent) as own:  # several searches may write the same table
            write_csv(table, Path(own, path.name))
            Path(own, path.name).replace(path)
    except OSError as error:
        log.warning("Sensitivities are not cached in %s: %s", path.parent, error)
