"""hwsearch's kernels and networks on this machine, as engines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from peak import peak_kernel, peak_operations
from timing import Engine

from cost_models import BitConfig, LayerSpec, NetworkSpec, Precision
from cost_models.tvm import driver
from cost_models.tvm.cost_model import TvmCpu
from cost_models.tvm.kernels import QuantizeKernel
from cost_models.tvm.kernels.ir import Kernel, store
from cost_models.tvm.measure import Procedure, measure
from cost_models.tvm.operators import fused_layer, operator_kernel
from cost_models.tvm.program import Kernel as AnyKernel
from cost_models.tvm.shapes import convolution
from cost_models.tvm.tuner import Tuner, arguments, fastest_of
from cost_models.tvm.variants import Variant
from hwsearch.lowering import IntegerNetwork
from hwsearch.lowering.compiled import compile_network
from hwsearch.lowering.integer_network import Tensor

TUNER = TvmCpu(name="this machine").tuner
QUICK_TUNER = replace(TUNER, procedure=Procedure(rounds=2, samples=5), budget_s=0.5, tiles=3)


@dataclass(frozen=True)
class Tuned:
    """The fastest kernel of a layer.

    Attributes:
        variant: How it computes.
        engine: One call.
    """

    variant: Variant
    engine: Engine

    @property
    def description(self) -> str:
        """The method and the stored width, e.g. ``dot 4-bit``."""
        return f"{self.variant.method} {self.variant.stored_weight_bits}-bit"


@dataclass(frozen=True)
class Kind:
    """Which kernels may compute a layer.

    Attributes:
        precision: Of the layer.
        methods: Those allowed; none: all.
        stored_wider: Whether weights may be stored in more bits than they have.
    """

    precision: Precision
    methods: tuple[str, ...] = ()
    stored_wider: bool = True

    def allows(self, variant: Variant) -> bool:
        """Whether it is one of them, given that it computes the precision."""
        narrow = self.stored_wider or variant.stored_weight_bits == self.precision.weight_bits
        return narrow and (not self.methods or variant.method in self.methods)


W8A8, W4A8, W2A8 = (Precision(bits, 8) for bits in (8, 4, 2))
NARROW = tuple(Precision(*bits) for bits in ((1, 1), (1, 2), (2, 1), (2, 2)))
W8A8_DIRECT = Kind(W8A8, ("dot", "depthwise"))
BIT_SERIAL = tuple(Kind(precision, ("bit_serial",)) for precision in NARROW)


def tuned(tuner: Tuner, layer: LayerSpec, kind: Kind) -> Tuned:
    """The fastest of the kernels that compute a layer exactly."""
    precision = kind.precision
    timed = tuner.tune(*convolution(layer, 1, "float32"), [precision])
    allowed = {v: t for v, t in timed.items() if kind.allows(v)}
    variant = fastest_of(allowed, precision)
    kernel = timed[variant].kernel
    return Tuned(variant, call(kernel.build("kernel"), arguments(kernel)))


def empty_call() -> Engine:
    """A kernel that writes one byte, with as many arguments as others: what a call costs whatever it computes."""
    names = ("input", "weights", "parameters", "output")
    with (kernel := Kernel("empty", [(name, "uint8", 1) for name in names])) as buffers:
        store(buffers[-1], buffers[0][0], 0, 1)
    return call(kernel.function, [np.zeros(1, np.uint8)] * len(names))


def vnni_peak() -> tuple[Engine, int]:
    """The VNNI instruction alone, and its operations per call."""
    kernel = peak_kernel(TUNER.isa)
    return call(kernel, [np.ones(p.size, p.dtype) for p in driver.parameters(kernel)]), peak_operations(TUNER.isa)


def call(kernel: tvm.tirx.PrimFunc, arrays: Sequence[NDArray[Any]]) -> Engine:
    """A kernel with arguments to compute on."""
    return _engine(driver.compile(driver.standalone(kernel), TUNER.runner.target.attributes), arrays)


def network_engine(network: IntegerNetwork) -> Engine:
    """A compiled network with stored integers to compute on."""
    return _network_engine(network, np.zeros(_input(network).image.size_bytes, np.uint8))


def network_engine_of_floats(network: IntegerNetwork) -> Engine:
    """The same from float images ``[N, C, H, W]``, as onnxruntime takes them: quantization is in its time."""
    tensor = _input(network)
    assert tensor.bounds is not None  # only logits have none
    quantize = QuantizeKernel(tensor.image, "NCHW", TUNER.isa)
    images = np.random.default_rng(0).standard_normal(quantize.pointers()[0][2], np.float32)
    parameters = quantize.constants(tensor.scale, tensor.bounds)["parameters"]
    codes = tvm.runtime.tensor(np.zeros(tensor.image.size_bytes, np.uint8))
    first, second = call(quantize.build("kernel"), [images, parameters, codes]), _network_engine(network, codes)
    return lambda: (first(), second())


def _input(network: IntegerNetwork) -> Tensor:
    (name,) = network.inputs
    return network.tensors[name]


def _network_engine(network: IntegerNetwork, codes: Any) -> Engine:
    compiled = compile_network(network, "float32", TUNER.choose, TUNER.runner)
    program = compiled.program
    workspace, logits = (np.zeros(size, np.uint8) for size in (program.workspace_bytes, program.sizes[network.logits]))
    return _engine(compiled.executable, [codes, program.constants, workspace, logits])


def predicted_s(network: NetworkSpec, config: BitConfig) -> float:
    """Latency as the cost model has it: the sum of measured layers and other operators."""
    device = _device(frozenset(config.values()))
    layers = sum(device.layer_cost(layer, config[layer.name]).latency_s for layer in network.layers)
    return layers + device.network_cost(network, config).latency_s


def sum_and_whole_s(spec: NetworkSpec, config: BitConfig, network: IntegerNetwork) -> tuple[float, float]:
    """The sum of a network's layers and other operators, and the whole network, by the cost model's procedure.

    All of them take turns in the same rounds; the cost model itself adds up what it measured at any time before.
    """
    compiled = compile_network(network, "float32", TUNER.choose, TUNER.runner)
    parts = [*_layer_kernels(spec, config), *_operator_kernels(spec)]
    kernels = list(dict.fromkeys(kernel for _, kernel in parts))
    subjects = [TUNER.subject(kernel) for kernel in kernels]
    *latencies, whole = measure([*subjects, compiled.subject()], TUNER.runner, TUNER.procedure)
    seconds = {kernel: latency.latency_s for kernel, latency in zip(kernels, latencies, strict=True)}
    return sum(sign * seconds[kernel] for sign, kernel in parts), whole.latency_s


def _layer_kernels(spec: NetworkSpec, config: BitConfig) -> Iterator[tuple[int, AnyKernel]]:
    for layer in spec.layers:
        yield 1, TUNER.choose(*convolution(layer, 1, "float32"), config[layer.name])


def _operator_kernels(spec: NetworkSpec) -> Iterator[tuple[int, AnyKernel]]:
    """Of a sum that a layer does on the way, the layer with it less the layer without it."""
    for operator in spec.operators:
        layer = fused_layer(operator, spec)
        if layer is None:
            yield 1, operator_kernel(operator, 1, "float32", TUNER.isa)
            continue
        alone = TUNER.choose(*convolution(layer, 1, "float32"), W8A8)
        yield 1, replace(alone, epilogue=replace(alone.epilogue, residual=alone.epilogue.outputs[0]))
        yield -1, alone


@cache
def _device(precisions: frozenset[Precision]) -> TvmCpu:
    """This machine, which measures no more than it is asked for."""
    widths = zip(*((p.weight_bits, p.activation_bits) for p in precisions), strict=True)
    weight_bits, activation_bits = (tuple(sorted(set(bits))) for bits in widths)
    return TvmCpu(name="this machine", weight_bits=weight_bits, activation_bits=activation_bits)


def _engine(executable: Any, arrays: Sequence[NDArray[Any]]) -> Engine:
    main = TUNER.runner.load(executable)["main"]
    tensors = [array if isinstance(array, tvm.runtime.Tensor) else tvm.runtime.tensor(array) for array in arrays]
    return lambda: main(*tensors)
