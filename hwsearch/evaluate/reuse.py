"""What candidates share of a network's execution, kept under a bound of memory.

A step's key names everything that its result depends on, the keys of its sources included. Two candidates that agree in
their first layers agree in the keys of the steps there, so that the second one begins where they part.
"""

from collections import OrderedDict
from collections.abc import Callable, Container, Hashable, Sequence
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from hwsearch.data import Batch

Value = TypeVar("Value")


class Memory(Generic[Value]):
    """Results by key; those not used for longest are forgotten first.

    Args:
        bound_bytes: Room for results.
    """

    def __init__(self, bound_bytes: int) -> None:
        self._bound_bytes = bound_bytes
        self._held: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._used_bytes = 0

    def get(self, key: Hashable) -> Value | None:
        """The result, if it is still there."""
        held = self._held.get(key)
        return held[0] if held else None

    def keep(self, key: Hashable, value: Value, size_bytes: int, needed: Container[Hashable] = ()) -> None:
        """Remember a new result if there is room, or can be made without forgetting one that is needed."""
        while self._held and self._used_bytes + size_bytes > self._bound_bytes:
            oldest = next(iter(self._held))
            if oldest in needed:
                return
            self._used_bytes -= self._held.pop(oldest)[1]
        if size_bytes <= self._bound_bytes:
            self._held[key] = value, size_bytes
            self._used_bytes += size_bytes

    def resize(self, bound_bytes: int) -> None:
        """Set the room; what there is none for any more is forgotten."""
        self._bound_bytes = bound_bytes
        while self._used_bytes > bound_bytes:
            self._used_bytes -= self._held.popitem(last=False)[1][1]

    def touch(self, keys: Sequence[Hashable]) -> None:
        """Mark results as used, the last one most recently."""
        for key in keys:
            if key in self._held:
                self._held.move_to_end(key)


class Memories(Generic[Value]):
    """A memory for every batch that is in use; they share a bound by their images.

    Args:
        bound_bytes: Room for the results of all batches together.
    """

    def __init__(self, bound_bytes: int) -> None:
        self._bound_bytes = bound_bytes
        self._held: WeakKeyDictionary[Batch, list[Memory[Value]]] = WeakKeyDictionary()

    def of(self, batch: Batch, parts: int = 1) -> list[Memory[Value]]:
        """Memories of a batch, one for each of the parts that it is run in."""
        if batch not in self._held:
            self._held[batch] = [Memory(0) for _ in range(parts)]
            images = sum(map(len, self._held))
            for known, memories in self._held.items():
                for memory in memories:
                    memory.resize(self._bound_bytes * len(known) // (images * len(memories)))
        return self._held[batch]


class StepKeys:
    """Keys of a network's steps, small integers.

    Args:
        sources: Of each step the earlier steps whose results it takes.
    """

    def __init__(self, sources: Sequence[Sequence[int]]) -> None:
        self._sources = sources
        self._known: dict[Hashable, int] = {}

    def __call__(self, contents: Sequence[Hashable]) -> list[int]:
        """Keys of all steps.

        Args:
            contents: What a configuration gives to each step.
        """
        keys: list[int] = []
        for content, sources in zip(contents, self._sources, strict=True):
            depends_on = len(keys), content, tuple(keys[source] for source in sources)
            keys.append(self._known.setdefault(depends_on, len(self._known)))
        return keys


def run_steps(
    sources: Sequence[Sequence[int]],
    keys: Sequence[Hashable],
    execute: Callable[[int, list[Value]], Value],
    size_bytes: Callable[[int, Value], int],
    memory: Memory[Value],
) -> Value:
    """The last step's result, from those that are remembered.

    Args:
        sources: Of each step the earlier steps whose results it takes.
        keys: Of each step.
        execute: Computes a step from its sources' results.
        size_bytes: Memory that a step's result takes; 0 for what is not worth keeping.
        memory: Of the images that the steps run on.
    """
    last, path = len(sources) - 1, frozenset(keys)
    memory.touch(keys)
    results: dict[int, Value] = {}
    missing: list[int] = []
    wanted = {last}
    for i in range(last, -1, -1):
        if i in wanted:
            held = memory.get(keys[i])
            if held is None:
                missing.append(i)
                wanted.update(sources[i])
            else:
                results[i] = held
    last_reader: dict[int, int] = {}
    for i in missing:  # the last step stands first
        for j in sources[i]:
            last_reader.setdefault(j, i)
    for i in reversed(missing):
        results[i] = value = execute(i, [results[j] for j in sources[i]])
        taken_bytes = size_bytes(i, value)
        if taken_bytes:
            memory.keep(keys[i], value, taken_bytes, path)
        for j in sources[i]:
            if last_reader[j] == i:
                results.pop(j, None)
    # Most candidates share what is near the input: it is to be forgotten last.
    memory.touch(keys[::-1])
    return results[last]
