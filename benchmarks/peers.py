"""What hwsearch is compared with: onnxruntime's quantized operators and networks, and torch in float.

Everything runs on one thread. onnxruntime gets its best conditions: all graph optimizations, inputs and outputs bound
in advance, activations with zero point 0, per-channel weights without zero points.
"""

import warnings
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from timing import Engine
from torch import Tensor, nn

from cost_models import LayerSpec

OPSETS = [helper.make_opsetid("", 19), helper.make_opsetid("com.microsoft", 1)]
IR_VERSION = 10
EXPORT_OPSET = 17
"""The newest that the quantizer's rules are written for."""

CALIBRATION_IMAGES = 4
ERROR = 3
"""onnxruntime's number for it."""

torch.set_num_threads(1)


def int8_engines(layer: LayerSpec) -> tuple[Engine, Engine]:
    """Two ways in which onnxruntime computes a layer with u8 activations and s8 weights.

    Returns:
        The usual one: ``QLinearConv``, or ``MatMulInteger``, which does less than a layer: no requantization. And
        another: ``QLinearConv`` with channels last, or ``QLinearMatMul``.
    """
    if layer.op == "linear":
        return matmul_integer(layer), qlinear_matmul(layer)
    return qlinear_conv(layer, channels_last=False), qlinear_conv(layer, channels_last=True)


def qlinear_conv(layer: LayerSpec, *, channels_last: bool) -> Engine:
    """A convolution of u8 to u8: ONNX's own form [N, C, H, W], or onnxruntime's for [N, H, W, C]."""
    generator = np.random.default_rng(0)
    shapes = [(1, c, *size) for c, size in _images(layer)]
    if channels_last:
        shapes = [(n, h, w, c) for n, c, h, w in shapes]
    weight = _weights(generator, layer.out_channels, layer.in_channels // layer.groups, *layer.kernel)
    node = helper.make_node(
        "QLinearConv",
        ["x", "x_scale", "zero_u8", "w", "w_scale", "w_zero", "y_scale", "zero_u8", "bias"],
        ["y"],
        domain="com.microsoft" if channels_last else "",
        kernel_shape=layer.kernel,
        strides=layer.stride,
        dilations=layer.dilation,
        pads=[*layer.padding, *layer.padding],
        group=layer.groups,
        **({"channels_last": 1} if channels_last else {}),
    )
    constants = _quantization(layer.out_channels) | {
        "w": weight,
        "bias": generator.integers(-1000, 1000, layer.out_channels).astype(np.int32),
    }
    return _operator(node, constants, _activations(generator, *shapes[0]), np.empty(shapes[1], np.uint8))


def qlinear_matmul(layer: LayerSpec) -> Engine:
    """A linear layer of u8 to u8, without bias."""
    generator = np.random.default_rng(0)
    tokens = prod(layer.out_size)
    inputs = ["x", "x_scale", "zero_u8", "w", "w_scale", "w_zero", "y_scale", "zero_u8"]
    constants = _quantization(layer.out_channels) | {"w": _weights(generator, layer.in_channels, layer.out_channels)}
    x, y = _activations(generator, tokens, layer.in_channels), np.empty((tokens, layer.out_channels), np.uint8)
    return _operator(helper.make_node("QLinearMatMul", inputs, ["y"]), constants, x, y)


def matmul_integer(layer: LayerSpec) -> Engine:
    """A linear layer's int32 sums."""
    generator = np.random.default_rng(0)
    tokens = prod(layer.out_size)
    constants = {"w": _weights(generator, layer.in_channels, layer.out_channels)}
    x, y = _activations(generator, tokens, layer.in_channels), np.empty((tokens, layer.out_channels), np.int32)
    return _operator(helper.make_node("MatMulInteger", ["x", "w"], ["y"]), constants, x, y)


def empty_call() -> Engine:
    """A copy of one byte in onnxruntime: what a call costs whatever it computes."""
    byte = np.zeros(1, np.uint8)
    return _operator(helper.make_node("Identity", ["x"], ["y"]), {}, byte, byte)


def float_engine(layer: LayerSpec) -> Engine:
    """Torch's float layer, eager, channels last."""
    tokens = layer.out_size
    if layer.op == "linear":
        linear = nn.Linear(layer.in_channels, layer.out_channels).eval()
        rows = torch.randn(prod(tokens), layer.in_channels)
        return lambda: linear(rows)
    convolution = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
    )
    return float_network(convolution, torch.randn(1, layer.in_channels, *layer.in_size))


def float_network(module: nn.Module, images: Tensor) -> Engine:
    """A module in torch, eager, channels last."""
    module = module.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    images = images.contiguous(memory_format=torch.channels_last)
    return lambda: module(images)


def quantized_network(
    module: nn.Module, images: Tensor, quantization: Literal["QDQ", "QOperator"], folder: Path
) -> Engine:
    """A network as onnxruntime's own tools quantize it: u8 activations, per-channel s8 weights.

    Args:
        module: Float network.
        images: What it computes, ``[N, C, H, W]``.
        quantization: How the file says so; "QDQ" leaves the choice of operators to onnxruntime's optimizer.
        folder: Where the files go.
    """
    exported, prepared, quantized = (folder / f"{name}.onnx" for name in ("exported", "prepared", quantization))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated, but the other needs onnxscript
        torch.onnx.export(
            module.eval(),
            (images,),
            str(exported),
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            opset_version=EXPORT_OPSET,
        )
    quant_pre_process(exported, prepared)
    quantize_static(
        prepared,
        quantized,
        _Calibration(images.shape),
        quant_format=QuantFormat[quantization],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    session = _session(str(quantized))
    return _bound(session, images.numpy(), np.empty(session.get_outputs()[0].shape, np.float32))


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # untyped base class
    """Normally distributed images: ranges do not change the speed."""

    def __init__(self, shape: Iterable[int]) -> None:
        generator = np.random.default_rng(0)
        images = (generator.standard_normal(tuple(shape), np.float32) for _ in range(CALIBRATION_IMAGES))
        self._batches = ({"x": image} for image in images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)


def _images(layer: LayerSpec) -> list[tuple[int, tuple[int, int]]]:
    return [(layer.in_channels, layer.in_size), (layer.out_channels, layer.out_size)]


def _weights(generator: np.random.Generator, *shape: int) -> NDArray[np.int8]:
    return generator.integers(-127, 128, shape).astype(np.int8)


def _activations(generator: np.random.Generator, *shape: int) -> NDArray[np.uint8]:
    return generator.integers(0, 256, shape).astype(np.uint8)


def _quantization(channels: int) -> dict[str, NDArray[Any]]:
    return {
        "x_scale": np.array(0.02, np.float32),
        "y_scale": np.array(0.5, np.float32),
        "w_scale": np.full(channels, 0.01, np.float32),
        "w_zero": np.zeros(channels, np.int8),
        "zero_u8": np.array(0, np.uint8),
    }


def _operator(node: onnx.NodeProto, constants: dict[str, NDArray[Any]], x: NDArray[Any], y: NDArray[Any]) -> Engine:
    """A network of one operator, from ``x`` to a tensor like ``y``."""
    described = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in (("x", x), ("y", y))
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node], "operator", described[:1], described[1:], initializers)
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION)
    return _bound(_session(model.SerializeToString()), x, y)


def _session(model: str | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = ERROR
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _bound(session: onnxruntime.InferenceSession, x: NDArray[Any], y: NDArray[Any]) -> Engine:
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(y))
    return lambda: session.run_with_iobinding(binding)
