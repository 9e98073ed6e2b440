"""From an accumulator to the integers of the next tensors: requantization, fused residual sum, saturation, storing.

What depends on scales and zero points is a run-time parameter, so that one kernel serves every candidate. The
parameters of one call are a blob of int32 words (floats as their bits):

    bias [O] | per-channel scales: float32 [O], or multiplier [O] and shift [O], for each | 16 words for each output |
    16 words for the residual

``O`` is padded to 16 channels. An output's words: zero_point, lo, hi, and after a residual sum the two integer ratios
and their shift. The residual's words: its zero point, and lo and hi of the convolution's own operand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds, Requantization, fixed_point, fixed_ratios, to_int32
from cost_models.tvm.kernels.isa import LANES

WORDS = 16
"""Words that an output's scalars take: one cache line."""


def padded(channels: int) -> int:
    """Channels rounded up to the widest vector."""
    return -(-channels // LANES) * LANES


@dataclass(frozen=True)
class Output:
    """One requantized form of a result.

    Attributes:
        scale: Per-channel ratio of the accumulator's scale to the output's, float64 ``[O]``. For a residual sum, that
            of the convolution's operand to the output's, ``[1]``.
        bounds: Integers that it may take; None for int32 outputs, which do not saturate.
        residual_scale: Ratio of the residual operand's scale to the output's.
    """

    scale: NDArray[np.float64]
    bounds: Bounds | None
    residual_scale: float = 0.0


@dataclass(frozen=True)
class Residual:
    """The other operand of a fused sum.

    Attributes:
        zero_point: Of the tensor that is added.
        scale: Per-channel ratio of the accumulator's scale to that of the convolution's own operand, ``[O]``.
        bounds: Integers of that operand.
    """

    zero_point: int
    scale: NDArray[np.float64]
    bounds: Bounds


@dataclass(frozen=True)
class Epilogue:
    """What a kernel does with its int32 sums; its form, without any value.

    Attributes:
        channels: Output channels.
        outputs: Where each output is stored. An output of type int32 has no ring.
        residual: Where the added tensor is stored, if one is.
        requantization: ``"float32"`` or ``"fixed_point"``; see :mod:`cost_models.tvm.integer`.
        dtype: Of the outputs.
    """

    channels: int
    outputs: tuple[Image, ...]
    residual: Image | None = None
    requantization: Requantization = "float32"
    dtype: Literal["uint8", "int32"] = "uint8"

    @property
    def _scales(self) -> int:
        """Per-channel scales that are applied to accumulators."""
        return 1 if self.residual else len(self.outputs)

    @property
    def sections(self) -> int:
        """Per-channel rows before the scalars."""
        return 1 + self._scales * self.scale_rows

    @property
    def words(self) -> int:
        """Length of the parameters."""
        return self.sections * padded(self.channels) + WORDS * (len(self.outputs) + 1)

    def pointers(self) -> list[tuple[str, str, int]]:
        """The kernel's last parameters: parameters, residual, outputs."""
        residual = [("residual", "uint8", self.residual.size_bytes)] if self.residual else []
        outputs = [(f"output_{i}", self.dtype, image.size_bytes) for i, image in enumerate(self.outputs)]
        return [("parameters", "int32", self.words), *residual, *outputs]

    def pack(
        self,
        bias: NDArray[np.int64],
        outputs: Sequence[Output],
        residual: Residual | None = None,
        alignment: int = 0,
    ) -> NDArray[np.int32]:
        """Parameters of one call.

        Args:
            bias: ``[O]``, with the zero point's part.
            outputs: As many as ``self.outputs``.
            residual: If the sum is fused.
            alignment: Power of two by which the kernel's sums are scaled.

        Raises:
            OverflowError: If an aligned bias does not fit in int32.
        """
        rows = [to_int32(bias.astype(np.int64) << alignment)]
        for scale in [residual.scale] if residual else [output.scale for output in outputs]:
            rows += self._scale_rows(np.broadcast_to(scale, bias.shape) * 2.0**-alignment)
        table = np.zeros((len(rows), padded(self.channels)), np.int32)
        table[:, : self.channels] = rows
        scalars = [self._output_words(output, residual is not None) for output in outputs]
        if residual:
            scalars.append([residual.zero_point, *_limits(residual.bounds)])
        lines = np.zeros((len(self.outputs) + 1, WORDS), np.int32)
        for line, words in zip(lines, scalars, strict=False):
            line[: len(words)] = words
        return np.concatenate([table.ravel(), lines.ravel()])

    def _scale_rows(self, scale: NDArray[np.float64]) -> list[NDArray[np.int32]]:
        if self.requantization == "float32":
            return [scale.astype(np.float32).view(np.int32)]
        fixed = fixed_point(scale)
        return [fixed.multiplier, fixed.shift]

    @property
    def scale_rows(self) -> int:
        """Rows of one per-channel scale."""
        return 1 if self.requantization == "float32" else 2

    def _output_words(self, output: Output, residual: bool) -> list[int]:
        words = [output.bounds.zero_point, *_limits(output.bounds)] if output.bounds else [0, 0, 0]
        return [*words, *fixed_ratios(output.scale.item(), output.residual_scale)] if residual else words


def _limits(bounds: Bounds) -> list[int]:
    return [bounds.qmin - bounds.zero_point, bounds.qmax - bounds.zero_point]
