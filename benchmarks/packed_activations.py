"""What activations packed to 1 or 2 bits between layers could save: the time that bit-serial kernels take to pack them.

    python benchmarks/packed_activations.py [--quick] [--out FILE.json]

Activations lie in memory as bytes. A bit-serial kernel packs those of its input into planes before it multiplies; were
they packed already, this time is the most that would be saved, whatever it took to write them so. Kernels of byte
products have nothing to save but traffic: `kernels.py` prints how near they are to the peak of the instruction.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import ours
import typer
from layers import distinct, layers_of, with_kernel
from ours import BIT_SERIAL, Kind
from report import microseconds, print_machine, print_ratios, print_table, write_ratios
from timing import QUICK, Engine, Procedure, geomean, time_together

from cost_models import LayerSpec
from cost_models.tvm.kernels.ir import Kernel
from cost_models.tvm.kernels.planes import Planes
from cost_models.tvm.shapes import convolution
from hwsearch.progress import track


def main(
    quick: Annotated[bool, typer.Option(help="One layer, fewer rounds.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the ratios as JSON.")] = None,
) -> None:
    """Print the time of every kernel and of its packing, and the shares."""
    print_machine()
    layers = with_kernel(distinct(layers_of("ResNet-18")), 3)
    procedure, tuner = (QUICK, ours.QUICK_TUNER) if quick else (Procedure(), ours.TUNER)
    times = {
        (layer, kind): time_together(
            {"kernel": ours.tuned(tuner, layer, kind).engine, "packing": packing(layer, kind)}, procedure
        )
        for layer in track(layers[:1] if quick else layers, "packing")
        for kind in BIT_SERIAL
    }
    shares = {key: t["packing"] / t["kernel"] for key, t in times.items()}
    print_table(
        "Bit-serial kernels, us",
        ["layer", "precision", "kernel", "packing", "share"],
        (
            [layer.name, str(kind.precision), *map(microseconds, t.values()), f"{np.median(shares[layer, kind]):.1%}"]
            for (layer, kind), t in times.items()
        ),
    )
    ratios = {
        "geomean_share_of_packing": geomean(shares.values()),
        "largest_share_of_packing": max(shares.values(), key=np.median),
    }
    print_ratios(ratios)
    if out:
        write_ratios(ratios, out)


def packing(layer: LayerSpec, kind: Kind) -> Engine:
    """The packing alone."""
    image = convolution(layer, 1, "float32")[0].image
    planes = Planes(image, kind.precision.activation_bits, ours.TUNER.isa)
    pointers = [("input", "uint8", image.size_bytes), ("scratch", "int32", planes.size + planes.pixels)]
    with (kernel := Kernel("packing", pointers)) as (source, target):
        planes.pack(source, target)
    return ours.call(kernel.function, [np.ones(size, dtype) for _, dtype, size in pointers])


if __name__ == "__main__":
    typer.run(main)
