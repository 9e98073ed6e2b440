"""Networks and layer shapes that the benchmarks run."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

import hwsearch
from cost_models import LayerSpec
from hwsearch.networks import CifarResNet, MobileNetV2, ResNet

CIFAR, IMAGENET = 32, 224

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet-20": (lambda: CifarResNet(20), CIFAR),
    "ResNet-18": (lambda: ResNet(18), IMAGENET),
    "ResNet-50": (lambda: ResNet(50), IMAGENET),
    "MobileNetV2": (MobileNetV2, IMAGENET),
}
"""Builder and image size by name."""

DENSE = {
    tokens: LayerSpec("dense", "linear", 4096, 4096, in_size=(tokens, 1), out_size=(tokens, 1)) for tokens in (1, 64)
}
"""Linear layers by number of tokens."""


def identifier(name: str) -> str:
    """A network's name in those of ratios: ``resnet20``."""
    return name.lower().replace("-", "")


def network(name: str) -> tuple[nn.Module, Tensor]:
    """A network with random weights, and one image ``[1, 3, H, W]``."""
    build, size = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build().eval()
        with torch.no_grad():
            for part in module.modules():
                if isinstance(part, nn.BatchNorm2d):  # as after training, not the identity
                    nn.init.normal_(part.running_mean, std=0.1)
                    nn.init.uniform_(part.running_var, 0.5, 1.5)
        return module, torch.randn(1, 3, size, size)


def layers_of(name: str) -> tuple[LayerSpec, ...]:
    """Layers of a network, in the order they run."""
    return hwsearch.capture(*network(name)).layers


def distinct(layers: Iterable[LayerSpec]) -> list[LayerSpec]:
    """One layer of every shape, named after the shape."""
    return list(dict.fromkeys(replace(layer, name=shape_name(layer)) for layer in layers))


def shape_name(layer: LayerSpec) -> str:
    """E.g. ``64x56x56 3x3 128 s2``: input, kernel, output channels and stride."""
    if layer.op == "linear":
        return f"{layer.in_size[0]}x{layer.in_channels} linear {layer.out_channels}"
    (height, width), (kh, kw) = layer.in_size, layer.kernel
    out = "depthwise" if layer.depthwise else layer.out_channels
    stride = f" s{layer.stride[0]}" if layer.stride != (1, 1) else ""
    return f"{layer.in_channels}x{height}x{width} {kh}x{kw} {out}{stride}"


def with_kernel(layers: Iterable[LayerSpec], size: int) -> list[LayerSpec]:
    """Dense convolutions whose kernel is ``size x size``."""
    return [layer for layer in layers if layer.kernel == (size, size) and layer.op == "conv2d" and not layer.depthwise]
