"""Time of one forward pass: float, fake-quantized by hwsearch, and fake-quantized by torch's own operator.

    python benchmarks/fake_quantization.py [--quick] [--out FILE.json]

All three run the captured CIFAR ResNet-20 (random weights) on the same images in interleaved rounds; ratios are medians
over rounds. The peer replaces each activation quantizer by ``torch.fake_quantize_per_tensor_affine``.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

import hwsearch
from hwsearch.evaluate.fake_quantization import ActivationQuantizer
from hwsearch.networks import CifarResNet


class TorchQuantizer(ActivationQuantizer):
    """The same grid through torch's operator."""

    def forward(self, x: Tensor) -> Tensor:
        if self.grid is None:
            return x
        return torch.fake_quantize_per_tensor_affine(x, self.grid.scale, self.grid.zero_point, 0, self.grid.qmax)


def judges(images: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """The three ways to run the network at 8 bits."""
    torch.manual_seed(0)
    network = hwsearch.capture(CifarResNet(20).eval(), images[:2])
    ranges = hwsearch.calibrate(network, [images], hwsearch.minmax, bits=[8])
    database = hwsearch.build_database(network, hwsearch.minmax, bits=[8])
    found = {name: hwsearch.FakeQuantNetwork(network, database, ranges) for name in ("float", "hwsearch", "torch")}
    for name in ("hwsearch", "torch"):
        found[name].configure({layer.name: hwsearch.Precision(8, 8) for layer in network.layers})
    for module in found["torch"]._graph.modules():
        if isinstance(module, ActivationQuantizer):
            module.__class__ = TorchQuantizer
    return found


def main(
    quick: Annotated[bool, typer.Option(help="Fewer rounds.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the ratios as JSON.")] = None,
) -> None:
    """Print milliseconds per pass and the ratios to float."""
    images = torch.randn(128, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    runs = judges(images)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(3 if quick else 15):
        for name, run in runs.items():
            start = time.perf_counter()
            run(images)
            times[name].append(time.perf_counter() - start)
    for name, values in times.items():
        low, high = min(values) * 1e3, max(values) * 1e3
        typer.echo(f"{name:10s} {statistics.median(values) * 1e3:7.1f} ms per 128 images ({low:.1f} to {high:.1f})")
    ratios = {
        f"{name}_vs_{peer}": statistics.median(a / b for a, b in zip(times[name], times[peer], strict=True))
        for name, peer in (("hwsearch", "float"), ("torch", "float"), ("torch", "hwsearch"))
    }
    for name, ratio in ratios.items():
        typer.echo(f"{name:20s} {ratio:5.2f}")
    if out:
        out.write_text(json.dumps(ratios, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
