"""What quantization does to each layer: bytes and signal-to-noise ratios."""

from math import inf, log10

import pandas as pd
from torch import Tensor

from cost_models import FLOAT, FLOAT_BITS, BitConfig, LayerSpec, Precision, size_bytes
from cost_models.cost import PARAMETER_BYTES
from hwsearch.evaluate.fake_quantization import FakeQuantNetwork
from hwsearch.quantize import look_up
from hwsearch.quantize.storage import huffman_bytes


def layer_table(judge: FakeQuantNetwork, config: BitConfig, images: Tensor) -> pd.DataFrame:
    """One row per layer.

    Args:
        judge: The network; it is left at ``config``.
        config: Precision of every layer.
        images: Inputs ``[N, ...]`` on which outputs are compared.

    Returns:
        Columns layer, weight_bits, activation_bits, weight_format, size_bytes (packed weights, biases, scales and
        the levels of codebooks), huffman_bytes (the same with Huffman coding of the codes), weight_sqnr_db and
        output_sqnr_db: power of the float layer's weights or outputs over that of their error, in decibels, infinite
        where there is none. Outputs are those of the whole network at ``config``, so errors of earlier layers count.
    """
    judge.configure(dict.fromkeys(config, FLOAT))
    real = judge.layer_outputs(images)
    judge.configure(config)
    quantized = judge.layer_outputs(images)
    return pd.DataFrame(
        {
            "layer": layer.name,
            "weight_bits": precision.weight_bits,
            "activation_bits": precision.activation_bits,
            "weight_format": precision.weight_format,
            "size_bytes": _packed_bytes(judge, layer, precision),
            "huffman_bytes": _coded_bytes(judge, layer, precision),
            "weight_sqnr_db": _weight_sqnr_db(judge, layer, precision),
            "output_sqnr_db": sqnr_db(real[layer.name], quantized[layer.name]),
        }
        for layer in judge.network.layers
        for precision in [config[layer.name]]
    )


def sqnr_db(real: Tensor, quantized: Tensor) -> float:
    """Power of ``real`` over that of its error, in decibels; infinite without an error."""
    noise = float((quantized.double() - real.double()).square().sum())
    signal = float(real.double().square().sum())
    return 10 * log10(signal / noise) if noise and signal else (inf if not noise else -inf)


def _weight_sqnr_db(judge: FakeQuantNetwork, layer: LayerSpec, precision: Precision) -> float:
    if precision.weight_bits == FLOAT_BITS:
        return inf
    return sqnr_db(judge.network.weight(layer.name), look_up(judge.database, layer.name, precision).dequantize())


def _packed_bytes(judge: FakeQuantNetwork, layer: LayerSpec, precision: Precision) -> int:
    """As :func:`cost_models.size_bytes`, with as many scales as there are and a byte per level of a codebook."""
    modelled = size_bytes(layer, precision)
    if precision.weight_bits == FLOAT_BITS:
        return modelled
    entry = look_up(judge.database, layer.name, precision)
    levels = 0 if entry.levels is None else len(entry.levels)
    return modelled + PARAMETER_BYTES * (entry.scale.numel() - layer.out_channels) + levels


def _coded_bytes(judge: FakeQuantNetwork, layer: LayerSpec, precision: Precision) -> int:
    packed = _packed_bytes(judge, layer, precision)
    if precision.weight_bits == FLOAT_BITS:
        return packed
    codes = -(-layer.weight_count * precision.weight_bits // 8)
    return packed - codes + huffman_bytes(look_up(judge.database, layer.name, precision))
