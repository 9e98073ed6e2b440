"""Single layers: hwsearch's integer kernels against onnxruntime int8, torch float, and each other below 8 bits.

    python benchmarks/kernels.py [--quick] [--out FILE.json]

Needs the extra ``bench``. Each layer runs on its own at batch 1, warm, called from Python; engines take turns in one
process. A ratio above 1 means that hwsearch, or the narrower precision, is faster.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import ours
import peers
import torch
import typer
from layers import DENSE, NETWORKS, distinct, identifier, layers_of, with_kernel
from ours import BIT_SERIAL, NARROW, W2A8, W4A8, W8A8, W8A8_DIRECT, Kind
from report import microseconds, print_machine, print_ratios, print_table, write_ratios
from timing import QUICK, Engine, Procedure, Rounds, geomean, time_together, with_range

from cost_models import LayerSpec, Precision
from cost_models.tvm.tuner import Tuner
from hwsearch.progress import track

CODEBOOK = Precision(4, 8, "codebook")
W4A8_STORED, CODEBOOK_STORED = (Kind(precision, stored_wider=False) for precision in (W4A8, CODEBOOK))

PEAK_CHANNELS = 64
"""The share of the VNNI peak is judged on direct 3x3 convolutions of so many channels and more."""

OURS, DIRECT, THEIRS, OTHER_FORM, FLOAT = "hwsearch", "direct", "onnxruntime", "other form", "torch float"
OUR_CALL, THEIR_CALL, PEAK = "empty call", "onnxruntime's empty call", "VNNI peak"

Times = dict[str, Rounds]
"""Seconds by engine."""


@dataclass(frozen=True)
class Effort:
    """How much is run.

    Attributes:
        procedure: Of timing.
        tuner: Finds our kernels.
        every: Only every so-manieth layer is run.
    """

    procedure: Procedure
    tuner: Tuner
    every: int

    def time(
        self, layers: Sequence[LayerSpec], engines: Callable[[LayerSpec], Mapping[str, Engine]], description: str
    ) -> dict[LayerSpec, Times]:
        """Time the engines of each layer beside each other."""
        some = layers[:: self.every]
        return {layer: time_together(engines(layer), self.procedure) for layer in track(some, description)}


def main(
    quick: Annotated[bool, typer.Option(help="Few layers, less search, fewer rounds.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the ratios as JSON.")] = None,
) -> None:
    """Print the time of every layer, and the ratios."""
    print_machine()
    effort = Effort(QUICK, ours.QUICK_TUNER, 16) if quick else Effort(Procedure(), ours.TUNER, 1)
    networks = {name: distinct(layers_of(name)) for name in NETWORKS} | {"dense": distinct(DENSE.values())}
    residual = distinct(layer for name in NETWORKS if name.startswith("ResNet") for layer in networks[name])
    # a codebook has no zero to fill up groups of four channels with
    coded = [layer for layer in residual if layer.op == "conv2d" and layer.in_channels % 4 == 0]
    with torch.inference_mode():
        ratios = against_peers(networks, effort)
        dense = compare(
            "Packed weights", networks["dense"][:1], [Kind(p) for p in (W8A8, W4A8, W2A8, CODEBOOK)], effort
        )
        serial = compare("Bit-serial", with_kernel(networks["ResNet-18"], 3), [W8A8_DIRECT, *BIT_SERIAL], effort)
        narrow = compare(
            "Narrow, any method", with_kernel(networks["ResNet-18"], 3), list(map(Kind, (W8A8, *NARROW))), effort
        )
        # the fastest kernel may store both in bytes
        codebook = compare("Codebook", coded, [W4A8_STORED, CODEBOOK_STORED], effort)
    ratios |= {
        "dense_w4a8_vs_w8a8": dense[Kind(W8A8)] / dense[Kind(W4A8)],
        "dense_w2a8_vs_w8a8": dense[Kind(W8A8)] / dense[Kind(W2A8)],
        "dense_codebook4_vs_uniform4": dense[Kind(W4A8)] / dense[Kind(CODEBOOK)],
        **{f"geomean_{str(kind.precision).lower()}_vs_w8a8": serial[W8A8_DIRECT] / serial[kind] for kind in BIT_SERIAL},
        **{f"geomean_{str(p).lower()}_vs_w8a8_any_method": narrow[Kind(W8A8)] / narrow[Kind(p)] for p in NARROW},
        "geomean_codebook4_vs_uniform4": codebook[W4A8_STORED] / codebook[CODEBOOK_STORED],
    }
    print_ratios(ratios)
    if out:
        write_ratios(ratios, out)


def against_peers(networks: Mapping[str, Sequence[LayerSpec]], effort: Effort) -> dict[str, Rounds]:
    """W8A8 against onnxruntime and torch; the ratios by name."""
    peak, peak_operations = ours.vnni_peak()
    calls = {OUR_CALL: ours.empty_call(), THEIR_CALL: peers.empty_call()}
    methods: dict[LayerSpec, str] = {}

    def engines(layer: LayerSpec) -> dict[str, Engine]:
        usual, other_form = peers.int8_engines(layer)
        own, direct = (ours.tuned(effort.tuner, layer, kind) for kind in (Kind(W8A8), W8A8_DIRECT))
        methods[layer] = own.variant.method
        theirs = {THEIRS: usual, OTHER_FORM: other_form, FLOAT: peers.float_engine(layer)}
        return {OURS: own.engine, DIRECT: direct.engine, **theirs, PEAK: peak, **calls}

    times = effort.time(distinct(layer for some in networks.values() for layer in some), engines, "W8A8")
    shares = {layer: 2 * layer.macs / peak_operations * t[PEAK] / t[DIRECT] for layer, t in times.items()}
    ratios = {
        "vs_onnxruntime_int8": {layer: t[THEIRS] / t[OURS] for layer, t in times.items()},
        "vs_onnxruntime_int8_channels_last": {layer: t[OTHER_FORM] / t[OURS] for layer, t in times.items()},
        "vs_onnxruntime_int8_best_form": {
            layer: np.minimum(t[THEIRS], t[OTHER_FORM]) / t[OURS] for layer, t in times.items()
        },
        "vs_onnxruntime_int8_equal_call_overhead": {
            layer: (np.maximum(t[THEIRS] - t[THEIR_CALL], 0) + t[OUR_CALL]) / t[OURS] for layer, t in times.items()
        },
        "vs_torch_float": {layer: t[FLOAT] / t[OURS] for layer, t in times.items()},
    }
    usual = ratios["vs_onnxruntime_int8"]
    print_table(
        "W8A8, us; onnxruntime's QLinearConv or MatMulInteger; its other form: channels last, or QLinearMatMul",
        ["layer", "method", OURS, "GOPS", "direct", "of peak", THEIRS, OTHER_FORM, FLOAT, "onnxruntime / hwsearch"],
        (
            [
                layer.name,
                methods[layer],
                microseconds(t[OURS]),
                f"{2e-9 * layer.macs / np.median(t[OURS]):.0f}",
                microseconds(t[DIRECT]),
                f"{np.median(shares[layer]):.0%}",
                *(microseconds(t[name]) for name in (THEIRS, OTHER_FORM, FLOAT)),
                with_range(usual[layer]),
            ]
            for layer, t in times.items()
        ),
    )
    wide = [layer for layer in with_kernel(times, 3) if layer.in_channels >= PEAK_CHANNELS]
    of_networks = {name: [layer for layer in some if layer in times] for name, some in networks.items()}
    return {
        **{f"geomean_{name}": geomean(by_layer.values()) for name, by_layer in ratios.items()},
        **{
            f"geomean_vs_onnxruntime_int8_{identifier(name)}": geomean(usual[layer] for layer in some)
            for name, some in of_networks.items()
            if some
        },
        "least_vs_onnxruntime_int8": min(usual.values(), key=np.median),
        **({"least_share_of_vnni_peak": min((shares[layer] for layer in wide), key=np.median)} if wide else {}),
    }


def compare(
    title: str,
    layers: Sequence[LayerSpec],
    kinds: Sequence[Kind],
    effort: Effort,
) -> dict[Kind, Rounds]:
    """Time layers as several kinds of kernel compute them; the geometric mean of the seconds of each."""
    variants: dict[tuple[LayerSpec, Kind], str] = {}

    def engines(layer: LayerSpec) -> dict[str, Engine]:
        kernels = {kind: ours.tuned(effort.tuner, layer, kind) for kind in kinds}
        variants.update({(layer, kind): kernel.description for kind, kernel in kernels.items()})
        return {str(kind): kernel.engine for kind, kernel in kernels.items()}

    times = effort.time(layers, engines, title)
    print_table(
        f"{title}, us",
        ["layer", *(str(kind.precision) for kind in kinds)],
        (
            [layer.name, *(f"{variants[layer, kind]} {microseconds(t[str(kind)])}" for kind in kinds)]
            for layer, t in times.items()
        ),
    )
    return {kind: geomean(t[str(kind)] for t in times.values()) for kind in kinds}


if __name__ == "__main__":
    typer.run(main)
