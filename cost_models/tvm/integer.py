"""Integer arithmetic of a deployed network in numpy: what every kernel must equal bit for bit.

An accumulator is the int32 sum of products plus the bias. Two ways lead from it to the next tensor's integers:

* ``float32``: multiply by a float32 scale, round to nearest (ties to even).
* ``fixed_point``: multiply by an integer below 2**31, shift right, round half up; integer arithmetic only, after
  Jacob et al. 2018 (arXiv:1712.05877, section 2.2), with one rounding instead of their two.

The sum of two tensors is the same integer arithmetic for both.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Scalar = TypeVar("Scalar", bound=np.generic)
Requantization = Literal["float32", "fixed_point"]

INT32 = np.iinfo(np.int32)
MULTIPLIER_BITS = 31
MAX_SHIFT = 62
FLOAT32_WHOLE = 2**24
"""float32 holds every integer up to here."""
INT32_SHIFTS = 30
RATIO_BITS = 20
"""Bits of the two ratios of a residual sum: with 8-bit operands it stays below 2**30 in int32."""


@dataclass(frozen=True)
class Bounds:
    """Integers that a tensor may take.

    Attributes:
        zero_point: The integer that means 0.
        qmin: Smallest integer; the zero point where a ReLU is fused.
        qmax: Largest integer.
    """

    zero_point: int
    qmin: int
    qmax: int

    def saturate(self, value: NDArray[np.integer | np.floating]) -> NDArray[np.uint8]:
        """Add the zero point to integers ``value`` and clamp to [qmin, qmax]."""
        clipped = np.clip(value, self.qmin - self.zero_point, self.qmax - self.zero_point)
        return np.asarray(clipped + self.zero_point).astype(np.uint8)


@dataclass(frozen=True)
class FixedPoint:
    """``multiplier * 2**-shift`` per channel, for a multiplication without floats.

    Attributes:
        multiplier: int32, in [2**30, 2**31), or 0.
        shift: int32, in [1, 62].
    """

    multiplier: Int32
    shift: Int32


def fixed_point(scale: NDArray[np.float64]) -> FixedPoint:
    """Nearest fixed-point form of positive scales.

    Raises:
        ValueError: If a scale is negative, not finite, or too large for a shift of at least 1.
    """
    if not (np.isfinite(scale).all() and (scale >= 0).all()):
        raise ValueError(f"Scales must be finite and not negative; got {scale[~(np.isfinite(scale) & (scale >= 0))]}.")
    fraction, exponent = np.frexp(np.asarray(scale, np.float64))  # scale = fraction * 2**exponent, 0.5 <= fraction < 1
    multiplier = np.rint(fraction * 2.0**MULTIPLIER_BITS).astype(np.int64)
    carry = multiplier == 2**MULTIPLIER_BITS
    multiplier, exponent = np.where(carry, multiplier // 2, multiplier), exponent + carry
    shift = np.where(multiplier > 0, MULTIPLIER_BITS - exponent, 1)
    if (shift < 1).any():
        raise ValueError(f"A scale of {scale.max():g} is too large for fixed-point requantization (below 2**30).")
    multiplier = np.where(shift > MAX_SHIFT, 0, multiplier)  # below 2**-31: every int32 becomes 0
    return FixedPoint(multiplier.astype(np.int32), np.minimum(shift, MAX_SHIFT).astype(np.int32))


def fixed_ratios(a: float, b: float) -> tuple[int, int, int]:
    """Integers ``(ma, mb, shift)`` with ``a = ma / 2**shift`` and ``b = mb / 2**shift``, the larger below 2**20.

    Raises:
        ValueError: If a ratio is not positive and finite, or too large for a shift of at least 1.
    """
    largest = max(a, b)
    if not (np.isfinite(largest) and min(a, b) >= 0 and largest > 0):
        raise ValueError(f"Ratios of scales must be positive and finite; got {a:g} and {b:g}.")
    shift = min(RATIO_BITS - int(np.frexp(largest)[1]), INT32_SHIFTS)
    if shift < 1:
        raise ValueError(f"A ratio of scales of {largest:g} is too large for fixed-point requantization.")
    top = 2**RATIO_BITS - 1
    return min(round(a * 2.0**shift), top), min(round(b * 2.0**shift), top), shift


def round_float32(accumulator: Int32, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """``rint(float32(accumulator) * scale)``, ties to even, in float32."""
    return np.rint(accumulator.astype(np.float32) * scale.astype(np.float32))


def round_fixed_point(accumulator: Int32, scale: FixedPoint) -> NDArray[np.int64]:
    """``floor(accumulator * multiplier / 2**shift + 1/2)`` in 64-bit integers."""
    shift = scale.shift.astype(np.int64)
    product = accumulator.astype(np.int64) * scale.multiplier
    return (product + (np.int64(1) << (shift - 1))) >> shift


def requantize(
    accumulator: Int32, scale: NDArray[np.float64], requantization: Requantization
) -> NDArray[np.floating | np.integer]:
    """Accumulators times their scale, rounded to whole numbers in one of the two ways.

    Args:
        accumulator: ``[..., O]``.
        scale: ``[O]`` or ``[1]``.
        requantization: ``"float32"`` or ``"fixed_point"``.
    """
    if requantization == "float32":
        return round_float32(accumulator, scale.astype(np.float32))
    return round_fixed_point(accumulator, fixed_point(scale))


def round_sum(left: Int32, right: Int32, ratios: tuple[int, int, int]) -> Int32:
    """``floor((left * ma + right * mb) / 2**shift + 1/2)`` of integers less their zero points, in 32 bits.

    Args:
        left: Any shape.
        right: The same shape.
        ratios: ``(ma, mb, shift)`` of :func:`fixed_ratios`.
    """
    left_ratio, right_ratio, shift = ratios
    total = left.astype(np.int32) * left_ratio + right.astype(np.int32) * right_ratio
    return (total + (1 << (shift - 1))) >> shift


def windows(
    x: NDArray[Scalar], kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1)
) -> NDArray[Scalar]:
    """Every position of a window over images.

    Args:
        x: ``[N, H, W, C]``.
        kernel: (height, width).
        stride: (vertical, horizontal).
        dilation: (vertical, horizontal).

    Returns:
        A view ``[N, OH, OW, C, kh, kw]``.
    """
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    every = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(1, 2))
    return every[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]


def convolve(
    x: NDArray[np.uint8],
    weight: NDArray[np.int8],
    bias: Int32,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Int32:
    """Sum of products plus bias, exact.

    Args:
        x: Activations with their padding, ``[N, H, W, C]``; the padding holds the zero point.
        weight: ``[O, kh, kw, C / groups]``.
        bias: ``[O]``, with the zero point's part: ``-zero_point * weight.sum((1, 2, 3))``.
        stride: (vertical, horizontal).
        dilation: (vertical, horizontal).
        groups: Channel groups.

    Returns:
        ``[N, OH, OW, O]``.

    Raises:
        OverflowError: If a sum does not fit in int32.
    """
    out_channels, *kernel, group_in = weight.shape
    taps = windows(x, (kernel[0], kernel[1]), stride, dilation)
    batch, out_h, out_w, _, kh, kw = taps.shape
    # [N, OH, OW, C, kh, kw] -> [groups, N*OH*OW, C/groups*kh*kw]
    columns = taps.reshape(batch * out_h * out_w, groups, group_in * kh * kw).transpose(1, 0, 2)
    # [O, kh, kw, C/groups] -> [groups, C/groups*kh*kw, O/groups]
    rows = weight.transpose(0, 3, 1, 2).reshape(groups, out_channels // groups, -1).transpose(0, 2, 1)
    largest = int(x.max(initial=0)) * np.abs(weight.astype(np.int64)).sum((1, 2, 3)).max(initial=0)
    exact = np.float32 if largest < FLOAT32_WHOLE else np.float64  # every partial sum is a whole number that it holds
    total = columns.astype(exact) @ rows.astype(exact)  # [groups, N*OH*OW, O/groups]
    total = total.transpose(1, 0, 2).reshape(batch, out_h, out_w, out_channels)
    return to_int32(total.astype(np.float64) + bias)


def sum_windows(x: Int32, kernel: tuple[int, int], stride: tuple[int, int]) -> Int32:
    """Sum over every position of a window, ``[N, H, W, C]`` to ``[N, OH, OW, C]``."""
    total: Int32 = windows(x, kernel, stride).sum((-2, -1), dtype=np.int32)
    return total


def max_windows(x: NDArray[np.uint8], kernel: tuple[int, int], stride: tuple[int, int]) -> NDArray[np.uint8]:
    """Largest over every position of a window, ``[N, H, W, C]`` to ``[N, OH, OW, C]``."""
    largest: NDArray[np.uint8] = windows(x, kernel, stride).max((-2, -1))
    return largest


def to_int32(value: NDArray[np.floating | np.integer]) -> Int32:
    """Integers as int32.

    Raises:
        OverflowError: If one does not fit.
    """
    if value.size and (value.max() > INT32.max or value.min() < INT32.min):
        raise OverflowError(f"An accumulator of {np.abs(value).max():.0f} does not fit in int32.")
    return value.astype(np.int32)
