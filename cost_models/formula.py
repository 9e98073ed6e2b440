"""Arithmetic in device files: cycles, bits and picojoules as expressions of a layer's shape and bits.

A formula is Python's arithmetic (``+ - * / // % **``, comparisons, ``a if condition else b``) over the names of
:data:`NAMES` and the functions of :data:`FUNCTIONS`, and nothing else: ``ceil(in_channels / 16) * taps * positions``.
"""

import ast
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import CodeType

from cost_models.layer import LayerSpec

NAMES: Mapping[str, str] = {
    "batch": "images per inference",
    "weight_bits": "bits per weight: stored ones in memory, computed ones in compute",
    "activation_bits": "bits per input, likewise",
    "output_bits": "bits per output",
    "macs": "multiply-accumulate operations per image",
    "weights": "weights",
    "inputs": "input activations per image",
    "outputs": "output activations per image",
    "in_channels": "input channels of one group",
    "out_channels": "output channels of one group",
    "groups": "channel groups",
    "kernel_h": "kernel height",
    "kernel_w": "kernel width",
    "taps": "kernel_h * kernel_w",
    "in_h": "input height",
    "in_w": "input width",
    "out_h": "output height",
    "out_w": "output width",
    "positions": "out_h * out_w: outputs per channel and image",
    "linear": "1 for a linear layer, else 0",
    "depthwise": "1 for a depthwise convolution, else 0",
}
"""What a formula may name."""

FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "log2": math.log2,
    "max": max,
    "min": min,
}
"""What a formula may call."""

_ALLOWED = (
    ast.BinOp,
    ast.BoolOp,
    ast.Call,
    ast.Compare,
    ast.Constant,
    ast.Expression,
    ast.IfExp,
    ast.Load,
    ast.Name,
    ast.UnaryOp,
    ast.boolop,
    ast.cmpop,
    ast.operator,
    ast.unaryop,
)


def check_formula(text: str) -> str:
    """Return ``text`` if it is a formula.

    Raises:
        ValueError: If it is not; it names what is not understood and what is.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ValueError(f"'{text}' is no arithmetic: {error.msg}") from error
    for node in ast.walk(tree):
        number = not isinstance(node, ast.Constant) or isinstance(node.value, int | float)
        if not isinstance(node, _ALLOWED) or not number:
            raise ValueError(
                f"'{ast.unparse(node)}' is no arithmetic; use numbers, names, functions and + - * / // % **"
            )
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS):
            raise ValueError(f"'{ast.unparse(node.func)}' is no function; choose from {sorted(FUNCTIONS)}")
        if isinstance(node, ast.Name) and node.id not in {*NAMES, *FUNCTIONS}:
            raise ValueError(f"'{node.id}' is no quantity of a layer; choose from {sorted(NAMES)}")
    return text


def evaluate(formula: float | str, values: Mapping[str, float]) -> float:
    """The value of a checked formula.

    Args:
        formula: A number, or the text of a formula.
        values: A value for every name that it uses.

    Raises:
        ValueError: If it has no value, e.g. divides by zero.
    """
    if not isinstance(formula, str):
        return formula
    try:
        result: float = eval(_compiled(formula), {"__builtins__": {}, **FUNCTIONS}, values)
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"'{formula}' has no value: {error}") from error
    return result


@lru_cache(maxsize=1024)
def _compiled(text: str) -> CodeType:
    return compile(check_formula(text), "<device file>", "eval")


def shape_values(layer: LayerSpec) -> dict[str, float]:
    """Values of the names that are about a layer's shape."""
    (kernel_h, kernel_w), (in_h, in_w), (out_h, out_w) = layer.kernel, layer.in_size, layer.out_size
    return {
        "macs": layer.macs,
        "weights": layer.weight_count,
        "inputs": layer.in_count,
        "outputs": layer.out_count,
        "in_channels": layer.in_channels // layer.groups,
        "out_channels": layer.out_channels // layer.groups,
        "groups": layer.groups,
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "taps": kernel_h * kernel_w,
        "in_h": in_h,
        "in_w": in_w,
        "out_h": out_h,
        "out_w": out_w,
        "positions": out_h * out_w,
        "linear": int(layer.op == "linear"),
        "depthwise": int(layer.depthwise),
    }
