"""Kernels chosen without timing any, for machines that cannot be measured from here."""

from collections.abc import Callable
from typing import Literal

from cost_models.layer import Precision
from cost_models.tvm.kernels import Convolution, Epilogue
from cost_models.tvm.shapes import flattened
from cost_models.tvm.target import Target
from cost_models.tvm.tuner import isa_of
from cost_models.tvm.variants import LayerKernel, candidates, variants

Preference = Literal["small", "fast"]

WINOGRAD_CHANNELS = 16
"""Input channels from which a Winograd kernel is faster than a direct one (Zen 4; about the least at which it is)."""


def untuned(target: Target, prefer: Preference = "small") -> Callable[[Convolution, Epilogue, Precision], LayerKernel]:
    """What picks a layer's kernel, with the tiling that should keep most of the work in registers.

    Args:
        target: The machine.
        prefer: ``"small"`` stores least; ``"fast"`` takes a Winograd kernel where it should pay, and weights that need
            no unpacking elsewhere.
    """
    isa = isa_of(target)

    def choose(shape: Convolution, epilogue: Epilogue, precision: Precision) -> LayerKernel:
        layer = flattened(shape, epilogue)
        every = [v for v in variants(*layer, isa) if v.computes(precision) and v.method != "bit_serial"]
        if shape.image.channels < WINOGRAD_CHANNELS:
            every = [v for v in every if v.method != "winograd"]
        most_or_least = {"small": min, "fast": max}[prefer]  # wide weights need no unpacking
        best = most_or_least(every, key=lambda variant: variant.stored_weight_bits)
        return candidates(best, *layer, isa, 1)[0]

    return choose
