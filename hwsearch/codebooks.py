"""Weights that a quantizer stores as codebooks, on devices that measure those and on devices that do not tell."""

from collections.abc import Collection, Iterable

from cost_models import CostModel, Measuring, Precision


def storing(device: CostModel, codebook_bits: Collection[int]) -> CostModel:
    """The device; one that measures runs kernels for codebooks where ``uniform`` weights of a width are stored so.

    Args:
        device: Any.
        codebook_bits: Widths at which the quantizer stores codebooks.
    """
    return device.storing(codebook_bits) if isinstance(device, Measuring) else device


def codebook_notes(device: CostModel, codebook_bits: Collection[int], precisions: Iterable[Precision]) -> list[str]:
    """What a reader must know of costs at some precisions, where the device does not tell codebooks apart."""
    uniform = {precision.weight_bits for precision in precisions if precision.weight_format == "uniform"}
    coded = sorted(uniform.intersection(codebook_bits))
    if not coded or isinstance(device, Measuring):
        return []
    widths = " and ".join(map(str, coded))
    return [
        f"The quantizer stores weights of {widths} bits as codebooks, whose levels need not be evenly spaced; they are "
        "priced as the device's own weights of that width (quantizer.codebook_bits=[] avoids them)."
    ]
