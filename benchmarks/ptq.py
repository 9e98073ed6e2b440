"""Accuracy after post-training quantization: every quantizer at every width, on real networks and images.

    python benchmarks/ptq.py [--quick] [--out FILE.json] [--networks resnet20] [--methods fast,best] [--bits 4,3,2]

Needs the weights and images of ``../shared/data`` (``--data``). Methods are the files of ``conf/quantizer``. A figure
such as ``resnet20_w4a32_fast_drop`` is float top-1 minus top-1 in points, on the same images. Quantized activations are
judged by the compiled integer network where it takes the network, as in a search. Layers that are quantized lie in
``--cache``, so that a benchmark that was stopped goes on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from report import CONSOLE, print_table

from cost_models import FLOAT, FLOAT_BITS, Precision
from hwsearch.cli.hydra_app import conf_dir
from hwsearch.cli.schema import EvaluateConfig
from hwsearch.cli.setup import Task, activation_ranges, cache_dir, layer_database, load_task
from hwsearch.evaluate import Engine, FakeQuantNetwork, accuracy
from hwsearch.judging import choose_engine

NETWORKS = {
    "resnet20": ("cifar_resnet20", "cifar10", "cifar10/resnet20.pth"),
    "resnet32": ("cifar_resnet32", "cifar10", "cifar10/resnet32.pth"),
    "resnet8": ("mlperf_tiny_resnet8", "cifar10", "cifar10/resnet8_mlperf_tiny.pth"),
    "mobilenet_v1": ("mobilenet_v1_075", "imagenet_nips17", "imagenet/mobilenet_v1_075_224.pth"),
    "dscnn": ("mlperf_tiny_dscnn", "kws", "kws/dscnn_mlperf_tiny.pth"),
    "vww": ("mlperf_tiny_vww", "vww", "vww/vww96_mlperf_tiny.pth"),
}
"""Model, data and checkpoint."""

METHODS = (
    "minmax",
    "requant_per_tensor",
    "squant_per_tensor",
    "requant_transformed",
    "requant_global",
    "bias_correction",
    "squant",
    "fast",
    "gptq",
    "adaround",
    "balanced",
    "best",
)
"""Files of ``conf/quantizer``."""


@dataclass(frozen=True)
class Row:
    """Accuracy of one network with one quantizer, by precision."""

    network: str
    method: str
    top1: dict[str, float]


def config_of(network: str, data: Path, quantizer: str, cache: Path | None) -> EvaluateConfig:
    """The configuration that ``hwsearch evaluate`` would compose."""
    model, dataset, checkpoint = NETWORKS[network]
    overrides = [
        f"model={model}",
        f"data={dataset}",
        f"quantizer={quantizer}",
        f"model.checkpoint={data / checkpoint}",
        f"data.root={(data / checkpoint).parent}",
        f"cache_dir={cache or 'null'}",
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("evaluate", overrides)
    return EvaluateConfig.model_validate(OmegaConf.to_container(composed, resolve=True))


def measure(config: EvaluateConfig, network: str, precisions: Sequence[Precision], images: int) -> Row:
    """Quantize and judge."""
    task = load_task(config)
    database = layer_database(config, task, precisions)
    integers = [precision for precision in precisions if precision.activation_bits < FLOAT_BITS]
    ranges = activation_ranges(config, task) if integers else {}
    top1 = {}
    for same in filter(None, (integers, [precision for precision in precisions if precision not in integers])):
        engine = choose_engine(
            "auto",
            task.network,
            database,
            ranges,
            same,
            images=min(images, len(task.data.labels)),
            batch_size=task.batch_size,
            cache_dir=cache_dir(config) / "kernels",
        )
        top1 |= {str(precision).lower(): judged(engine, task, precision, images) for precision in same}
    return Row(network, config.quantizer.name, top1)


def judged(judge: Engine, task: Task, precision: Precision, images: int) -> float:
    """Top-1 of one precision in every layer, on the first images."""
    judge.configure(dict.fromkeys((layer.name for layer in task.network.layers), precision))
    return accuracy(judge, task.batches(slice(images)), f"judging {precision}").top1


def main(
    quick: Annotated[bool, typer.Option(help="ResNet-8, few methods and images.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    networks: Annotated[str, typer.Option(help=f"Some of {','.join(NETWORKS)}.")] = ",".join(NETWORKS),
    methods: Annotated[str, typer.Option(help="Files of conf/quantizer.")] = ",".join(METHODS),
    bits: Annotated[str, typer.Option(help="Weight widths.")] = "8,6,5,4,3,2",
    activations: Annotated[str, typer.Option(help="Activation widths; 32 for floats.")] = "32,8",
    images: Annotated[int, typer.Option(help="At most this many labelled images.")] = 10_000,
    data: Annotated[Path, typer.Option(help="Weights and images.")] = Path("../shared/data"),
    cache: Annotated[Path | None, typer.Option(help="Folder of quantized layers; default: the user's.")] = None,
) -> None:
    """Print and write top-1 and what is lost."""
    if quick:
        networks, methods, bits, activations, images = "resnet8", "requant_per_tensor,fast", "8,4,3", "8", 1000
    precisions = [Precision(int(w), int(a)) for a in activations.split(",") for w in bits.split(",")]
    figures: dict[str, float] = {}
    for network in networks.split(","):
        task = load_task(config_of(network, data, methods.split(",")[0], cache))
        real = judged(FakeQuantNetwork(task.network, {}, {}), task, FLOAT, images)
        figures[f"{network}_float_top1"] = round(real, 3)
        rows = []
        for method in methods.split(","):
            row = measure(config_of(network, data, method, cache), network, precisions, images)
            rows.append(row)
            figures |= {f"{network}_{p}_{method}_drop": round(real - found, 3) for p, found in row.top1.items()}
            CONSOLE.print(f"{network} {method}: {row.top1}", highlight=False)
            if out:
                out.write_text(json.dumps(figures, indent=2) + "\n")
        shown = ([row.method, *(f"{row.top1[str(p).lower()]:.2f}" for p in precisions)] for row in rows)
        print_table(f"{network}: top-1, float {real:.2f}", ["quantizer", *map(str, precisions)], shown)


if __name__ == "__main__":
    typer.run(main)
