"""A private kernel called once, and once per copy of its weights."""

import numpy as np
import pytest
import tvm

from cost_models.tvm import driver

HOST = {"kind": "llvm"}


@pytest.fixture
def operands():
    generator = np.random.default_rng(0)
    a = generator.integers(0, 256, 30, dtype=np.uint8)
    w = generator.integers(-128, 128, (7, 30), dtype=np.int8)
    return a, w, w.astype(np.int32) @ a


def test_parameters_are_read_off_the_kernel(dot) -> None:
    assert driver.parameters(dot(7, 30)) == (
        driver.Parameter("a", "uint8", 30),
        driver.Parameter("w", "int8", 210),
        driver.Parameter("o", "int32", 7),
    )


def test_standalone_calls_the_kernel(dot, operands) -> None:
    a, w, expected = operands
    arguments = [tvm.runtime.tensor(array) for array in (a, w.reshape(-1), np.zeros(7, np.int32))]
    driver.compile(driver.standalone(dot(7, 30)), HOST)["main"](*arguments)
    assert np.array_equal(arguments[2].numpy(), expected)


def test_rotating_uses_each_copy_in_turn(dot, operands) -> None:
    a, w, expected = operands
    copies = 3
    executable = driver.compile(driver.rotating(dot(7, 30), {1, 2}), HOST)
    weights = driver.repeat(w, copies)
    weights[1] = 0
    out = driver.repeat(np.full(7, -1, np.int32), copies)
    arguments = [tvm.runtime.tensor(array) for array in (a, weights, out)]
    executable["main"](*arguments)
    rows = arguments[2].numpy()[:, :7]
    assert np.array_equal(rows, [expected, np.zeros(7), expected])


@pytest.mark.parametrize(("dtype", "stride"), [("int8", 64), ("int16", 32), ("int32", 32), ("uint64", 24)])
def test_copies_are_aligned(dtype: str, stride: int) -> None:
    assert driver.Parameter("w", dtype, 17).stride == stride
