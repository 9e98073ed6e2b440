"""What a configuration makes of a network's tensors and weights: the integers that fake quantization only imitates."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cost_models import FLOAT_BITS, BitConfig, WeightFormat
from cost_models.tvm.integer import INT32, Bounds, to_int32
from hwsearch.evaluate.fake_quantization import OTHER_BITS
from hwsearch.quantize import ActivationRanges, LayerDatabase, look_up

BIAS_BITS = 30
"""Biases stay below 2**30, which leaves as much for the products."""


@dataclass(frozen=True)
class Format:
    """Integers in which a reader wants a tensor: ``r = scale (q - zero_point)``.

    Attributes:
        scale: Real value of one step.
        zero_point: The integer that means 0.
        qmin: Smallest integer, after clamps between producer and reader.
        qmax: Largest integer.
        reader: Who reads it, where readers are not to share a tensor.
    """

    scale: float
    zero_point: int
    qmin: int
    qmax: int
    reader: str | None = None

    @property
    def bounds(self) -> Bounds:
        """Without the scale."""
        return Bounds(self.zero_point, self.qmin, self.qmax)

    def clamped(self, lo: float, hi: float) -> "Format":
        """With a clamp of the real values: rounding keeps order, so rounding the bounds is the same."""
        low, high = (int(code) for code in self.quantize(np.array([lo, hi])))
        return replace(self, qmin=low, qmax=high)

    def quantize(self, values: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Integers of real values, in float32 as in fake quantization; ties to even."""
        codes = np.rint(values.astype(np.float32) / np.float32(self.scale))
        return self.bounds.saturate(np.nan_to_num(codes))

    def dequantize(self, codes: NDArray[np.integer]) -> NDArray[np.float32]:
        """Real values of integers, in float32 as in fake quantization."""
        return (codes.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


@dataclass(frozen=True, eq=False)
class Parameters:
    """Integer weights of one layer.

    Attributes:
        weight: int8 codes ``[O, ...]``, or levels of a codebook.
        weight_bits: Bits that hold one of them, or its index into the codebook.
        weight_format: Which of the two.
        bias: int32 ``[O]``, with the input's zero point folded in.
        scale: Real value of one step of the accumulator, float64 ``[O]``.
        limit: No accumulator is larger in magnitude, ``[O]``.
    """

    weight: NDArray[np.int8]
    weight_bits: int
    weight_format: WeightFormat
    bias: NDArray[np.int32]
    scale: NDArray[np.float64]
    limit: NDArray[np.int64]


@dataclass(frozen=True)
class Quantization:
    """Lookup of formats and codes, with errors that name the layer.

    Attributes:
        config: Precision of every layer.
        database: Codes of every (layer, weight_bits, weight_format) that ``config`` asks for.
        ranges: Grids of every (tensor, activation_bits) that ``config`` asks for, and of 8 bits.
        dedupe: Whether readers that want the same format of a tensor share it.
    """

    config: BitConfig
    database: LayerDatabase
    ranges: ActivationRanges
    dedupe: bool

    def format(self, tensor: str, layer: str | None) -> Format:
        """Format in which a layer, or arithmetic (None), reads a tensor.

        Raises:
            ValueError: If it is float, or there are no ranges for it.
        """
        bits = self.config[layer].activation_bits if layer else OTHER_BITS
        if bits == FLOAT_BITS:
            raise ValueError(
                f"Layer '{layer}' reads floats (activation_bits=32); an integer network takes 1 to 8 bits."
            )
        if (tensor, bits) not in self.ranges:
            known = sorted({width for name, width in self.ranges if name == tensor})
            raise ValueError(
                f"There is no range of tensor '{tensor}' for activation_bits={bits}; calibration made them for {known}."
            )
        grid = self.ranges[tensor, bits]
        reader = None if self.dedupe else f"{tensor} read by {layer}"
        return Format(float(grid.scale), grid.zero_point, 0, grid.qmax, reader)

    def weight(self, layer: str) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """Codes ``[O, ...]`` and scales ``[O]`` of a layer.

        Raises:
            ValueError: If it is float, scaled per group, or not in the database.
        """
        precision = self.config[layer]
        if precision.weight_bits == FLOAT_BITS:
            raise ValueError(
                f"Layer '{layer}' has float weights (weight_bits=32); an integer network takes 2 to 8 bits."
            )
        entry = look_up(self.database, layer, precision)
        if entry.scale.dim() > 1:
            raise ValueError(
                f"Layer '{layer}' has a scale per group of weights; an integer network takes one per channel or tensor."
            )
        codes = entry.codes.numpy()
        return codes, np.broadcast_to(entry.scale.numpy().astype(np.float64), len(codes))

    def storage(self, layer: str) -> tuple[int, WeightFormat]:
        """Bits that a layer's weights take, and whether these are codes or indices into a codebook."""
        precision = self.config[layer]
        levels = look_up(self.database, layer, precision).levels
        return precision.weight_bits, "uniform" if levels is None else "codebook"

    def bias(self, layer: str, bias: NDArray[np.float32]) -> NDArray[np.float32]:
        """The bias ``[O]`` that goes with a layer's codes."""
        entry = look_up(self.database, layer, self.config[layer])
        return entry.correct_bias(torch.from_numpy(bias)).numpy()


def integer_parameters(
    layer: str,
    codes: NDArray[np.int8],
    weight_scale: NDArray[np.float64],
    bias: NDArray[np.floating] | None,
    source: Format,
    weight_bits: int = 8,
    weight_format: WeightFormat = "uniform",
) -> Parameters:
    """Integer bias and accumulator scale of a layer.

    Kernels unpack narrow uniform weights into the top bits of a byte, so that their accumulators are
    ``2**(8 - weight_bits)`` times larger; all bounds leave room for that.

    A channel whose bias is a huge number of steps of its accumulator gets a coarser step, and its codes are rounded to
    that: next to such a bias they hardly count. A batch norm whose gamma is near 0 leaves such channels when it is
    folded. If that makes more levels than a codebook has, its layer is stored in bytes.

    Args:
        layer: Name, for the error.
        codes: int8 ``[O, ...]``.
        weight_scale: ``[O]``.
        bias: Real values ``[O]``.
        source: Format of the input.
        weight_bits: Of the grid that the codes are from, or of an index into their codebook.
        weight_format: Whether they are from a codebook.

    Raises:
        ValueError: If a sum of products could leave int32.
    """
    shape = (-1, *[1] * (codes.ndim - 1))
    inner = tuple(range(1, codes.ndim))
    real = np.zeros(len(codes)) if bias is None else bias.astype(np.float64)
    step = np.where(codes.any(inner), source.scale * weight_scale, 0.0)
    spare = 8 - weight_bits if weight_format == "uniform" else 0
    scale = np.maximum(step, np.abs(real) / 2.0 ** (BIAS_BITS - spare))
    divisor = np.where(scale > 0, scale, 1.0)
    weight = np.rint(codes * (step / divisor).reshape(shape)).astype(np.int8)
    folded = np.rint(real / divisor) - source.zero_point * weight.sum(inner, dtype=np.int64)
    largest = max(source.qmax, source.zero_point)  # padding holds the zero point
    limit = np.abs(folded) + largest * np.abs(weight.astype(np.int64)).sum(inner)
    if (limit * 2.0**spare > INT32.max).any():
        raise ValueError(
            f"Accumulators of layer '{layer}' could reach {limit.max() * 2.0**spare:.0f}, over int32's {INT32.max}: it "
            f"adds up {codes[0].size} products with integers up to {largest}. Choose fewer activation_bits for it."
        )
    if weight_format == "codebook" and len(np.unique(weight)) > 2**weight_bits:
        weight_bits, weight_format = 8, "uniform"
    return Parameters(weight, weight_bits, weight_format, to_int32(folded), scale, limit.astype(np.int64))
