"""Kernels of what lies between the layers of a network."""

from dataclasses import replace

from cost_models.layer import LayerSpec
from cost_models.network import NetworkSpec, OperatorSpec
from cost_models.tvm.image import Image
from cost_models.tvm.integer import Requantization
from cost_models.tvm.kernels import (
    AddKernel,
    AveragePoolKernel,
    Convolution,
    CopiedPart,
    CopyKernel,
    Epilogue,
    Isa,
    LookupKernel,
    MaxPoolKernel,
    MultiplyKernel,
)
from cost_models.tvm.program import Kernel
from cost_models.tvm.shapes import convolution
from cost_models.tvm.variants import candidates, variants


def fused_layer(operator: OperatorSpec, network: NetworkSpec) -> LayerSpec | None:
    """The layer that an addition is fused into: the last that nobody else reads, if one of its operands is a layer."""
    if operator.op != "add" or len(operator.in_counts) != 2 or operator.in_counts[0] != operator.in_counts[1]:
        return None
    read = [name for names in network.inputs.values() for name in names]
    layers = {layer.name: layer for layer in network.layers}
    candidates = [layers[name] for name in network.inputs[operator.name] if name in layers and read.count(name) == 1]
    return max(candidates, key=list(layers.values()).index, default=None)


def operator_kernel(operator: OperatorSpec, batch: int, requantization: Requantization, isa: Isa) -> Kernel:
    """The kernel of an operator that no layer's kernel does on the way.

    Args:
        operator: Which; its tensors have no rings.
        batch: Images per call.
        requantization: Of the output.
        isa: Of the target.

    Raises:
        ValueError: If there is no integer kernel for it.
    """
    out = Image(*operator.out_size, operator.channels, batch=batch)
    same = Image(*operator.in_size, operator.channels, batch=batch)
    epilogue = Epilogue(operator.channels, (out,), None, requantization)
    match operator.op:
        case "avg_pool2d":
            return AveragePoolKernel(_windows(operator, batch), epilogue, isa)
        case "max_pool2d":
            return MaxPoolKernel(same, out, operator.kernel, operator.stride, operator.padding, isa)
        case "add" if operator.in_counts == (operator.out_count,) * 2:
            return AddKernel(same, replace(epilogue, residual=same), isa)
        case "mul" if len(operator.in_counts) == 2:
            whole = operator.in_counts[1] == operator.out_count
            return MultiplyKernel(out, out if whole else Image(1, 1, operator.channels, batch=batch), epilogue, isa)
        case "add" | "mul" if len(operator.in_counts) == 1:  # with a constant: any function of one value is a table
            return LookupKernel(out, (out,), isa)
        case "lookup":
            return LookupKernel(out, (out,), isa)
        case "batch_norm":
            return _scaling(operator, batch, requantization, isa)
        case "concat":
            return CopyKernel(_parts(operator, batch), out)
    raise ValueError(f"No integer kernel computes operator '{operator.name}' of type '{operator.op}'.")


def _scaling(operator: OperatorSpec, batch: int, requantization: Requantization, isa: Isa) -> Kernel:
    """A weight and a bias for each channel: a depthwise 1x1 convolution of bytes, which takes as long in any tiling."""
    channels, size = operator.channels, operator.out_size
    layer = LayerSpec(operator.name, "conv2d", channels, channels, groups=channels, in_size=size, out_size=size)
    shape = convolution(layer, batch, requantization)
    plain, *_ = variants(*shape, isa)
    return candidates(plain, *shape, isa, 1)[0]


def _windows(operator: OperatorSpec, batch: int) -> Convolution:
    """Windows of a pooling, in a ring that holds their padding."""
    ends = [
        max(padding, (out - 1) * stride + kernel - padding - size)
        for out, stride, kernel, padding, size in zip(
            operator.out_size, operator.stride, operator.kernel, operator.padding, operator.in_size, strict=True
        )
    ]
    image = Image(*operator.in_size, operator.channels, (*operator.padding, ends[0], ends[1]), batch)
    return Convolution(
        image,
        operator.out_size,
        operator.channels,
        operator.kernel,
        operator.stride,
        padding=operator.padding,
        groups=operator.channels,
    )


def _parts(operator: OperatorSpec, batch: int) -> tuple[CopiedPart, ...]:
    """Parts of a concatenation along channels."""
    parts, first = [], 0
    for count in operator.in_counts:
        channels = count * operator.channels // operator.out_count
        image = Image(*operator.out_size, channels, batch=batch)
        parts.append(CopiedPart(image, 0, 0, (1, 1), 0, channels, first))
        first += channels
    return tuple(parts)
