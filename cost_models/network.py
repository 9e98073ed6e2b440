"""What a cost model knows of a whole network: its layers, the operators between them, and who reads whose result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Literal, Self, TypeAlias

from cost_models.layer import LayerSpec

INPUT = "(input)"
"""Stands for the network's input in :attr:`NetworkSpec.inputs`; no module is called so."""

Operator: TypeAlias = Literal[
    "add",
    "mul",
    "max",
    "max_pool2d",
    "avg_pool2d",
    "concat",
    "lookup",
    "matmul",
    "softmax",
    "batch_norm",
    "norm",
    "resize",
]


@dataclass(frozen=True)
class OperatorSpec:
    """Shape of an operator that has no precision of its own but takes time, per image.

    Attributes:
        name: Name of the operator's node in the captured graph, unlike that of any layer.
        op: ``"add"``, ``"mul"`` and ``"max"`` work element by element on two tensors (subtraction is an addition,
            division a multiplication), or on one and a constant; ``"lookup"`` is any function of one value;
            ``"max_pool2d"`` and ``"avg_pool2d"`` are also global and adaptive pooling, means and sums; ``"matmul"``
            multiplies two activations; ``"batch_norm"`` is one that no layer took in, ``"norm"`` a normalization by
            statistics of its own input.
        channels: Output channels; columns of the result of a matmul.
        in_size: Height and width of the first tensor read, or (tokens, 1); (matrices, rows) of a matmul.
        out_size: The same of the result.
        in_counts: Values of each tensor read.
        kernel: (height, width) of a pooling.
        stride: (vertical, horizontal) of a pooling.
        padding: (vertical, horizontal) of a pooling, on each side.
    """

    name: str
    op: Operator
    channels: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    in_counts: tuple[int, ...]
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations: those of a matmul, else none."""
        return self.in_counts[0] * self.channels if self.op == "matmul" else 0

    @property
    def in_count(self) -> int:
        """Values read."""
        return sum(self.in_counts)

    @property
    def out_count(self) -> int:
        """Values written."""
        return self.channels * prod(self.out_size)


@dataclass(frozen=True)
class NetworkSpec:
    """Everything of a network that costs something.

    Attributes:
        layers: Quantizable layers in the order they run.
        operators: What else takes time, in the order it runs.
        inputs: For each layer and operator, in the order they run, the names of those whose results it reads, or
            :data:`INPUT`. Operators that move values or keep their order (reshape, relu, padding...) are seen through.
    """

    layers: tuple[LayerSpec, ...]
    operators: tuple[OperatorSpec, ...]
    inputs: Mapping[str, tuple[str, ...]]

    @classmethod
    def chain(cls, layers: Sequence[LayerSpec]) -> Self:
        """Layers of which each reads the one before it."""
        names = [INPUT, *(layer.name for layer in layers)]
        return cls(tuple(layers), (), {name: (source,) for source, name in pairwise(names)})

    @property
    def nodes(self) -> Mapping[str, LayerSpec | OperatorSpec]:
        """Layers and operators by name, in the order they run."""
        found: dict[str, LayerSpec | OperatorSpec] = {layer.name: layer for layer in self.layers}
        found |= {operator.name: operator for operator in self.operators}
        return {name: found[name] for name in self.inputs}
