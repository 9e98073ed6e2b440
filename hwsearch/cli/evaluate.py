"""``hwsearch evaluate``."""

from pathlib import Path

from rich.console import Console

from cost_models import FLOAT, BitConfig, LayerSpec, Precision, bops, size_bytes
from hwsearch.cli.schema import EvaluateConfig, SpaceConfig
from hwsearch.cli.setup import activation_ranges, layer_database, load_task
from hwsearch.evaluate import FakeQuantNetwork, accuracy, check_config, read_precisions
from hwsearch.pareto import wilson_interval
from hwsearch.run_folder import write_json
from hwsearch.search.space import match_layers


def evaluate_command(config: EvaluateConfig, run_dir: Path) -> None:
    """Judge one configuration on all labelled images and write ``result.json``."""
    _check_precisions(config)
    task = load_task(config)
    layers = task.network.layers
    precisions = _precisions(config, layers)
    if all(precision == FLOAT for precision in precisions.values()):
        found = accuracy(
            FakeQuantNetwork(task.network, {}, {}, config.device), task.batches(), "judging the float network"
        )
    else:
        database, ranges = layer_database(config, task), activation_ranges(config, task)
        judge = FakeQuantNetwork(task.network, database, ranges, config.device)
        judge.configure(precisions)
        found = accuracy(judge, task.batches(), f"judging {config.precisions}")
    low, high = wilson_interval(found.correct, found.n)
    result = {
        "schema": "hwsearch.result/1",
        "model": config.model.name,
        "model_fingerprint": task.network.fingerprint,
        "data": task.data.name,
        "data_fingerprint": task.data.fingerprint,
        "precisions": {name: str(p) if p != FLOAT else "float" for name, p in precisions.items()},
        "quantizer": config.quantizer.name if config.precisions else None,
        "top1": found.top1,
        "correct": found.correct,
        "n": found.n,
        "interval": [low, high],
        "confidence": 0.95,
        "size_bytes": sum(size_bytes(layer, precisions[layer.name]) for layer in layers),
        "config": config.model_dump(),
        "bops": sum(bops(layer, precisions[layer.name]) for layer in layers),
    }
    write_json(result, run_dir / "result.json")
    Console().print(
        f"{config.model.name} at {config.precisions or 'float'} on {task.data.name}: "
        f"top-1 {found.top1:.2f} % of {found.n} images "
        f"(95 % interval {low:.2f} to {high:.2f}), {result['size_bytes']:,} bytes\n{run_dir / 'result.json'}",
        highlight=False,
        soft_wrap=True,
    )


def _check_precisions(config: EvaluateConfig) -> None:
    """Fail before any work where ``precisions`` is neither a shorthand nor a file, or ``trial`` would be ignored."""
    text = config.precisions
    if config.trial is not None and not (text and Path(text).exists()):
        raise ValueError(
            f"trial={config.trial} chooses a trial of a file; set precisions=FILE, e.g. a run's precisions.csv."
        )
    if text and not Path(text).exists():
        try:
            Precision.parse(text)
        except ValueError as error:
            raise FileNotFoundError(f"precisions={text} is neither a file nor a shorthand such as W4A8.") from error


def _precisions(config: EvaluateConfig, layers: tuple[LayerSpec, ...]) -> BitConfig:
    names = [layer.name for layer in layers]
    if config.precisions is None:
        return dict.fromkeys(names, FLOAT)
    if Path(config.precisions).exists():
        precisions = read_precisions(Path(config.precisions), config.trial)
        check_config(precisions, names)
        return precisions
    return dict.fromkeys(names, Precision.parse(config.precisions)) | _pinned(config.space, names)


def _pinned(space: SpaceConfig, names: list[str]) -> dict[str, Precision]:
    return {
        name: precision
        for pattern, precision in space.pins().items()
        for name in match_layers(pattern, names, "space.pinned")
    }
