"""What fake quantization costs: hwsearch's activation quantizer against torch's own operator, and whole networks.

    python benchmarks/fake_quantization.py [--quick] [--out FILE.json]

Interleaved rounds in one run; ratios are medians over rounds. The network is CIFAR ResNet-20 with random weights.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

import hwsearch
from hwsearch.evaluate.fake_quantization import ActivationQuantizer
from hwsearch.networks import CifarResNet
from hwsearch.quantize import ActivationGrid

IMAGES = 64


def cases() -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(IMAGES, 16, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    grid = ActivationGrid(scale=0.02, zero_point=0, qmax=255)
    quantizer = ActivationQuantizer()
    quantizer.grid = grid
    images = torch.randn(IMAGES, 3, 32, 32, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = hwsearch.capture(CifarResNet(20).eval(), images)
    ranges = hwsearch.calibrate(network, [images], hwsearch.minmax, bits=[8])
    database = hwsearch.build_database(network, hwsearch.minmax, bits=[8])
    unquantized = hwsearch.FakeQuantNetwork(network, database, ranges)
    quantized = hwsearch.FakeQuantNetwork(network, database, ranges)
    quantized.configure({layer.name: hwsearch.Precision(8, 8) for layer in network.layers})
    return {
        "hwsearch quantizer": lambda: quantizer(activations),
        "torch quantizer": lambda: torch.fake_quantize_per_tensor_affine(activations, grid.scale, 0, 0, grid.qmax),
        "float network": lambda: unquantized(images),
        "W8A8 network": lambda: quantized(images),
    }


def main(
    quick: Annotated[bool, typer.Option(help="Fewer rounds.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the ratios as JSON.")] = None,
) -> None:
    """Print milliseconds per case and the ratios."""
    timed = cases()
    times: dict[str, list[float]] = {name: [] for name in timed}
    with torch.inference_mode():
        for _ in range(10 if quick else 50):
            for name, run in timed.items():
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    typer.echo(f"{IMAGES} images, {torch.get_num_threads()} threads; median (fastest to slowest)")
    for name, values in times.items():
        low, high = min(values) * 1e3, max(values) * 1e3
        typer.echo(f"{name:20s} {statistics.median(values) * 1e3:8.2f} ms ({low:.2f} to {high:.2f})")
    pairs = {
        "torch_vs_hwsearch_quantizer": ("torch quantizer", "hwsearch quantizer"),
        "w8a8_vs_float_network": ("W8A8 network", "float network"),
    }
    ratios = {
        key: statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))
        for key, (one, other) in pairs.items()
    }
    for name, ratio in ratios.items():
        typer.echo(f"{name:30s} {ratio:6.2f}")
    if out:
        out.write_text(json.dumps(ratios, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
