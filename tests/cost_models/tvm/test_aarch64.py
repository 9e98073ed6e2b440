"""Kernels cross-compiled for Arm and run under emulation."""

import numpy as np
import pytest

from cost_models.tvm.reference import SHIFTS, STEPS, reference_kernel, seeds


@pytest.mark.parametrize(
    "options",
    [
        {"mcpu": "cortex-a53", "cpu": "cortex-a53"},
        {"mcpu": "cortex-a76", "cpu": "cortex-a76"},
        {"mcpu": "neoverse-n2", "mattr": ("+i8mm",)},
    ],
)
def test_a_kernel_computes_the_same_on_every_arm_cpu(run_aarch64, dot, options) -> None:
    generator = np.random.default_rng(0)
    a = generator.integers(0, 256, 300, dtype=np.uint8)
    w = generator.integers(-128, 128, (7, 300), dtype=np.int8)
    same_a, same_w, out = run_aarch64(dot(7, 300), [a, w, np.zeros(7, np.int32)], **options)
    assert np.array_equal(same_a, a)
    assert np.array_equal(same_w, w)
    assert np.array_equal(out, w.astype(np.int32) @ a)


def test_vectors_wider_than_the_cpus_are_split(run_aarch64) -> None:
    expected = seeds()
    for _ in range(STEPS):
        for shift in SHIFTS:
            expected ^= expected << np.uint32(shift) if shift > 0 else expected >> np.uint32(-shift)
    (state,) = run_aarch64(reference_kernel(), [seeds()])
    assert np.array_equal(state, expected)


def test_an_instruction_that_the_cpu_lacks_is_noticed(run_aarch64, dot) -> None:
    arrays = [np.zeros(300, np.uint8), np.zeros((7, 300), np.int8), np.zeros(7, np.int32)]
    with pytest.raises(RuntimeError, match="qemu-aarch64 ended with"):
        run_aarch64(dot(7, 300), arrays, mcpu="neoverse-n2", cpu="cortex-a53")


def test_wrong_arguments_are_reported(run_aarch64, dot) -> None:
    arrays = [np.zeros(301, np.uint8), np.zeros((7, 300), np.int8), np.zeros(7, np.int32)]
    with pytest.raises(RuntimeError, match=r"ended with 1: .*a\.shape\[0\]"):
        run_aarch64(dot(7, 300), arrays)
