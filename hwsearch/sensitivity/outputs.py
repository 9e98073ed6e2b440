"""Sensitivity as the change of the network's outputs when one layer's weights or activations are narrowed."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from cost_models import BitConfig, Precision
from hwsearch.progress import track
from hwsearch.sensitivity.quantized import Choices, Quantized, operands
from hwsearch.sensitivity_table import COLUMNS

OutputChange = Callable[[Tensor, Tensor], float]
"""How far logits ``[N, classes]`` are from the float network's, the first argument."""


def output_change(quantized: Quantized, choices: Choices, *, measure: OutputChange, images: int) -> pd.DataFrame:
    """Narrow one layer's weights or activations at a time, all else at its widest, and measure the outputs' change.

    Args:
        quantized: The network.
        choices: Precisions that each layer may have.
        measure: Of the change.
        images: Calibration images that are run for every (layer, operand, bits).

    Returns:
        Sensitivities: the measure's increase over that of the widest configuration.
    """
    batches = list(quantized.images(images).parts())
    with torch.inference_mode():
        expected = torch.cat([quantized.network.graph(batch.inputs) for batch in batches])

    def change(config: BitConfig) -> float:
        quantized.engine.configure(config)
        return measure(expected, torch.cat([quantized.engine.logits(batch).cpu() for batch in batches]))

    widest = {layer: _widest(precisions) for layer, precisions in choices.items()}
    least = change(widest)
    rows = []
    for layer, precisions in track(choices.items(), "measuring sensitivities"):
        for operand, bits, weight_format in operands(precisions):
            narrowed = _narrowed(widest[layer], operand, bits, weight_format)
            loss = change({**widest, layer: narrowed}) - least if narrowed != widest[layer] else 0.0
            rows.append((layer, operand, bits, weight_format, loss))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _widest(precisions: Sequence[Precision]) -> Precision:
    widest = max(precisions, key=lambda p: p.weight_bits)
    return replace(widest, activation_bits=max(p.activation_bits for p in precisions))


def _narrowed(widest: Precision, operand: str, bits: int, weight_format: str) -> Precision:
    if operand == "activations":
        return replace(widest, activation_bits=bits)
    return replace(widest, weight_bits=bits, weight_format=weight_format)  # type: ignore[arg-type]  # any text


def kl_divergence(expected: Tensor, found: Tensor) -> float:
    """Mean Kullback-Leibler divergence of softmaxed logits from the expected ones, in nats."""
    before, after = (torch.log_softmax(logits.double(), dim=1) for logits in (expected, found))
    return float((before.exp() * (before - after)).sum(dim=1).mean())


def prediction_change(expected: Tensor, found: Tensor) -> float:
    """Share of images whose predicted class changes, in percent: what accuracy may lose, without labels."""
    return 100 * float((expected.argmax(dim=1) != found.argmax(dim=1)).double().mean())


def noise_to_signal(expected: Tensor, found: Tensor) -> float:
    """Inverse of the logits' signal-to-quantization-noise ratio (SQNR), as a ratio of powers."""
    return float((expected - found).double().square().sum() / expected.double().square().sum())
