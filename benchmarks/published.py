"""Published figures as layers, networks and measurements, for benchmarks and tests."""

import json
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import nn

from cost_models import LayerSpec, NetworkSpec, Precision
from cost_models.calibrate import Measurement
from hwsearch.graph import capture
from hwsearch.networks import DSCNN, MobileNetV1, MobileNetV2, ResNet, ResNet8, VisualWakeWords

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT.parent / "shared" / "fixtures"


def table(name: str) -> pd.DataFrame:
    """A CSV of published figures."""
    return pd.read_csv(FIXTURES / name, comment="#")


def device_file(name: str) -> dict[str, Any]:
    """The fields of a shipped device."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "hardware" / f"{name}.yaml").read_text())
    return content


@cache
def spec(build: type[nn.Module], *arguments: Any, shape: tuple[int, ...]) -> NetworkSpec:
    """A network as cost models see it."""
    return capture(build(*arguments), torch.zeros(1, *shape)).spec


def uniform(network: NetworkSpec, bits: int) -> dict[str, Precision]:
    """One width everywhere."""
    return {layer.name: Precision(bits, bits) for layer in network.layers}


def perceptron(widths: Sequence[int]) -> NetworkSpec:
    """Linear layers from one width to the next."""
    return NetworkSpec.chain([LayerSpec(f"fc{i}", "linear", *pair) for i, pair in enumerate(pairwise(widths))])


BOARDS = {
    "NUCLEO-L4R5ZI": "stm32l4r5_xcubeai",
    "NUCLEO-U575ZI-Q": "stm32u575_xcubeai",
    "NUCLEO-H7A3ZI-Q": "stm32h7a3_xcubeai",
}


def tiny(board: str) -> list[Measurement]:
    """MLPerf Tiny: the four networks on a board."""
    networks = {
        "image_classification": spec(ResNet8, shape=(3, 32, 32)),
        "visual_wake_words": spec(VisualWakeWords, shape=(3, 96, 96)),
        "keyword_spotting": spec(DSCNN, shape=(1, 49, 10)),
        "anomaly_detection": perceptron([640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]),
    }
    rows = table("mlperf_tiny_v1_1.csv")
    measurements = []
    for row in rows[rows["board"] == board].itertuples():
        network = networks[row.network]
        assert sum(layer.macs for layer in network.layers) == row.macs
        measurements.append(Measurement(row.network, network, uniform(network, 8), row.latency_ms / 1e3))
    return measurements


def kernels() -> list[Measurement]:
    """Tuned TVM kernels of ResNet18; the logs time a batch of 8."""
    measurements = []
    for row in table("hawq_t4_kernels_resnet18.csv").itertuples():
        side = (row.h_padded - row.k) // row.stride + 1
        layer = LayerSpec(
            *("conv", "conv2d", row.cin, row.cout, (row.k, row.k), (row.stride, row.stride)),
            in_size=(row.h_padded, row.h_padded),
            out_size=(side, side),
        )
        for bits, microseconds in ((4, row.int4_us), (8, row.int8_us)):
            group = f"{row.h_padded} {row.cin} {row.cout} {row.k}"
            measurements.append(Measurement(group, layer, {"conv": Precision(bits, bits)}, microseconds / 8e6))
    return measurements


# Speed-ups of HAWQ-V3's ResNet18 over its 9.7 ms in float32 (batch 8), by bit configuration.
SPEEDUPS = {
    **{"modelsize_0.75": 3.09, "modelsize_0.5": 3.18, "modelsize_0.25": 3.24},
    **{"bops_0.75": 3.36, "bops_0.5": 3.63, "bops_0.25": 4.05},
    **{"latency_0.75": 3.36, "latency_0.5": 3.57, "latency_0.25": 4.05},
}


def hawq_networks() -> list[Measurement]:
    """Latencies of ResNet18, nine of them at mixed precisions, and of ResNet50 on a T4."""
    published = json.loads((FIXTURES / "hawq_v3_resnet18.json").read_text())["published"]
    networks = {depth: spec(ResNet, depth, shape=(3, 224, 224)) for depth in (18, 50)}

    def measurement(depth: int, bits: list[int], milliseconds: float) -> Measurement:
        network = networks[depth]
        first, *inner, last = [layer.name for layer in network.layers]
        # HAWQ lists a block's convolutions before its downsampling; first and last layer have 8 bits
        config = {name: Precision(b, b) for name, b in zip(sorted(inner), bits, strict=True)}
        config |= {first: Precision(8, 8), last: Precision(8, 8)}
        return Measurement(f"resnet{depth}", network, config, milliseconds / 1e3 / 8)

    mixed = [
        measurement(18, [int(bit) for bit in published[f"bit_config_resnet18_{name}"]], 9.7 / speedup)
        for name, speedup in SPEEDUPS.items()
    ]
    uniforms = [(18, 8, 3.3), (18, 4, 9.7 / 4.44), (50, 8, 8.5), (50, 4, 5.8)]
    return mixed + [measurement(depth, [bits] * (19 if depth == 18 else 52), ms) for depth, bits, ms in uniforms]


def vgg(convolutions: list[int]) -> NetworkSpec:
    """Simonyan and Zisserman 2015: so many 3x3 convolutions between two poolings."""
    channels = [3, *(c for c, n in zip((64, 128, 256, 512, 512), convolutions, strict=True) for _ in range(n))]
    sides = [224 // 2**stage for stage, n in enumerate(convolutions) for _ in range(n)]
    layers = [
        LayerSpec(f"conv{i}", "conv2d", *pair, (3, 3), padding=(1, 1), in_size=(side, side), out_size=(side, side))
        for i, (pair, side) in enumerate(zip(pairwise(channels), sides, strict=True))
    ]
    return NetworkSpec.chain([*layers, *perceptron([512 * 49, 4096, 4096, 1000]).layers])


def edge_tpu_networks() -> list[Measurement]:
    """Milliseconds on USB 3: coral.ai, Edge TPU performance benchmarks."""
    milliseconds = {
        "MobileNet V1": (spec(MobileNetV1, 1.0, shape=(3, 224, 224)), 2.4),
        "MobileNet V2": (spec(MobileNetV2, shape=(3, 224, 224)), 2.6),
        "ResNet-50": (spec(ResNet, 50, shape=(3, 299, 299)), 49),
        "VGG16": (vgg([2, 2, 3, 3, 3]), 296),
        "VGG19": (vgg([2, 2, 4, 4, 4]), 308),
    }
    return [Measurement(name, n, uniform(n, 8), ms / 1e3) for name, (n, ms) in milliseconds.items()]


def haq_layer(row: Any) -> LayerSpec:
    """The layer of a row of HAQ's table."""
    depthwise = row.kind == "dw"
    side = row.in_hw // row.stride
    return LayerSpec(
        *("layer", "linear" if row.kind == "fc" else "conv2d", row.in_channels, row.out_channels),
        kernel=(row.kernel, row.kernel),
        stride=(row.stride, row.stride),
        padding=(row.kernel // 2, row.kernel // 2),
        groups=row.in_channels if depthwise else 1,
        in_size=(row.in_hw, row.in_hw),
        out_size=(side, side),
    )


# in_channels, out_channels, output side, kernel, stride, activation_bits, weight_bits of every layer in the fixture.
# Source: bitfusion/src/benchmarks/benchmarks.py of the repository; AlexNet and ResNet18 are the 2x wide WRPN variants.
BIT_FUSION_SHAPES = {
    "AlexNet": {
        "conv1_a conv1_b": (3, 96, 55, 11, 4, 8, 8),
        "conv2_a conv2_b": (96, 256, 28, 5, 1, 4, 4),
        "conv3_a conv3_b": (512, 384, 14, 3, 1, 4, 4),
        "conv4_a conv4_b": (384, 384, 14, 3, 1, 4, 4),
        "conv5_a conv5_b": (384, 256, 14, 3, 1, 4, 4),
        "fc1": (18432, 8192, 1, 1, 1, 4, 4),
        "fc2": (8192, 8192, 1, 1, 1, 4, 4),
        "fc3": (8192, 1000, 1, 1, 1, 8, 8),
    },
    "SVHN": {
        "conv0": (3, 64, 32, 3, 1, 8, 1),
        "conv1": (64, 64, 32, 3, 1, 1, 1),
        "conv2": (64, 128, 16, 3, 1, 1, 1),
        "conv3": (128, 128, 16, 3, 1, 1, 1),
        "conv4": (128, 256, 8, 3, 1, 1, 1),
        "conv5": (256, 256, 8, 3, 1, 1, 1),
        "fc6": (4096, 1024, 1, 1, 1, 1, 1),
        "fc7": (1024, 1024, 1, 1, 1, 1, 1),
        "fc8": (1024, 10, 1, 1, 1, 1, 1),
    },
    "CIFAR10": {
        "conv0": (3, 128, 32, 3, 1, 8, 8),
        "conv1": (128, 128, 32, 3, 1, 2, 2),
        "conv2": (128, 256, 16, 3, 1, 2, 2),
        "conv3": (256, 256, 16, 3, 1, 2, 2),
        "conv4": (256, 512, 8, 3, 1, 2, 2),
        "conv5": (512, 512, 8, 3, 1, 2, 2),
        "fc6": (8192, 1024, 1, 1, 1, 2, 2),
        "fc7": (1024, 1024, 1, 1, 1, 2, 2),
        "fc8": (1024, 10, 1, 1, 1, 2, 2),
    },
    "LeNet-5": {
        "conv0": (1, 32, 32, 5, 1, 2, 2),
        "conv1": (32, 64, 16, 5, 1, 2, 2),
        "fc1": (4096, 512, 1, 1, 1, 2, 2),
        "fc2": (512, 10, 1, 1, 1, 2, 2),
    },
    "VGG-7": {
        "conv1_a conv1_b": (3, 128, 32, 3, 1, 2, 2),
        "conv2_a conv2_b": (128, 256, 16, 3, 1, 2, 2),
        "conv3_a conv3_b": (256, 512, 8, 3, 1, 2, 2),
        "fc1": (8192, 1024, 1, 1, 1, 2, 2),
    },
    "RESNET-18": {
        "conv1_a": (3, 128, 112, 7, 2, 8, 8),
        "module2/conv2_1_a module2/conv2_2_a": (128, 128, 56, 1, 1, 4, 4),
        "module2/conv2_1_b module2/conv2_2_b": (128, 128, 56, 3, 1, 4, 4),
        "module3/conv3_1_a": (128, 256, 28, 1, 2, 4, 4),
        "module3/conv3_2_a": (256, 256, 28, 1, 1, 4, 4),
        "module3/conv3_1_b module3/conv3_2_b": (256, 256, 28, 3, 1, 4, 4),
        "module4/conv4_1_a": (256, 512, 14, 1, 2, 4, 4),
        "module4/conv4_2_a": (512, 512, 14, 1, 1, 4, 4),
        "module4/conv4_1_b module4/conv4_2_b": (512, 512, 14, 3, 1, 4, 4),
        "module5/conv5_1_a": (512, 1024, 7, 1, 2, 4, 4),
        "module5/conv5_2_a": (1024, 1024, 7, 1, 1, 4, 4),
        "module5/conv5_1_b module5/conv5_2_b": (1024, 1024, 7, 3, 1, 4, 4),
    },
    "RNN": {"matmul": (4096, 4096, 1, 1, 1, 4, 4)},
    "LSTM": {"matmul": (3600, 3600, 1, 1, 1, 4, 4)},
}


def bit_fusion_layer(network: str, layer: str) -> tuple[LayerSpec, Precision]:
    """The row ``network``, ``layer`` of the fixture, such as ``conv1_a/Convolution``."""
    short, op = layer.rsplit("/", 1)
    shape = next(shape for names, shape in BIT_FUSION_SHAPES[network].items() if short in names.split())
    in_channels, out_channels, side, kernel, stride, activation_bits, weight_bits = shape
    spec = LayerSpec(
        layer,
        "linear" if op == "MatMul" else "conv2d",
        in_channels,
        out_channels,
        (kernel, kernel),
        (stride, stride),
        in_size=((side - 1) * stride + kernel,) * 2,
        out_size=(side, side),
    )
    return spec, Precision(weight_bits, activation_bits)
