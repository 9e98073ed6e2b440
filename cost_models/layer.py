"""What a cost model knows of a network: the shape of each quantizable layer and the bits it runs at."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

FLOAT_BITS = 32
"""``weight_bits`` or ``activation_bits`` of this value mean float32."""


WeightFormat = Literal["uniform", "codebook"]
WEIGHT_FORMATS: tuple[WeightFormat, ...] = ("uniform", "codebook")


@dataclass(frozen=True, order=True)
class Precision:
    """Bits of one layer's weights and of its input activations.

    Attributes:
        weight_bits: Bits stored per weight; 32 means float.
        activation_bits: Bits of the layer's input; 32 means float.
        weight_format: ``"uniform"`` levels, or a ``"codebook"`` of at most ``2**weight_bits`` levels.
    """

    weight_bits: int
    activation_bits: int
    weight_format: WeightFormat = "uniform"

    def __str__(self) -> str:
        weight_format = "" if self.weight_format == "uniform" else f" {self.weight_format}"
        return f"W{self.weight_bits}A{self.activation_bits}{weight_format}"

    @classmethod
    def parse(cls, text: str) -> "Precision":
        """Read the shorthand: ``W4A8`` is ``Precision(4, 8)``, ``W4A8 codebook`` is ``Precision(4, 8, "codebook")``.

        Raises:
            ValueError: If ``text`` is not of that form.
        """
        match = re.fullmatch(r"W(\d+)A(\d+)( +CODEBOOK)?", text.strip(), re.IGNORECASE)
        if not match:
            raise ValueError(f"'{text}' is not a precision; write weight and activation bits as in W4A8.")
        return cls(int(match[1]), int(match[2]), "codebook" if match[3] else "uniform")


FLOAT = Precision(FLOAT_BITS, FLOAT_BITS)

BitConfig = Mapping[str, Precision]
"""The precision of every quantizable layer, by the layer's torch fully-qualified name."""


@dataclass(frozen=True)
class LayerSpec:
    """Shape of one quantizable layer, per image.

    A linear layer is a 1x1 convolution over ``out_size`` positions: (1, 1) after global pooling,
    (tokens, 1) in a transformer.

    Attributes:
        name: Torch fully-qualified name of the module.
        op: ``"conv2d"`` or ``"linear"``.
        in_channels: Input channels, of all groups.
        out_channels: Output channels, of all groups.
        kernel: (height, width).
        stride: (vertical, horizontal).
        padding: (vertical, horizontal), on each side.
        dilation: (vertical, horizontal).
        groups: Channel groups; equal to ``in_channels`` for a depthwise convolution.
        in_size: Input (height, width).
        out_size: Output (height, width).
        bias: Whether the layer adds a bias after batch-norm folding.
    """

    name: str
    op: Literal["conv2d", "linear"]
    in_channels: int
    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    in_size: tuple[int, int] = (1, 1)
    out_size: tuple[int, int] = (1, 1)
    bias: bool = True

    @property
    def depthwise(self) -> bool:
        """Whether every group holds one input channel."""
        return self.groups > 1 and self.groups == self.in_channels

    @property
    def weight_count(self) -> int:
        """Weights, without the bias."""
        return self.out_channels * (self.in_channels // self.groups) * prod(self.kernel)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations per image."""
        return self.weight_count * prod(self.out_size)

    @property
    def in_count(self) -> int:
        """Input activations per image."""
        return self.in_channels * prod(self.in_size)

    @property
    def out_count(self) -> int:
        """Output activations per image."""
        return self.out_channels * prod(self.out_size)
