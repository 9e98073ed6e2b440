"""Sensitivity as curvature times the square of what quantization changes."""

from typing import Protocol

import pandas as pd
from torch import Tensor
from torch.fx import Node

from cost_models import Precision
from hwsearch.data import Batches
from hwsearch.graph import Network
from hwsearch.quantize import look_up
from hwsearch.quantize.moments import observe
from hwsearch.sensitivity.curvature import Traces
from hwsearch.sensitivity.quantized import Choices, Quantized, operands
from hwsearch.sensitivity_table import COLUMNS


class Curvature(Protocol):
    """Estimates curvature on calibration images."""

    def __call__(self, network: Network, images: Batches) -> Traces: ...


def perturbation(
    quantized: Quantized, choices: Choices, *, curvature: Curvature | None = None, images: int
) -> pd.DataFrame:
    """Half the curvature times the squared quantization error, summed over a layer's weights or its input.

    Args:
        quantized: The network.
        choices: Precisions that each layer may have.
        curvature: Mean curvature per element; None: the mean squared error itself, of each tensor.
        images: Calibration images.

    Returns:
        Sensitivities.

    Reference: Dong et al. 2020, "HAWQ-V2", arXiv:1911.03852: the average trace of the Hessian times the squared
    perturbation; Zandonati et al. 2023, "FIT", arXiv:2210.08502, with the Fisher information, and of activations too.
    """
    batches = quantized.images(images)
    traces = curvature(quantized.network, batches) if curvature else None
    noise = _activation_noise(quantized, choices, batches)
    rows = []
    for layer, precisions in choices.items():
        weight = quantized.network.weight(layer)
        for operand, bits, weight_format in operands(precisions):
            if operand == "weights":
                precision = Precision(bits, precisions[0].activation_bits, weight_format)  # type: ignore[arg-type]  # any text
                error = (weight - look_up(quantized.database, layer, precision).dequantize()).square()
                mean, count = float(error.mean()), weight.numel()
            else:
                mean, count = noise[layer, bits]
            factor = getattr(traces, operand)[layer] * count / 2 if traces else 1.0
            rows.append((layer, operand, bits, weight_format, factor * mean))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _activation_noise(
    quantized: Quantized, choices: Choices, images: Batches
) -> dict[tuple[str, int], tuple[float, int]]:
    """Mean squared error of every layer's input at every width, and its number of values per image."""
    network = quantized.network
    layers = {node: layer for layer, node in network.nodes.items()}
    tensors = {read.layer: read.tensor for read in network.reads if read.layer}
    widths = {layer: sorted({p.activation_bits for p in precisions}) for layer, precisions in choices.items()}
    sums: dict[tuple[str, int], float] = {}
    counts: dict[str, int] = {}

    def see(node: Node, x: Tensor) -> None:
        layer = layers[node.name]
        counts[layer] = x[0].numel()
        for bits in widths[layer]:
            error = x - quantized.ranges[tensors[layer], bits].quantize(x)
            sums[layer, bits] = sums.get((layer, bits), 0.0) + float(error.double().square().sum())

    for batch in images.parts():
        observe(network.graph, [batch.inputs], set(layers), see)
    values = len(images.inputs)
    return {(layer, bits): (total / counts[layer] / values, counts[layer]) for (layer, bits), total in sums.items()}
