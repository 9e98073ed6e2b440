"""Operations per second that the VNNI instruction reaches when nothing is read from memory.

Without such an instruction there is no peak to measure: compilers sum a loop over plain additions in closed form.
"""

import tvm

from cost_models.tvm.kernels.ir import Kernel, loop, ramp, register, store
from cost_models.tvm.kernels.isa import Isa

CHAINS = 16
"""Independent accumulators: enough to hide the latency of an instruction."""

STEPS = 10_000


def peak_kernel(isa: Isa) -> tvm.tirx.PrimFunc:
    """Accumulate products of two constant vectors, with all operands in registers."""
    lanes = isa.lanes
    pointers = [("operands", "int32", 2 * lanes), ("sums", "int32", CHAINS * lanes)]
    with (kernel := Kernel("peak", pointers)) as (operands, sums):
        activations, weights = (operands[ramp(i * lanes, lanes)] for i in range(2))
        accumulators = [register(lanes) for _ in range(CHAINS)]
        whole = ramp(0, lanes)
        for i, accumulator in enumerate(accumulators):
            store(accumulator, sums[ramp(i * lanes, lanes)], 0, lanes)

        def step(_: object) -> None:
            for accumulator in accumulators:
                store(accumulator, isa.dot(accumulator[whole], activations, weights), 0, lanes)

        loop(STEPS, step)
        for i, accumulator in enumerate(accumulators):
            store(sums, accumulator[whole], i * lanes, lanes)
    return kernel.function


def peak_operations(isa: Isa) -> int:
    """Multiplications and additions of one call."""
    return 2 * 4 * isa.lanes * CHAINS * STEPS
