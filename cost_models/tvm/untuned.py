"""Kernels chosen without timing any, for machines that cannot be measured from here."""

from collections.abc import Callable

from cost_models.layer import Precision
from cost_models.tvm.kernels import Convolution, Epilogue
from cost_models.tvm.shapes import flattened
from cost_models.tvm.target import Target
from cost_models.tvm.tuner import isa_of
from cost_models.tvm.variants import BYTE, LayerKernel, candidates, variants


def untuned(target: Target) -> Callable[[Convolution, Epilogue, Precision], LayerKernel]:
    """What picks a layer's kernel: of those that compute it exactly by products of bytes, one that stores least.

    Its tiling is the one that should keep most of the work in registers.

    Args:
        target: The machine.
    """
    isa = isa_of(target)

    def choose(shape: Convolution, epilogue: Epilogue, precision: Precision) -> LayerKernel:
        layer = flattened(shape, epilogue)
        every = [variant for variant in variants(*layer, isa) if variant.computes(precision)]
        bytewise = (variant for variant in every if variant.computed_as == Precision(BYTE, BYTE))
        smallest = min(bytewise, key=lambda variant: variant.stored_weight_bits)
        return candidates(smallest, *layer, isa, 1)[0]

    return choose
