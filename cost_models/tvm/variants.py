"""Every way to compute a layer exactly: a narrow value also fits a wider container."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cost_models.layer import Precision
from cost_models.tvm.kernels.bit_serial import BitSerialKernel
from cost_models.tvm.kernels.convolution import ConvolutionKernel
from cost_models.tvm.kernels.depthwise import DepthwiseKernel, DepthwiseTiling
from cost_models.tvm.kernels.epilogue import Epilogue, Output, Residual
from cost_models.tvm.kernels.isa import Isa
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.tiling import Tiling
from cost_models.tvm.kernels.weights import CODEBOOK_BITS, PLANES, WeightStorage
from cost_models.tvm.kernels.winograd import STORED_BITS, WinogradKernel, WinogradTiling
from cost_models.tvm.tilings import bit_serial_tilings, convolution_tilings, depthwise_tilings, winograd_tilings

LayerKernel: TypeAlias = ConvolutionKernel | DepthwiseKernel | BitSerialKernel | WinogradKernel
LayerTiling: TypeAlias = Tiling | DepthwiseTiling | WinogradTiling

Pack: TypeAlias = Callable[[LayerKernel, NDArray[np.int8]], Mapping[str, NDArray[Any]]]
"""Lays weights out as a kernel reads them, by pointer."""

BYTE = 8
INT16 = 16
BIT_SERIAL = ((1, 1), (1, 2), (2, 1), (2, 2))
"""(weight_bits, activation_bits) whose plane products are fewer than a byte product costs."""

FEW_POSITIONS = 16
"""Below so many uses of a weight per call, reading weights may take longer than multiplying them."""


@dataclass(frozen=True, order=True)
class Variant:
    """One way to compute layers.

    Attributes:
        method: ``"dot"`` products of bytes, ``"bit_serial"``, ``"depthwise"`` or ``"winograd"``.
        weight_bits: Most bits that a weight may have.
        activation_bits: Bits of an activation that are computed with.
        weight_format: What these bits mean.
    """

    method: Literal["dot", "bit_serial", "depthwise", "winograd"]
    weight_bits: int
    activation_bits: int = BYTE
    weight_format: Literal["uniform", "codebook"] = "uniform"

    def computes(self, precision: Precision) -> bool:
        """Whether the values of ``precision`` fit."""
        fits = precision.weight_bits <= self.weight_bits and precision.activation_bits <= self.activation_bits
        if self.weight_format == "codebook":
            return fits and precision.weight_format == "codebook"
        # the levels of a codebook are int8
        return fits and (precision.weight_format == "uniform" or self.weight_bits == BYTE)

    @property
    def computed_as(self) -> Precision:
        """Precision of the arithmetic, whatever the storage."""
        if self.method == "bit_serial":
            return Precision(self.weight_bits, self.activation_bits)
        return Precision(INT16, INT16) if self.method == "winograd" else Precision(BYTE, BYTE)

    @property
    def stored_weight_bits(self) -> int:
        """Memory per weight."""
        return STORED_BITS if self.method == "winograd" else self.weight_bits


def variants(shape: Convolution, epilogue: Epilogue, isa: Isa) -> list[Variant]:
    """What computes a shape, the plain byte kernel first.

    Widths that do not divide a byte take more unpacking than the next that does: they are listed where each weight
    is used so rarely that reading it may take longest.
    """
    if shape.groups == shape.image.channels == shape.out_channels > 1:
        return [Variant("depthwise", BYTE)]
    height, width = shape.out_size
    few = shape.image.batch * height * width < FEW_POSITIONS
    widths = [bits for bits in sorted(PLANES, reverse=True) if few or BYTE % bits == 0]
    formats: list[tuple[int, Literal["uniform", "codebook"]]] = [(bits, "uniform") for bits in widths]
    formats += [(bits, "codebook") for bits in CODEBOOK_BITS if few or BYTE % bits == 0]
    every = [Variant("dot", bits, BYTE, weight_format) for bits, weight_format in formats]
    every += [Variant("winograd", BYTE)] if isa.multiplies_pairs else []
    every += [Variant("bit_serial", *pair) for pair in BIT_SERIAL]
    return [variant for variant in every if candidates(variant, shape, epilogue, isa, 1)]


def candidates(variant: Variant, shape: Convolution, epilogue: Epilogue, isa: Isa, limit: int) -> list[LayerKernel]:
    """Kernels of a variant, with the tilings that are worth timing; none where it does not compute the shape.

    Args:
        variant: What to compute with.
        shape: Of the layer.
        epilogue: Of the layer.
        isa: Of the target.
        limit: Tiles to choose from.
    """
    try:
        return [
            kernel(variant, shape, epilogue, isa, asdict(tiling)) for tiling in _tilings(variant, shape, isa, limit)
        ]
    except ValueError:
        return []


def _tilings(variant: Variant, shape: Convolution, isa: Isa, limit: int) -> Sequence[LayerTiling]:
    if variant.method == "depthwise":
        return depthwise_tilings(shape)
    if variant.method == "winograd":
        return winograd_tilings(shape, isa, limit=limit)
    if variant.method == "bit_serial":
        return bit_serial_tilings(shape, variant.weight_bits, variant.activation_bits, isa, limit=limit)
    storage = WeightStorage(variant.weight_bits, variant.weight_format)
    return convolution_tilings(shape, storage, isa, limit=limit)


def kernel(variant: Variant, shape: Convolution, epilogue: Epilogue, isa: Isa, knobs: Mapping[str, Any]) -> LayerKernel:
    """One kernel of a variant.

    Args:
        variant: What to compute with.
        shape: Of the layer.
        epilogue: Of the layer.
        isa: Of the target.
        knobs: Fields of its tiling.

    Raises:
        ValueError: If the variant does not compute the shape.
    """
    if variant.method == "depthwise":
        return DepthwiseKernel(shape, epilogue, isa, DepthwiseTiling(**knobs))
    if variant.method == "winograd":
        return WinogradKernel(shape, epilogue, isa, WinogradTiling(**knobs))
    if variant.method == "bit_serial":
        bits = variant.weight_bits, variant.activation_bits
        return BitSerialKernel(shape, *bits, epilogue, isa, Tiling(**knobs))
    storage = WeightStorage(variant.weight_bits, variant.weight_format)
    return ConvolutionKernel(shape, storage, epilogue, isa, Tiling(**knobs))


def packed(best: LayerKernel, weight: NDArray[np.int8]) -> dict[str, NDArray[Any]]:
    """Weights ``[O, kh, kw, C / groups]`` as a layer's kernel reads them, by pointer.

    Raises:
        ValueError: If a weight does not fit the storage.
    """
    if isinstance(best, ConvolutionKernel) and best.storage.format == "codebook":
        levels, indices = np.unique(weight, return_inverse=True)
        codes = indices.reshape(weight.shape).astype(np.int8)
        return {"weights": best.pack(codes), "table": best.pack_table(levels)}
    return {"weights": best.pack(weight)}


def constants(
    best: LayerKernel,
    weight: NDArray[np.int8],
    bias: NDArray[np.int32],
    outputs: Sequence[Output],
    residual: Residual | None = None,
    *,
    pack: Pack = packed,
) -> dict[str, NDArray[Any]]:
    """Arrays for a layer's kernel, by pointer.

    Args:
        best: The kernel.
        weight: int8 ``[O, kh, kw, C / groups]``; with at most ``2**bits`` levels if stored as a codebook.
        bias: int32 ``[O]``, with the zero point's part.
        outputs: Scales and bounds of what the kernel stores.
        residual: Of a fused sum.
        pack: Lays the weights out.

    Raises:
        OverflowError: If an aligned bias does not fit in int32.
        ValueError: If a weight does not fit the storage.
    """
    taken_off = best.activation_offset * weight.sum((1, 2, 3), dtype=np.int64)
    parameters = best.epilogue.pack(bias + taken_off, outputs, residual, best.alignment)
    return {"parameters": parameters, **pack(best, weight)}
