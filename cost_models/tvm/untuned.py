"""Kernels chosen without timing any, for machines that cannot be measured from here."""

from collections.abc import Callable

from cost_models.layer import Precision
from cost_models.tvm.kernels import Convolution, Epilogue
from cost_models.tvm.shapes import flattened
from cost_models.tvm.target import Target
from cost_models.tvm.tuner import isa_of
from cost_models.tvm.variants import LayerKernel, candidates, variants


def untuned(target: Target, *, store_least: bool = True) -> Callable[[Convolution, Epilogue, Precision], LayerKernel]:
    """What picks a layer's kernel, with the tiling that should keep most of the work in registers.

    Args:
        target: The machine.
        store_least: Whether to take, of the kernels that compute by products of bytes, one that stores least. Else a
            Winograd kernel where there is one, and bytes that need no unpacking elsewhere.
    """
    isa = isa_of(target)

    def choose(shape: Convolution, epilogue: Epilogue, precision: Precision) -> LayerKernel:
        layer = flattened(shape, epilogue)
        every = [v for v in variants(*layer, isa) if v.computes(precision) and v.method != "bit_serial"]
        best = min(every, key=lambda v: v.stored_weight_bits if store_least else -v.stored_weight_bits)
        return candidates(best, *layer, isa, 1)[0]

    return choose
