"""Programs: kernels that pass tensors to each other in one workspace."""

from itertools import combinations

import numpy as np
import pytest
import tvm

from cost_models.tvm import driver
from cost_models.tvm.image import Image
from cost_models.tvm.kernels import ISAS, LookupKernel
from cost_models.tvm.program import Call, Program, aligned
from cost_models.tvm.runner import LocalRunner
from cost_models.tvm.tuner import isa_of

IMAGE = Image(5, 6, 7)
RUNNER = LocalRunner.host()
RNG = np.random.default_rng(0)
TABLES = [RNG.permutation(256).astype(np.uint8) for _ in range(6)]


def look_up(source, target, table, isa=ISAS["portable"]):
    kernel = LookupKernel(IMAGE, (IMAGE,), isa)
    return Call(kernel, {"input": source, "output_0": target}, kernel.constants(table[None], [0]))


def chain(isa=ISAS["portable"]):
    """Six look-ups, one after the other."""
    names = ["x", *(f"t{i}" for i in range(5)), "y"]
    calls = [look_up(*pair, table, isa) for *pair, table in zip(names, names[1:], TABLES, strict=False)]
    return Program(calls, ("x",), ("y",))


@pytest.mark.parametrize("isa", [ISAS["portable"], isa_of(RUNNER.target)], ids=lambda isa: isa.name)
def test_every_kernel_reads_what_the_one_before_wrote(isa):
    """The workspace is used again by every other tensor: reads must not be moved before writes."""
    program = chain(isa)
    main = RUNNER.load(driver.compile(program.build(), RUNNER.target.attributes))["main"]
    x = RNG.integers(0, 256, IMAGE.size_bytes).astype(np.uint8)
    arrays = [x, program.constants, np.zeros(program.workspace_bytes, np.uint8), np.zeros(IMAGE.size_bytes, np.uint8)]
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    main(*tensors)
    expected = x.reshape(IMAGE.stored)[..., : IMAGE.channels]
    for table in TABLES:
        expected = table[expected]
    np.testing.assert_array_equal(tensors[-1].numpy().reshape(IMAGE.stored)[..., : IMAGE.channels], expected)


def test_tensors_alive_at_the_same_time_do_not_overlap():
    a, b, c = look_up("x", "a", TABLES[0]), look_up("a", "b", TABLES[1]), look_up("x", "c", TABLES[2])
    join = [look_up("b", "d", TABLES[3]), look_up("c", "y", TABLES[4])]
    program = Program([a, b, c, *join], ("x",), ("y",))
    alive = program._lifetimes()
    for one, other in combinations(program.workspace, 2):
        together = alive[one][0] <= alive[other][1] and alive[other][0] <= alive[one][1]
        first, second = sorted((program.workspace[one], program.workspace[other]))
        assert not together or second - first >= aligned(IMAGE.size_bytes)


def test_a_chain_needs_room_for_two_tensors():
    assert chain().workspace_bytes == 2 * aligned(IMAGE.size_bytes)


def test_equal_kernels_are_compiled_once():
    assert len(chain().build().functions) == 2
