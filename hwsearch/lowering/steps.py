"""The operations of an integer network as compiled functions that the host calls one after the other.

Kernels take weights and activations of any bits, as bytes or transformed ones: which functions there are depends on the
network alone. Each works on several images per call.
"""

from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from cost_models import Precision
from cost_models.tvm.cache import Cache
from cost_models.tvm.integer import Requantization
from cost_models.tvm.kernels import Convolution, Epilogue
from cost_models.tvm.kernels.ir import SCRATCH
from cost_models.tvm.library import load_kernels
from cost_models.tvm.program import Call, Kernel
from cost_models.tvm.runner import LocalRunner
from cost_models.tvm.tuner import isa_of
from cost_models.tvm.untuned import untuned
from cost_models.tvm.variants import BYTE, LayerKernel, packed
from hwsearch.lowering.integer_network import IntegerNetwork
from hwsearch.lowering.program import Choose, Translation
from hwsearch.lowering.reference import pixels

CALL_BYTES = 1 << 19
"""Of the largest tensor of a call: with those beside it, about what a core's second-level cache holds."""

MAX_IMAGES = 64
"""Per call; the call itself then costs little beside what it computes, however small the network."""

IMAGES = "@images"
"""Name of what the host writes; no node of a graph is called so."""

Stored = dict[str, Any]
"""Tensors that a step writes, by name."""


@dataclass(frozen=True)
class Constant:
    """What a configuration gives to one step.

    Attributes:
        arguments: By name.
        content: Equal for equal arguments.
    """

    arguments: Mapping[str, Any]
    content: Hashable


@dataclass(frozen=True)
class _Written:
    """A tensor that a step writes.

    Attributes:
        name: Of the tensor.
        dtype: Of its elements.
        elements: Their count.
        read: Whether other steps read it; else it is what the step needs while it runs.
    """

    name: str
    dtype: str
    elements: int
    read: bool


@dataclass(frozen=True)
class _Step:
    """A compiled function and where its arguments come from.

    Attributes:
        function: Takes a flat array per pointer.
        arguments: Names of tensors and of constants.
        written: The tensors among them that the step writes.
    """

    function: Callable[..., object]
    arguments: tuple[str, ...]
    written: tuple[_Written, ...]

    @classmethod
    def of(cls, function: Callable[..., object], call: Call, known: Container[str]) -> "_Step":
        """The step of a call, before which the tensors ``known`` were written."""
        pointers = call.kernel.pointers()
        every = [
            _Written(call.tensors[name], dtype, size, name != SCRATCH)
            for name, dtype, size in pointers
            if name in call.tensors
        ]
        arguments = tuple(call.tensors.get(name, _constant_name(name)) for name, _, _ in pointers)
        return cls(function, arguments, tuple(tensor for tensor in every if tensor.name not in known))

    @property
    def size_bytes(self) -> int:
        """Of what it writes for others."""
        return sum(tensor.elements * np.dtype(tensor.dtype).itemsize for tensor in self.written if tensor.read)


