"""From a layer's shape to that of a kernel."""

from dataclasses import replace

from cost_models.layer import LayerSpec
from cost_models.tvm.image import Image
from cost_models.tvm.integer import Requantization
from cost_models.tvm.kernels.convolution import Convolution
from cost_models.tvm.kernels.epilogue import Epilogue


def convolution(layer: LayerSpec, batch: int, requantization: Requantization) -> tuple[Convolution, Epilogue]:
    """Kernel shape of a layer whose reader pads as much as the layer itself does.

    Args:
        layer: A convolution, or a linear layer over ``out_size`` positions.
        batch: Images per call.
        requantization: Of the output.

    Raises:
        ValueError: If the layer is neither.
    """
    if layer.op not in ("conv2d", "linear"):
        raise ValueError(f"No kernel computes layer '{layer.name}' of type '{layer.op}'; there are conv2d and linear.")
    ring = _ring(layer)
    image = Image(*layer.in_size, layer.in_channels, ring, batch)
    shape = Convolution(
        image,
        layer.out_size,
        layer.out_channels,
        layer.kernel,
        layer.stride,
        layer.dilation,
        layer.padding,
        layer.groups,
    )
    padding = max(layer.padding)
    out = Image(*layer.out_size, layer.out_channels, (padding,) * 4, batch)
    return flattened(shape, Epilogue(layer.out_channels, (out,), None, requantization))


def _ring(layer: LayerSpec) -> tuple[int, int, int, int]:
    """Padding on all sides; more at the end where the last window reaches beyond it."""
    ends = [
        max(padding, (out - 1) * stride + (kernel - 1) * dilation + 1 - padding - size)
        for out, stride, kernel, dilation, padding, size in zip(
            layer.out_size, layer.stride, layer.kernel, layer.dilation, layer.padding, layer.in_size, strict=True
        )
    ]
    return *layer.padding, ends[0], ends[1]


def flattened(shape: Convolution, epilogue: Epilogue) -> tuple[Convolution, Epilogue]:
    """A 1x1 convolution without rings as one over a single row of all pixels: rows need not fit the tiles."""
    images = [shape.image, *epilogue.outputs, *([epilogue.residual] if epilogue.residual else [])]
    pointwise = shape.kernel == (1, 1) and shape.stride == (1, 1) and shape.padding == (0, 0)
    if not pointwise or any(any(image.ring) for image in images):
        return shape, epilogue
    row = replace(shape, image=_row(shape.image), out_size=(1, _row(shape.image).width))
    outputs = tuple(_row(image) for image in epilogue.outputs)
    return row, replace(epilogue, outputs=outputs, residual=epilogue.residual and _row(epilogue.residual))


def _row(image: Image) -> Image:
    return Image(1, image.batch * image.height * image.width, image.channels)
