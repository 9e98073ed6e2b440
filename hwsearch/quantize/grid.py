"""Integer grids: symmetric and narrow for weights, unsigned with a zero point for activations."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hwsearch.quantize.range import Range


def weight_qmax(bits: int) -> int:
    """Largest code of the symmetric narrow grid ``[-qmax, qmax]``; at 2 bits the grid is ternary.

    Raises:
        ValueError: If ``bits`` is outside 2..8.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"Weights quantize to 2 to 8 bits, not {bits}.")
    return int(2 ** (bits - 1)) - 1


@dataclass(frozen=True)
class QuantizedWeight:
    """Integer codes of one layer's weights.

    Attributes:
        codes: int8, in the layer's weight shape ``[O, ...]``.
        scale: float32, ``[O]`` per channel or ``[1]`` per tensor.
    """

    codes: Tensor
    scale: Tensor

    def dequantize(self) -> Tensor:
        """Eq. (1) of Jacob et al. 2018 with a zero point of 0: ``r = S q``, float32."""
        return self.codes.float() * self.scale.view(-1, *[1] * (self.codes.dim() - 1))


def quantize_weight(weight: Tensor, clip: Tensor, bits: int) -> QuantizedWeight:
    """Round to nearest (ties to even) on the symmetric narrow grid and saturate.

    Args:
        weight: float32 ``[O, ...]``.
        clip: Largest representable magnitude, ``[O]`` or ``[1]``; 0 where all weights are 0.
        bits: 2 to 8.
    """
    qmax = weight_qmax(bits)
    scale = torch.where(clip > 0, clip / qmax, torch.ones_like(clip)).float()
    codes = torch.round(weight / scale.view(-1, *[1] * (weight.dim() - 1))).clamp(-qmax, qmax)
    return QuantizedWeight(codes.to(torch.int8), scale)


def quantize_bias(bias: Tensor, weight: QuantizedWeight, activation_scale: float) -> Tensor:
    """Round to the step of the layer's accumulator, ``S_activation S_weight``, in which integer arithmetic adds it.

    Channels whose codes are all 0 keep theirs: no product gives them a step.

    Args:
        bias: float32 ``[O]``.
        weight: The layer's codes and scales.
        activation_scale: Of the layer's input.

    Reference: Jacob et al. 2018, arXiv:1712.05877, section 2.4.
    """
    step = weight.scale.double() * activation_scale
    rounded = (torch.round(bias / step) * step).float()
    return torch.where(weight.codes.flatten(1).any(1), rounded, bias)


@dataclass(frozen=True)
class ActivationGrid:
    """Per-tensor affine grid ``r = scale (q - zero_point)``, ``0 <= q <= qmax``; unsigned where ``zero_point`` is 0."""

    scale: float
    zero_point: int
    qmax: int


def activation_grid(bounds: Range, bits: int) -> ActivationGrid:
    """Grid of ``2**bits`` levels over ``bounds`` (``[1]`` each) with zero exactly representable."""
    lo, hi, qmax = float(bounds.lo), float(bounds.hi), 2**bits - 1
    scale = (hi - lo) / qmax if hi > lo else 1.0
    return ActivationGrid(scale, min(max(round(-lo / scale), 0), qmax), qmax)
