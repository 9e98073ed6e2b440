"""Cycles and FPGA resources of FINN's matrix-vector unit, by its published estimates.

Reference: Blott et al., FINN-R, 2018, as coded in github.com/Xilinx/finn (0064bae), MVAU and its HLS variant.
"""

from dataclasses import dataclass
from math import ceil, log2


@dataclass(frozen=True)
class MatrixVectorUnit:
    """A unit that multiplies vectors with a weight matrix, ``pe`` rows and ``simd`` columns of it at once.

    Attributes:
        columns: Inputs of a vector (MW): kernel taps times input channels.
        rows: Outputs of a vector (MH): output channels.
        vectors: Vectors per image: output positions.
        weight_bits: Bits per weight.
        activation_bits: Bits per input, unsigned.
        pe: Processing elements; divides ``rows``.
        simd: Inputs per processing element and cycle; divides ``columns``.
        threshold_bits: Bits of the outputs that thresholds in the unit produce; None if they are units of their own.
        dsp: Whether DSP slices multiply, or LUTs.
        distributed: Whether weights are in LUT memory, or in block RAM.
    """

    columns: int
    rows: int
    vectors: int
    weight_bits: int
    activation_bits: int
    pe: int
    simd: int
    threshold_bits: int | None = None
    dsp: bool = False
    distributed: bool = False

    @property
    def cycles(self) -> int:
        """Cycles per image."""
        return (self.rows // self.pe) * (self.columns // self.simd) * self.vectors

    @property
    def depth(self) -> int:
        """Words of the weight memory."""
        return self.columns * self.rows // (self.pe * self.simd)

    @property
    def accumulator_bits(self) -> int:
        """Width that holds every sum, at most 32: Colbert et al. 2023, arXiv:2301.13376."""
        alpha = log2(self.columns) + self.weight_bits + self.activation_bits - 1
        return min(32, ceil(alpha + log2(1 + 2**-alpha) + 1))

    @property
    def luts_per_mac(self) -> float:
        """Look-up tables that one more input of a processing element takes: a multiplier and two adders."""
        operand_bits = self.weight_bits + self.activation_bits
        return 1.1 * operand_bits * (2 + (0 if self.dsp else 2 * ceil(operand_bits / 6) - 1))

    @property
    def luts(self) -> int:
        """Look-up tables."""
        operand_bits = self.weight_bits + self.activation_bits
        multipliers = 0 if self.dsp else self.simd * (2 * ceil(operand_bits / 6) - 1) * operand_bits
        adders = operand_bits * (2 * self.simd - 1)
        thresholds = 0
        if self.threshold_bits is not None:
            steps = (2**self.threshold_bits - 1) * self.accumulator_bits
            thresholds = steps * ceil(self.rows / self.pe / 64) + steps  # their memory, and comparators
        element = multipliers + adders + self.accumulator_bits + thresholds
        memory = self.pe * self.simd * self.weight_bits * ceil(self.depth / 64) if self.distributed else 0
        return int(300 + 1.1 * self.pe * element + memory)

    @property
    def dsps(self) -> int:
        """DSP slices."""
        return self.pe * self.simd * ceil((self.weight_bits + self.activation_bits) / 48) if self.dsp else 0

    @property
    def bram18(self) -> int:
        """Block RAMs of 18 Kbit that hold the weights."""
        if self.distributed:
            return 0
        width = self.pe * self.simd * self.weight_bits
        shapes = ((1, 16384), (2, 8192), (4, 4096), (9, 2048), (18, 1024))
        default = (18, 1024) if self.depth > 512 else (36, 512)
        port, words = next(((port, words) for port, words in shapes if width <= port), default)
        return ceil(self.depth / words) * ceil(width / port)
