"""The reference kernel does the work that its docstring says: nothing is optimized away."""

import numpy as np
import tvm

from cost_models.tvm import driver
from cost_models.tvm.reference import SHIFTS, STEPS, reference_kernel, seeds


def test_reference_kernel_is_xorshift() -> None:
    state = tvm.runtime.tensor(seeds())
    driver.compile(driver.standalone(reference_kernel()), {"kind": "llvm"})["main"](state)
    expected = seeds()
    for _ in range(STEPS):
        for shift in SHIFTS:
            expected ^= expected << np.uint32(shift) if shift > 0 else expected >> np.uint32(-shift)
    assert np.array_equal(state.numpy(), expected)
