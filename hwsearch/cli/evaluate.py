"""``hwsearch evaluate``."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from cost_models import FLOAT, FLOAT_BITS, BitConfig, Precision, bops
from hwsearch.cli.schema import EvaluateConfig, SpaceConfig
from hwsearch.cli.setup import Task, activation_ranges, layer_database, load_task
from hwsearch.evaluate import FakeQuantNetwork, accuracy, check_config, read_precisions
from hwsearch.evaluate.layer_table import layer_table
from hwsearch.pareto import wilson_interval
from hwsearch.quantize import ACTIVATION_BITS, WEIGHT_BITS, ActivationRanges, LayerDatabase
from hwsearch.run_folder import write_csv, write_json
from hwsearch.search import match_layers


def evaluate_command(config: EvaluateConfig, run_dir: Path) -> None:
    """Judge one configuration on all labelled images and write ``result.json`` and ``sqnr.csv``."""
    stated = _stated_precisions(config)
    task = load_task(config)
    layers = task.network.layers
    precisions = _precisions(config, stated, [layer.name for layer in layers])
    judge = FakeQuantNetwork(task.network, *_quantized(config, task, precisions), config.device)
    judge.configure(precisions)
    found = accuracy(judge, task.batches(), f"judging {config.precisions or 'the float network'}")
    table = layer_table(judge, precisions, next(iter(task.calibration))[0])
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
        "size_bytes": int(table["size_bytes"].sum()),
        "huffman_bytes": int(table["huffman_bytes"].sum()),
        "config": config.model_dump(),
        "bops": sum(bops(layer, precisions[layer.name]) for layer in layers),
    }
    write_json(result, run_dir / "result.json")
    write_csv(table, run_dir / "sqnr.csv")
    console = Console()
    if config.precisions:
        console.print(_rendered(table))
    console.print(
        f"{config.model.name} at {config.precisions or 'float'} on {task.data.name}: "
        f"top-1 {found.top1:.2f} % of {found.n} images "
        f"(95 % interval {low:.2f} to {high:.2f}), {result['size_bytes']:,} bytes, {result['huffman_bytes']:,} "
        f"Huffman-coded\n{run_dir / 'result.json'}",
        highlight=False,
        soft_wrap=True,
    )


def _quantized(config: EvaluateConfig, task: Task, precisions: BitConfig) -> tuple[LayerDatabase, ActivationRanges]:
    """Weights and activation ranges, where the precisions need them."""
    activation_bits = {precision.activation_bits for precision in precisions.values()} - {FLOAT_BITS}
    database = layer_database(config, task, set(precisions.values()))
    return database, activation_ranges(config, task) if activation_bits else {}


def _rendered(table: pd.DataFrame) -> Table:
    """The layers' bytes and ratios for the terminal."""
    shown = Table(title="Signal-to-quantization-noise ratios", title_justify="left")
    for i, column in enumerate(("layer", "bits", "bytes", "Huffman-coded", "weights, dB", "outputs, dB")):
        shown.add_column(column, justify="right" if i else "left")
    for row in table.to_dict("records"):
        shown.add_row(
            row["layer"],
            f"W{row['weight_bits']}A{row['activation_bits']}",
            f"{row['size_bytes']:,}",
            f"{row['huffman_bytes']:,}",
            f"{row['weight_sqnr_db']:.1f}",
            f"{row['output_sqnr_db']:.1f}",
        )
    return shown


def _stated_precisions(config: EvaluateConfig) -> Precision | BitConfig:
    """What ``precisions`` says, read and checked before any work: one precision, or that of every layer."""
    text = config.precisions
    check_widths("space.pinned", config.space.pins().values())
    if text and Path(text).exists():
        precisions = read_precisions(Path(text), config.trial)
        check_widths(f"precisions={text}", precisions.values())
        return precisions
    if config.trial is not None:
        raise ValueError(
            f"trial={config.trial} chooses a trial of a file; set precisions=FILE, e.g. a run's precisions.csv."
        )
    if text is None:
        return FLOAT
    try:
        precision = Precision.parse(text)
    except ValueError as error:
        raise FileNotFoundError(f"precisions={text} is neither a file nor a shorthand such as W4A8.") from error
    check_widths("precisions", [precision])
    return precision


def _precisions(config: EvaluateConfig, stated: Precision | BitConfig, names: list[str]) -> BitConfig:
    """The precision of every layer."""
    if isinstance(stated, Precision):
        return dict.fromkeys(names, stated) | (pinned(config.space, names) if config.precisions else {})
    check_config(stated, names)
    return stated


def check_widths(key: str, precisions: Iterable[Precision]) -> None:
    """Refuse widths at which nothing can be quantized, naming the key that asks for them."""
    for precision in precisions:
        for kind, bits, choices in (
            ("weight_bits", precision.weight_bits, WEIGHT_BITS),
            ("activation_bits", precision.activation_bits, ACTIVATION_BITS),
        ):
            if bits not in (*choices, FLOAT_BITS):
                raise ValueError(
                    f"{key} holds {precision}, but {kind} must be one of {list(choices)}, or {FLOAT_BITS} for floats."
                )


def pinned(space: SpaceConfig, names: list[str]) -> dict[str, Precision]:
    """Precisions of the layers that the space fixes."""
    return {
        name: precision
        for pattern, precision in space.pins().items()
        for name in match_layers(pattern, names, "space.pinned")
    }
