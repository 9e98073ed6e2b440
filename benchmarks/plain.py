"""ResNet-20 fake-quantized the way a user of torch would write it: with torch's own operators, layer by layer."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cost_models import BitConfig
from hwsearch.graph import Network
from hwsearch.graph.network import parameter
from hwsearch.quantize import ActivationGrid, ActivationRanges, LayerDatabase, look_up, quantize_bias

EIGHT = 8


class PlainResNet20:
    """CIFAR ResNet-20 (option A, batch norm folded) at one configuration.

    Quantizes what hwsearch does: weights, each layer's input, and at 8 bits the operands of sums and of the mean.
    """

    def __init__(self, network: Network, database: LayerDatabase, ranges: ActivationRanges, config: BitConfig) -> None:
        tensors = {read.layer: read.tensor for read in network.reads if read.layer}
        grids = {name: ranges[tensors[name], precision.activation_bits] for name, precision in config.items()}
        self._inputs = {name: _quantizer(grid) for name, grid in grids.items()}
        self._others = [_quantizer(ranges[read.tensor, EIGHT]) for read in network.reads if read.layer is None]
        self._weights, self._biases = {}, {}
        for name, precision in config.items():
            weight, bias = look_up(database, name, precision), parameter(network.graph, network.node(name), 2)
            self._weights[name] = weight.dequantize()
            self._biases[name] = quantize_bias(bias, weight, grids[name].scale)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits ``[N, classes]`` of inputs ``[N, 3, 32, 32]``."""
        others = iter(self._others)
        with torch.inference_mode():
            x = F.relu(self._convolve("conv1", x, 1))
            for stage in range(1, 4):
                for block in range(3):
                    name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
                    y = F.relu(self._convolve(f"{name}.conv1", x, stride))
                    y = self._convolve(f"{name}.conv2", y, 1)
                    shortcut = x if stride == 1 else _padded(x)
                    x = F.relu(next(others)(y) + next(others)(shortcut))
            x = next(others)(x).mean((2, 3))
            return F.linear(self._inputs["linear"](x), self._weights["linear"], self._biases["linear"])

    def _convolve(self, name: str, x: Tensor, stride: int) -> Tensor:
        return F.conv2d(self._inputs[name](x), self._weights[name], self._biases[name], stride, 1)


def _padded(x: Tensor) -> Tensor:
    new = x.shape[1]
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, new // 2, new // 2))


def _quantizer(grid: ActivationGrid) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.fake_quantize_per_tensor_affine(x, grid.scale, grid.zero_point, 0, grid.qmax)
