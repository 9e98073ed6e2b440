"""Whole networks at batch 1: hwsearch's compiled integer networks against onnxruntime quantized and torch float.

    python benchmarks/networks.py [--quick] [--out FILE.json]

Needs the extra ``bench``. Weights are random; engines take turns in one process, called from Python. A ratio above 1
means that hwsearch is faster.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import peers
import torch
import typer
from layers import identifier, network
from report import microseconds, print_machine, print_ratios, print_table, write_ratios
from timing import QUICK, Engine, Procedure, Rounds, time_together, with_range

from hwsearch.progress import track

NAMES = ("ResNet-20", "ResNet-18", "MobileNetV2")
FORMATS = ("QDQ", "QOperator")
FLOAT = "torch float"


def main(
    quick: Annotated[bool, typer.Option(help="Fewer rounds.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the ratios as JSON.")] = None,
) -> None:
    """Print the time of every network, and the ratios."""
    print_machine()
    procedure = QUICK if quick else Procedure()
    with torch.inference_mode():
        times = {name: time_together(engines(name), procedure) for name in track(NAMES, "W8A8")}
    print_table(
        "Batch 1, us",
        ["network", *(f"onnxruntime {form}" for form in FORMATS), FLOAT, "float / quantized"],
        (
            [
                name,
                *(microseconds(t[engine]) for engine in (*FORMATS, FLOAT)),
                with_range(t[FLOAT] / theirs(t)),
            ]
            for name, t in times.items()
        ),
    )
    ratios = {f"{identifier(name)}_onnxruntime_int8_vs_torch_float": t[FLOAT] / theirs(t) for name, t in times.items()}
    print_ratios(ratios)
    if out:
        write_ratios(ratios, out)


def engines(name: str) -> dict[str, Engine]:
    """Everything that runs a network."""
    module, image = network(name)
    found: dict[str, Engine] = {}
    for quantization in FORMATS:
        with TemporaryDirectory() as folder:
            found[quantization] = peers.quantized_network(module, image, quantization, Path(folder))
    return {**found, FLOAT: peers.float_network(module, image)}


def theirs(times: dict[str, Rounds]) -> Rounds:
    """Onnxruntime's better form."""
    return np.minimum(*(times[quantization] for quantization in FORMATS))


if __name__ == "__main__":
    typer.run(main)