class CompiledSteps:
    """Functions for the inputs and operations of a network that is lowered without sharing tensors between readers.

    The first step is the host's: it writes the images, float32 ``[N, H, W, C]``.

    Args:
        example: The network at any configuration.
        requantization: ``"float32"`` or ``"fixed_point"``.
        batch_size: Images of most batches.
        cache_dir: Folder of compiled kernels.

    Attributes:
        images: Per call.
        sources: Of each step the steps that write what it reads.
        size_bytes: Of what each step writes for others.
    """

    def __init__(
        self, example: IntegerNetwork, requantization: Requantization, batch_size: int, cache_dir: Path
    ) -> None:
        runner = LocalRunner.host()
        self._requantization = requantization
        self._isa = isa_of(runner.target)
        self._choose = _byte_kernels(untuned(runner.target, prefer="fast"))
        self._packed: dict[Hashable, dict[str, NDArray[Any]]] = {}
        self._shared: dict[bytes, Any] = {}
        largest = max(tensor.image.size_bytes for tensor in example.tensors.values())
        most = max(1, min(MAX_IMAGES, CALL_BYTES // largest))
        self.images = ceil(batch_size / ceil(batch_size / most))
        calls = self._translated(example)
        names: dict[Kernel, str] = {}
        for call in calls:
            names.setdefault(call.kernel, f"kernel_{len(names)}")
        library = load_kernels({name: kernel for kernel, name in names.items()}, runner, Cache(cache_dir))
        writer = {IMAGES: 0}
        self.sources: list[tuple[int, ...]] = [()]
        image = example.tensors[example.inputs[0]].image
        self.size_bytes = [self.images * image.height * image.width * image.channels * np.dtype(np.float32).itemsize]
        self._steps = []
        for call in calls:
            step = _Step.of(library[names[call.kernel]], call, writer)
            self.sources.append(tuple({writer[name] for name in call.tensors.values() if name in writer}))
            self.size_bytes.append(step.size_bytes)
            self._steps.append(step)
            writer |= {tensor.name: len(self._steps) for tensor in step.written}

    def constants(self, network: IntegerNetwork) -> list[Constant]:
        """What the network at another configuration gives to each step but the host's."""
        return [self._constant(call) for call in self._translated(network)]

    def start(self, images: NDArray[np.float32]) -> Stored:
        """The host's step.

        Args:
            images: Network input ``[N, C, H, W]``, ``[N, T, C]`` or ``[N, C]`` for at most as many images as a call's.
        """
        filled = np.zeros((self.images, *pixels(images).shape[1:]), np.float32)
        filled[: len(images)] = pixels(images)
        return {IMAGES: tvm.runtime.tensor(filled.reshape(-1))}

    def execute(self, step: int, constant: Constant, sources: Sequence[Stored]) -> Stored:
        """Run one of the other steps.

        Args:
            step: Which.
            constant: Its own.
            sources: What the steps before it wrote.
        """
        compiled = self._steps[step - 1]
        written = {tensor.name: tvm.runtime.empty((tensor.elements,), tensor.dtype) for tensor in compiled.written}
        arguments = {**constant.arguments, **written}
        for stored in sources:
            arguments |= stored
        compiled.function(*map(arguments.__getitem__, compiled.arguments))
        return {tensor.name: written[tensor.name] for tensor in compiled.written if tensor.read}

    def _translated(self, network: IntegerNetwork) -> list[Call]:
        translation = Translation(
            network.tensors, self._requantization, self._choose, self._isa, self.images, self._pack
        )
        inputs = [translation.input(name, IMAGES) for name in network.inputs]
        return inputs + [translation.call(operation) for operation in network.operations]

    def _pack(self, kernel: LayerKernel, weight: NDArray[np.int8]) -> dict[str, NDArray[Any]]:
        """As :func:`packed`, once for each layer and width."""
        key = kernel, _digest(weight)
        if key not in self._packed:
            self._packed[key] = packed(kernel, weight)
        return self._packed[key]

    def _constant(self, call: Call) -> Constant:
        arguments, content = {}, []
        for pointer, array in call.constants.items():
            name = _constant_name(pointer)
            digest = _digest(array)
            content.append(digest)
            if pointer == "parameters":
                arguments[name] = tvm.runtime.tensor(array.reshape(-1))
            else:  # large, and the same in many configurations
                if digest not in self._shared:
                    self._shared[digest] = tvm.runtime.tensor(array.reshape(-1))
                arguments[name] = self._shared[digest]
        return Constant(arguments, tuple(content))


def _byte_kernels(choose: Choose) -> Choose:
    """Of every shape the kernel for bytes, which computes all widths."""
    of_shape = cache(lambda shape, epilogue: choose(shape, epilogue, Precision(BYTE, BYTE)))

    def chosen(shape: Convolution, epilogue: Epilogue, precision: Precision) -> LayerKernel:
        kernel: LayerKernel = of_shape(shape, epilogue)
        return kernel

    return chosen


def _constant_name(pointer: str) -> str:
    """Name among the arguments of a step, where it is no tensor's."""
    return f"@{pointer}"


def _digest(array: NDArray[Any]) -> bytes:
    return sha256(array.tobytes()).digest()
