"""A network of integer operations over stored u8 tensors: numpy arrays only, no torch and no tvm.

Which operations there are, and the layout of every tensor, follows from the network's graph; weights, scales, zero
points, bounds and tables are data. An integer accumulator becomes the integers of a tensor as
:mod:`cost_models.tvm.integer` says; an operation that writes several tensors requantizes each from the accumulator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds
from hwsearch.lowering.window import Window


@dataclass(frozen=True)
class Tensor:
    """A stored tensor: ``r = scale (q - zero_point)``.

    Attributes:
        image: Layout; its ring holds what every reader needs.
        scale: Real value of one step.
        bounds: Integers that it may take; None for the logits, which are int32 with zero point 0.
    """

    image: Image
    scale: float
    bounds: Bounds | None

    @property
    def zero_point(self) -> int:
        """The integer that means 0."""
        return self.bounds.zero_point if self.bounds else 0


@dataclass(frozen=True, eq=False)
class Output:
    """A tensor that an operation writes, with its ring.

    Attributes:
        tensor: Name.
        scale: Ratio of the accumulator's scale to the tensor's, float64 ``[O]`` or ``[1]``; of a sum, ratio of the
            left operand's scale to the tensor's, ``[1]``.
        right_scale: Of a sum, ratio of the right operand's scale to the tensor's.
    """

    tensor: str
    scale: NDArray[np.float64]
    right_scale: float = 0.0


@dataclass(frozen=True, eq=False)
class Residual:
    """Right operand of a sum that is fused into the convolution that computes the left one.

    Attributes:
        source: Name of the right operand.
        scale: Ratio of the accumulator's scale to the left operand's, float64 ``[O]``.
        bounds: Integers of the left operand, which is never stored.
    """

    source: str
    scale: NDArray[np.float64]
    bounds: Bounds


@dataclass(frozen=True, eq=False)
class Convolution:
    """Convolution, linear layer (1x1, or as large as the image that it flattens) or batch norm (depthwise 1x1).

    Attributes:
        name: The layer's qualified name, or that of the graph node.
        source: Name of the input.
        weight: int8 codes, or levels of a codebook, ``[O, kh, kw, C / groups]`` with zero point 0.
        bias: int32 ``[O]``, with the input's zero point folded in.
        weight_bits: Bits of the grid that the codes are from, or of an index into the codebook.
        outputs: Their images give the output's size.
        window: Its padding lies in the input's ring.
        groups: Channel groups.
        residual: What is added before the outputs are requantized.
        weight_format: Whether the weights are levels of a codebook.
    """

    name: str
    source: str
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    weight_bits: int
    outputs: tuple[Output, ...]
    window: Window
    groups: int = 1
    residual: Residual | None = None
    weight_format: Literal["uniform", "codebook"] = "uniform"

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors read."""
        return (self.source, self.residual.source) if self.residual else (self.source,)


@dataclass(frozen=True, eq=False)
class Add:
    """Sum of two tensors of one shape, each less its zero point and times its ratio."""

    name: str
    left: str
    right: str
    outputs: tuple[Output, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors read."""
        return self.left, self.right


@dataclass(frozen=True, eq=False)
class Multiply:
    """Product of two tensors, each less its zero point; the right one may be 1x1, for all pixels of the left."""

    name: str
    left: str
    right: str
    outputs: tuple[Output, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors read."""
        return self.left, self.right


@dataclass(frozen=True, eq=False)
class AveragePool:
    """Sum over windows, less the zero point; the window's size is part of the scale.

    Attributes:
        name: Graph node.
        source: Name of the input.
        window: Its padding lies in the input's ring.
        outputs: Their images give the output's size.
    """

    name: str
    source: str
    window: Window
    outputs: tuple[Output, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors read."""
        return (self.source,)


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Largest integer of each window; padding and what lies beyond the last pixel never counts.

    Attributes:
        name: Graph node.
        source: Name of the input.
        window: Not all of its padding need lie in the input's ring.
        target: Name of the output, of the input's scale and bounds.
    """

    name: str
    source: str
    window: Window
    target: str

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors read."""
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Lookup:
    """A function of one value.

    Attributes:
        name: Graph node.
        source: Name of the input.
        targets: Names of the outputs.
        tables: u8 ``[len(targets), 256]``: the output's integer for each of the input's.
    """

    name: str
    source: str
    targets: tuple[str, ...]
    tables: NDArray[np.uint8]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors read."""
        return (self.source,)


@dataclass(frozen=True)
class Part:
    """Channels that a copy takes from one tensor.

    Attributes:
        source: Name.
        row: Source row under the target's first; outside of the image lies its ring.
        column: Source column under the target's first.
        stride: (vertical, horizontal) steps in the source.
        channel: First channel in the source.
        channels: How many.
        target_channel: First channel in the target.
    """

    source: str
    row: int
    column: int
    stride: tuple[int, int]
    channel: int
    channels: int
    target_channel: int


@dataclass(frozen=True, eq=False)
class Copy:
    """Concatenation, slicing and padding of tensors in one format.

    Attributes:
        name: Graph node.
        parts: Channels of the target that no part covers hold its zero point.
        target: Name of the output.
    """

    name: str
    parts: tuple[Part, ...]
    target: str

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors read."""
        return tuple(part.source for part in self.parts)


Operation = Convolution | Add | Multiply | AveragePool | MaxPool | Lookup | Copy


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """Integer operations in the order they run.

    Attributes:
        operations: Each reads tensors that earlier ones or the host wrote.
        tensors: Every tensor by name.
        inputs: Names of the tensors that the host writes: the network's input, once per format that is read.
        logits: Name of the int32 result ``[N, 1, 1, classes]``.
    """

    operations: tuple[Operation, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    logits: str

    @property
    def logit_scale(self) -> float:
        """Real value of one step of the logits, a power of two."""
        return self.tensors[self.logits].scale
