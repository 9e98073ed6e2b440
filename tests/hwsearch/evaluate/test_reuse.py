"""Steps whose results configurations share."""

import gc

import numpy as np

from hwsearch.data import Batch, Preprocess
from hwsearch.evaluate.reuse import Memories, Memory, StepKeys, run_steps

SOURCES = [(), (0,), (0,), (1, 2), (3,)]
"""An input, two branches, their sum, and what follows."""


class Sums:
    """Each step adds its own number to its sources' results, and counts what it is asked for."""

    def __init__(self, bound_bytes):
        self.memory = Memory(bound_bytes)
        self.keys = StepKeys(SOURCES)
        self.executed = []

    def __call__(self, numbers):
        def execute(step, sources):
            self.executed.append(step)
            return numbers[step] + sum(sources)

        self.executed = []
        return run_steps(SOURCES, self.keys(numbers), execute, lambda step, value: 1, self.memory)


def test_only_what_depends_on_a_change_is_computed_again():
    sums = Sums(100)
    assert sums([1, 10, 100, 1000, 0]) == 1112
    assert sums.executed == [0, 1, 2, 3, 4]
    assert sums([1, 10, 100, 1000, 0]) == 1112
    assert sums.executed == []
    assert sums([1, 10, 100, 1000, 5]) == 1117
    assert sums.executed == [4]
    assert sums([1, 10, 200, 1000, 5]) == 1217
    assert sums.executed == [2, 3, 4]
    assert sums([1, 10, 100, 1000, 5]) == 1117
    assert sums.executed == []


def test_what_is_near_the_input_is_kept_where_room_is_short():
    sums = Sums(3)
    sums([1, 10, 100, 1000, 0])
    assert sums([1, 10, 100, 1000, 5]) == 1117
    assert sums.executed == [3, 4]
    assert sums([2, 10, 100, 1000, 0]) == 1114
    assert sums([2, 10, 100, 1000, 5]) == 1119
    assert sums.executed == [3, 4]


def test_nothing_is_kept_without_room():
    sums = Sums(0)
    for _ in range(2):
        assert sums([1, 10, 100, 1000, 0]) == 1112
        assert sums.executed == [0, 1, 2, 3, 4]


def test_memory_forgets_what_was_not_used_for_longest():
    memory = Memory(10)
    memory.keep("a", 1, 4)
    memory.keep("b", 2, 4)
    memory.touch(["a"])
    memory.keep("c", 3, 4)
    assert [memory.get(key) for key in "abc"] == [1, None, 3]
    memory.keep("no room", 4, 7, needed="ac")
    assert [memory.get(key) for key in ("a", "c", "no room")] == [1, 3, None]


def test_keys_are_equal_where_a_step_and_all_before_it_are():
    keys = StepKeys(SOURCES)
    first, second = keys(["x", 1, 2, 3, 4]), keys(["x", 1, 7, 3, 4])
    assert [one == other for one, other in zip(first, second, strict=True)] == [True, True, False, False, False]
    assert len({*first, *second}) == 8


def batch(images):
    return Batch(np.zeros((images, 1, 1, 1), np.uint8), np.zeros(images, np.int64), Preprocess(shape=(1, 1, 1)))


def held(memory):
    """How many results of 1 byte there is room for."""
    for key in range(1000):
        memory.keep(key, key, 1)
    return sum(memory.get(key) is not None for key in range(1000))


def test_batches_in_use_share_the_room_by_their_images():
    memories = Memories(120)
    small, large = batch(10), batch(20)
    (first,) = memories.of(small)
    assert held(first) == 120
    second, third = memories.of(large, parts=2)
    assert [first.get(key) is not None for key in (959, 960)] == [False, True]  # 40 of 120 are left
    assert [held(memory) for memory in (first, second, third)] == [40, 40, 40]
    assert memories.of(small) == [first]


def test_a_batch_that_is_no_longer_used_leaves_its_room_to_others():
    memories = Memories(120)
    memories.of(batch(10))
    gc.collect()
    other = batch(10)
    assert held(*memories.of(other)) == 120
