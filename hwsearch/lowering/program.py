"""An integer network as kernel calls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cost_models import Precision
from cost_models.tvm import kernels, variants
from cost_models.tvm.image import Image
from cost_models.tvm.integer import Requantization
from cost_models.tvm.kernels import (
    AddKernel,
    AveragePoolKernel,
    CopiedPart,
    CopyKernel,
    Epilogue,
    Isa,
    LookupKernel,
    MaxPoolKernel,
    MultiplyKernel,
    QuantizeKernel,
)
from cost_models.tvm.kernels import Output as StoredOutput
from cost_models.tvm.kernels import Residual as StoredResidual
from cost_models.tvm.kernels.ir import SCRATCH
from cost_models.tvm.program import Call, Program
from cost_models.tvm.variants import LayerKernel, Pack, packed
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
    Residual,
    Tensor,
)
from hwsearch.lowering.window import Window

Choose = Callable[[kernels.Convolution, Epilogue, Precision], LayerKernel]
"""Picks the kernel that computes a layer's shape and precision exactly."""


def program(network: IntegerNetwork, requantization: Requantization, choose: Choose, isa: Isa) -> Program:
    """Kernel calls that compute a network's logits, bit for bit as :func:`hwsearch.lowering.run` does.

    Args:
        network: The integer network; its logits are a tensor of int32.
        requantization: ``"float32"`` or ``"fixed_point"``.
        choose: Picks the kernel of each layer.
        isa: Instructions of the others.
    """
    translation = Translation(network.tensors, requantization, choose, isa)
    calls = [translation.call(operation) for operation in network.operations]
    return Program(calls, network.inputs, (network.logits,))


