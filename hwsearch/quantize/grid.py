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


def uniform_levels(bits: int) -> Tensor:
    """The symmetric narrow grid, int8 ``[2 qmax + 1]`` in increasing order."""
    qmax = weight_qmax(bits)
    return torch.arange(-qmax, qmax + 1, dtype=torch.int8)


def nearest_level(values: Tensor, levels: Tensor) -> Tensor:
    """The level next to each value; ties to even on consecutive integers, to the smaller level of a codebook.

    Args:
        values: In steps, of any shape.
        levels: ``[L]``, increasing.

    Returns:
        float32, of the shape of ``values``.
    """
    levels = levels.to(values.device, torch.float32)
    if float(levels[-1] - levels[0]) == len(levels) - 1:
        return values.round().clamp(float(levels[0]), float(levels[-1]))
    return levels[torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)]


@dataclass(frozen=True)
class QuantizedWeight:
    """Integer weights of one layer.

    Attributes:
        codes: What integer kernels multiply by, int8, in the layer's weight shape ``[O, ...]``.
        scale: float32: ``[O]`` per channel, ``[1]`` per tensor, or ``[O, G]`` per group of a channel's weights in the
            order of their memory.
        levels: Of a codebook: the integers that codes may be, int8 ``[L]`` with ``L <= 2**bits``, increasing. None: a
            uniform grid.
        bias_correction: Added to the layer's bias, float32 ``[O]``; None: nothing. Layers without a bias ignore it.
    """

    codes: Tensor
    scale: Tensor
    levels: Tensor | None = None
    bias_correction: Tensor | None = None

    def dequantize(self) -> Tensor:
        """Eq. (1) of Jacob et al. 2018 with a zero point of 0: ``r = S q``, float32."""
        return from_steps(self.codes.float(), self.scale)

    def correct_bias(self, bias: Tensor) -> Tensor:
        """The bias ``[O]`` that goes with these weights."""
        return bias if self.bias_correction is None else bias + self.bias_correction


def from_steps(values: Tensor, scale: Tensor) -> Tensor:
    """Multiply weights ``[O, ...]`` by their scales ``[O]``, ``[1]`` or ``[O, G]``."""
    groups, scale = _grouped(values, scale)
    return (groups * scale).view(values.shape)


def in_steps(weight: Tensor, scale: Tensor) -> Tensor:
    """Divide weights ``[O, ...]`` by their scales ``[O]``, ``[1]`` or ``[O, G]``."""
    groups, scale = _grouped(weight, scale)
    return (groups / scale).view(weight.shape)


def _grouped(values: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``[O, G, N / G]`` and scales ``[O, G, 1]`` or ``[1, G, 1]``, with G = 1 but for scales per group."""
    scale = scale.view(len(scale), -1, 1)
    return values.reshape(len(values), scale.shape[1], -1), scale


def weight_scale(clip: Tensor, qmax: int) -> Tensor:
    """Step whose ``qmax``-fold is ``clip``, float32; 1 where ``clip`` is 0 and so are all weights."""
    return torch.where(clip > 0, clip / qmax, torch.ones_like(clip)).float()


def quantize_weight(weight: Tensor, clip: Tensor, bits: int) -> QuantizedWeight:
    """Round to nearest (ties to even) on the symmetric narrow grid and saturate.

    Args:
        weight: float32 ``[O, ...]``.
        clip: Largest representable magnitude, ``[O]`` or ``[1]``, or ``[O, G]`` per group; 0 where all weights are 0.
        bits: 2 to 8.
    """
    scale = weight_scale(clip, weight_qmax(bits))
    codes = nearest_level(in_steps(weight, scale), uniform_levels(bits))
    return QuantizedWeight(codes.to(torch.int8), scale)


def quantize_bias(bias: Tensor, weight: QuantizedWeight, activation_scale: float) -> Tensor:
    """Round to the step of the layer's accumulator, ``S_activation S_weight``, in which integer arithmetic adds it.

    Channels whose codes are all 0 keep theirs: no product gives them a step. So do layers with a scale per group, whose
    products have no common step.

    Args:
        bias: float32 ``[O]``.
        weight: The layer's codes and scales.
        activation_scale: Of the layer's input.

    Reference: Jacob et al. 2018, arXiv:1712.05877, section 2.4.
    """
    if weight.scale.dim() > 1:
        return bias
    step = weight.scale.double() * activation_scale
    rounded = (torch.round(bias / step) * step).float()
    return torch.where(weight.codes.flatten(1).any(1), rounded, bias)


@dataclass(frozen=True)
class ActivationGrid:
    """Per-tensor affine grid ``r = scale (q - zero_point)``, ``0 <= q <= qmax``; unsigned where ``zero_point`` is 0."""

    scale: float
    zero_point: int
    qmax: int

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize and dequantize ``x`` of any shape: ``q = clamp(round(x / S) + Z)``, ties to even.

        Four vectorized passes: ``torch.fake_quantize_per_tensor_affine`` takes over ten times as long on a CPU
        (``benchmarks/fake_quantization.py``).
        """
        return x.div(self.scale).round_().clamp_(-self.zero_point, self.qmax - self.zero_point).mul_(self.scale)


def activation_grid(bounds: Range, bits: int) -> ActivationGrid:
    """Grid of ``2**bits`` levels over ``bounds`` (``[1]`` each) with zero exactly representable."""
    lo, hi, qmax = float(bounds.lo), float(bounds.hi), 2**bits - 1
    scale = (hi - lo) / qmax if hi > lo else 1.0
    return ActivationGrid(scale, min(max(round(-lo / scale), 0), qmax), qmax)
