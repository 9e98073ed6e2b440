"""An integer network in plain numpy: what the compiled one must equal bit for bit."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cost_models.tvm.image import Image
from cost_models.tvm.integer import (
    Int32,
    Requantization,
    convolve,
    fixed_ratios,
    max_windows,
    requantize,
    round_sum,
    sum_windows,
    to_int32,
)
from hwsearch.lowering.integer_network import (
    Add,
    AveragePool,
    Convolution,
    Copy,
    IntegerNetwork,
    Lookup,
    MaxPool,
    Multiply,
    Operation,
    Output,
    Tensor,
)
from hwsearch.lowering.window import Window

Stored = NDArray[np.uint8]
Whole = NDArray[np.integer | np.floating]
"""Integers, perhaps in a floating-point type."""


def input_codes(network: IntegerNetwork, images: NDArray[np.float32]) -> dict[str, Stored]:
    """Quantize preprocessed inputs as the first operations read them.

    Args:
        network: Whose inputs they are.
        images: float32 ``[N, C, H, W]``, ``[N, T, C]`` or ``[N, C]``.

    Returns:
        For each of ``network.inputs`` what :func:`stored_input` gives.
    """
    return {name: stored_input(network.tensors[name], images) for name in network.inputs}


def stored_input(tensor: Tensor, images: NDArray[np.float32]) -> Stored:
    """Quantize preprocessed inputs to nearest, ties to even, in float32.

    Args:
        tensor: What they become.
        images: float32 ``[N, C, H, W]``, ``[N, T, C]`` or ``[N, C]``.

    Returns:
        uint8 ``[N, top + H + bottom, left + W + right, C']``, where C' is C rounded up as
        :class:`cost_models.tvm.image.Image` says.
    """
    assert tensor.bounds is not None  # only logits have none
    codes = tensor.bounds.saturate(np.rint(pixels(images) / np.float32(tensor.scale)))
    return _framed(tensor, codes)


def pixels(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Preprocessed inputs ``[N, C, H, W]``, ``[N, T, C]`` or ``[N, C]`` as ``[N, H, W, C]``."""
    if images.ndim == 4:
        return np.moveaxis(images, 1, -1)
    return images.reshape(len(images), -1, 1, images.shape[-1])


def _framed(tensor: Tensor, codes: NDArray[np.uint8]) -> Stored:
    """Integers ``[N, H, W, C]`` in their ring of zero points, with zeros in the channels that mean nothing."""
    top, left, bottom, right = tensor.image.ring
    ring = ((0, 0), (top, bottom), (left, right), (0, 0))
    framed = np.pad(codes, ring, constant_values=tensor.zero_point)
    surplus = tensor.image.stored_channels - tensor.image.channels
    return np.pad(framed, ((0, 0), (0, 0), (0, 0), (0, surplus)))


def run(network: IntegerNetwork, inputs: Mapping[str, Stored], requantization: Requantization) -> Int32:
    """Logits of a batch of any size.

    Args:
        network: What to run.
        inputs: Stored tensor, with its ring, of each of ``network.inputs``.
        requantization: ``"float32"`` or ``"fixed_point"``.

    Returns:
        int32 ``[N, classes]``, in steps of ``network.logit_scale``.
    """
    execution = _Execution(network, requantization)
    execution.stored.update(inputs)
    last_reader = {name: operation for operation in network.operations for name in operation.sources}
    for operation in network.operations:
        execution.execute(operation)
        for name in set(operation.sources):
            if last_reader[name] is operation:
                del execution.stored[name]
    return execution.logits.reshape(len(execution.logits), -1)


class _Execution:
    """Stored tensors while operations run.

    Attributes:
        stored: By name, each with its ring and with zeros in the channels that mean nothing.
        logits: int32 ``[N, 1, 1, classes]``, at the end.
    """

    def __init__(self, network: IntegerNetwork, requantization: Requantization) -> None:
        self.tensors = network.tensors
        self.requantization = requantization
        self.stored: dict[str, Stored] = {}
        self.logits: Int32 = np.zeros((0, 1, 1, 0), np.int32)

    def execute(self, operation: Operation) -> None:
        match operation:
            case Convolution():
                self._convolve(operation)
            case Add():
                self._write_sum(operation.outputs, *(self._centred(name) for name in operation.sources))
            case Multiply():
                self._requantize(operation.outputs, self._centred(operation.left) * self._centred(operation.right))
            case AveragePool():
                self._average(operation)
            case MaxPool():
                self._largest(operation)
            case Lookup():
                codes = self._pixels(operation.source)
                for name, table in zip(operation.targets, operation.tables, strict=True):
                    self._store(name, table[codes])
            case Copy():
                self._copy(operation)

    def write(self, name: str, value: Whole) -> None:
        """Store integers without their zero point, saturated; logits do not saturate."""
        bounds = self.tensors[name].bounds
        if bounds is None:
            self.logits = to_int32(value)
        else:
            self._store(name, bounds.saturate(value))

    def _store(self, name: str, codes: NDArray[np.uint8]) -> None:
        self.stored[name] = _framed(self.tensors[name], codes)

    def _pixels(self, name: str, start: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None) -> Stored:
        """Rows and columns of a tensor, those of its ring included where they are asked for."""
        image = self.tensors[name].image
        height, width = size or (image.height, image.width)
        top, left = start[0] + image.ring[0], start[1] + image.ring[1]
        return self.stored[name][:, top : top + height, left : left + width, : image.channels]

    def _centred(self, name: str) -> Int32:
        """Integers of a tensor less its zero point."""
        return self._pixels(name).astype(np.int32) - self.tensors[name].zero_point

    def _image(self, outputs: tuple[Output, ...]) -> Image:
        return self.tensors[outputs[0].tensor].image

    def _requantize(self, outputs: tuple[Output, ...], accumulator: Int32) -> None:
        for output in outputs:
            self.write(output.tensor, requantize(accumulator, output.scale, self.requantization))

    def _write_sum(self, outputs: tuple[Output, ...], left: Int32, right: Int32) -> None:
        for output in outputs:
            ratios = fixed_ratios(output.scale.item(), output.right_scale)
            self.write(output.tensor, round_sum(left, right, ratios))

    def _windowed(self, source: str, window: Window, image: Image) -> Stored:
        """The pixels that the windows of an output image cover."""
        start = -window.padding[0], -window.padding[1]
        return self._pixels(source, start, window.reach((image.height, image.width)))

    def _convolve(self, operation: Convolution) -> None:
        window = operation.window
        accumulator = convolve(
            self._windowed(operation.source, window, self._image(operation.outputs)),
            operation.weight,
            operation.bias,
            stride=window.stride,
            dilation=window.dilation,
            groups=operation.groups,
        )
        residual = operation.residual
        if residual is None:
            self._requantize(operation.outputs, accumulator)
            return
        left = residual.bounds.saturate(requantize(accumulator, residual.scale, self.requantization))
        centred = left.astype(np.int32) - residual.bounds.zero_point
        self._write_sum(operation.outputs, centred, self._centred(residual.source))

    def _average(self, operation: AveragePool) -> None:
        codes = self._windowed(operation.source, operation.window, self._image(operation.outputs))
        centred = codes.astype(np.int32) - self.tensors[operation.source].zero_point
        self._requantize(operation.outputs, sum_windows(centred, operation.window.kernel, operation.window.stride))

    def _largest(self, operation: MaxPool) -> None:
        window, pixels = operation.window, self._pixels(operation.source)
        target = self.tensors[operation.target].image
        rows, columns = window.reach((target.height, target.width))
        top, left = window.padding
        bottom, right = max(0, rows - top - pixels.shape[1]), max(0, columns - left - pixels.shape[2])
        # 0 is never larger than a value of the image
        padded = np.pad(pixels, ((0, 0), (top, bottom), (left, right), (0, 0)))[:, :rows, :columns]
        self._store(operation.target, max_windows(padded, window.kernel, window.stride))

    def _copy(self, operation: Copy) -> None:
        tensor = self.tensors[operation.target]
        image = tensor.image
        batch = len(self.stored[operation.parts[0].source])
        codes = np.full((batch, image.height, image.width, image.channels), tensor.zero_point, np.uint8)
        for part in operation.parts:
            size = Window((1, 1), part.stride).reach((image.height, image.width))
            pixels = self._pixels(part.source, (part.row, part.column), size)[:, :: part.stride[0], :: part.stride[1]]
            kept = pixels[..., part.channel : part.channel + part.channels]
            codes[..., part.target_channel : part.target_channel + part.channels] = kept
        self._store(operation.target, codes)