@dataclass(frozen=True)
class Translation:
    """From an operation to the kernel that computes it and the arrays that it reads.

    Attributes:
        tensors: Every stored tensor by name.
        requantization: ``"float32"`` or ``"fixed_point"``.
        choose: Picks the kernel of each layer.
        isa: Instructions of the others.
        batch: Images per call.
        pack: Lays the weights of layers out.
    """

    tensors: Mapping[str, Tensor]
    requantization: Requantization
    choose: Choose
    isa: Isa
    batch: int = 1
    pack: Pack = packed

    def input(self, name: str, images: str) -> Call:
        """The call that quantizes a tensor of float32 images ``[N, H, W, C]`` to one of the network's inputs."""
        tensor = self.tensors[name]
        assert tensor.bounds is not None  # only logits have none
        kernel = QuantizeKernel(self._image(name), "NHWC", self.isa)
        return Call(kernel, {"input": images, "output": name}, kernel.constants(tensor.scale, tensor.bounds))

    def call(self, operation: Operation) -> Call:
        """The call that computes an operation."""
        match operation:
            case Convolution():
                return self._convolution(operation)
            case AveragePool():
                return self._average_pool(operation)
            case MaxPool():
                return self._max_pool(operation)
            case Add():
                return self._add(operation)
            case Multiply():
                return self._multiply(operation)
            case Copy():
                return self._copy(operation)
            case Lookup():
                return self._lookup(operation)

    def _image(self, name: str) -> Image:
        return replace(self.tensors[name].image, batch=self.batch)

    def _epilogue(self, outputs: Sequence[Output], residual: str | None = None) -> Epilogue:
        images = tuple(self._image(output.tensor) for output in outputs)
        whole = self.tensors[outputs[0].tensor].bounds is None
        return Epilogue(
            images[0].channels,
            images,
            self._image(residual) if residual else None,
            self.requantization,
            "int32" if whole else "uint8",
        )

    def _outputs(self, outputs: Sequence[Output]) -> list[StoredOutput]:
        return [StoredOutput(o.scale, self.tensors[o.tensor].bounds, o.right_scale) for o in outputs]

    def _residual(self, added: Residual | None) -> StoredResidual | None:
        if added is None:
            return None
        return StoredResidual(self.tensors[added.source].zero_point, added.scale, added.bounds)

    def _convolution(self, operation: Convolution) -> Call:
        added = operation.residual
        epilogue = self._epilogue(operation.outputs, added.source if added else None)
        source = self.tensors[operation.source]
        shape = self._windows(operation.source, operation.window, epilogue.outputs[0], operation.groups)
        assert source.bounds is not None  # only logits have none, and nothing reads them
        largest = max(source.bounds.qmax, source.zero_point)  # rings hold the zero point
        bits = operation.weight_bits, largest.bit_length()
        kernel = self.choose(shape, epilogue, Precision(*bits, operation.weight_format))
        outputs = self._outputs(operation.outputs)
        arrays = variants.constants(
            kernel, operation.weight, operation.bias, outputs, self._residual(added), pack=self.pack
        )
        stored = {"input": operation.source, **_numbered("output", [o.tensor for o in operation.outputs])}
        if added:
            stored["residual"] = added.source
        return Call(kernel, stored | _scratch(kernel, operation.name), arrays)

    def _windows(self, source: str, window: Window, out: Image, groups: int) -> kernels.Convolution:
        sizes = (out.height, out.width), out.channels
        fields = window.kernel, window.stride, window.dilation, window.padding
        return kernels.Convolution(self._image(source), *sizes, *fields, groups)

    def _average_pool(self, operation: AveragePool) -> Call:
        epilogue = self._epilogue(operation.outputs)
        out = epilogue.outputs[0]
        shape = self._windows(operation.source, operation.window, out, out.channels)
        kernel = AveragePoolKernel(shape, epilogue, self.isa)
        arrays = kernel.constants(self.tensors[operation.source].zero_point, self._outputs(operation.outputs))
        stored = {"input": operation.source, **_numbered("output", [o.tensor for o in operation.outputs])}
        return Call(kernel, stored, arrays)

    def _max_pool(self, operation: MaxPool) -> Call:
        window = operation.window
        images = self._image(operation.source), self._image(operation.target)
        kernel = MaxPoolKernel(*images, window.kernel, window.stride, window.padding, self.isa)
        arrays = kernel.constants(self.tensors[operation.target].zero_point)
        return Call(kernel, {"input": operation.source, "output": operation.target}, arrays)

    def _add(self, operation: Add) -> Call:
        kernel = AddKernel(self._image(operation.left), self._epilogue(operation.outputs, operation.right), self.isa)
        left, right = (self.tensors[name].zero_point for name in operation.sources)
        arrays = kernel.constants(left, right, self._outputs(operation.outputs))
        stored = {"input": operation.left, "residual": operation.right}
        return Call(kernel, stored | _numbered("output", [o.tensor for o in operation.outputs]), arrays)

    def _multiply(self, operation: Multiply) -> Call:
        images = self._image(operation.left), self._image(operation.right)
        kernel = MultiplyKernel(*images, self._epilogue(operation.outputs), self.isa)
        left, right = (self.tensors[name].zero_point for name in operation.sources)
        arrays = kernel.constants((left, right), self._outputs(operation.outputs))
        stored = {"left": operation.left, "right": operation.right}
        return Call(kernel, stored | _numbered("output", [o.tensor for o in operation.outputs]), arrays)

    def _copy(self, operation: Copy) -> Call:
        parts = tuple(
            CopiedPart(
                self._image(part.source),
                part.row,
                part.column,
                part.stride,
                part.channel,
                part.channels,
                part.target_channel,
            )
            for part in operation.parts
        )
        kernel = CopyKernel(parts, self._image(operation.target))
        stored = {**_numbered("source", operation.sources), "output": operation.target}
        return Call(kernel, stored, kernel.constants(self.tensors[operation.target].zero_point))

    def _lookup(self, operation: Lookup) -> Call:
        targets = tuple(self._image(name) for name in operation.targets)
        kernel = LookupKernel(self._image(operation.source), targets, self.isa)
        arrays = kernel.constants(operation.tables, [self.tensors[name].zero_point for name in operation.targets])
        return Call(kernel, {"input": operation.source, **_numbered("output", operation.targets)}, arrays)


def _numbered(pointer: str, names: Sequence[str]) -> dict[str, str]:
    return {f"{pointer}_{i}": name for i, name in enumerate(names)}


def _scratch(kernel: LayerKernel, layer: str) -> dict[str, str]:
    """Memory that a kernel needs while it runs."""
    return {SCRATCH: f"{layer} scratch"} if SCRATCH in [name for name, _, _ in kernel.pointers()] else {}
