"""From a layer's shape to that of a kernel."""

from dataclasses import replace

from cost_models.layer import LayerSpec
from cost_models.tvm.image import Image
from cost_models.tvm.integer import Requantization
from cost_models.tvm.kernels.epilogue import Epilogue
from cost_models.tvm.kernels.shape import Convolution


def convolution(layer: LayerSpec, batch: int, requantization: Requantization) -> tuple[Convolution, Epilogue]:
    """Canonical kernel of a layer.

    Args:
        layer: A convolution, or a linear layer over ``out_size`` positions.
        batch: Images per call.
        requantization: Of the output.

    Raises:
        ValueError: If the layer is neither.
    """
    if layer.op not in ("conv2d", "linear"):
        raise ValueError(f"No kernel computes layer '{layer.name}' of type '{layer.op}'; there are conv2d and linear.")
    image = Image(*layer.in_size, layer.in_channels, batch=batch)
    shape = Convolution(
        _with_ring(image, layer),
        layer.out_size,
        layer.out_channels,
        layer.kernel,
        layer.stride,
        layer.dilation,
        layer.padding,
        layer.groups,
    )
    return flattened(*canonical(shape, requantization))


def canonical(shape: Convolution, requantization: Requantization) -> tuple[Convolution, Epilogue]:
    """The same convolution with the ring that it needs, one output, whose ring is its own padding, and no sum.

    What a kernel's time hardly depends on is left out, so that it is measured once.
    """
    padding = max(0, *shape.padding)
    out = Image(*shape.out_size, shape.out_channels, (padding,) * 4, shape.image.batch)
    needed = replace(shape, image=_with_ring(shape.image, shape))
    return needed, Epilogue(shape.out_channels, (out,), None, requantization)


def _with_ring(image: Image, window: LayerSpec | Convolution) -> Image:
    """An image in the smallest ring that holds what the windows of a layer reach."""
    ends = [
        max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - padding - size)
        for out, stride, kernel, dilation, padding, size in zip(
            window.out_size,
            window.stride,
            window.kernel,
            window.dilation,
            window.padding,
            (image.height, image.width),
            strict=True,
        )
    ]
    top, left = (max(0, padding) for padding in window.padding)
    return replace(image, ring=(top, left, ends[0], ends[1]))


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
