"""Where a network is cut into blocks, and that blocks in a row compute the network."""

import pytest
import torch
from torch import Tensor, nn

from hwsearch.graph import Network, capture
from hwsearch.graph.network import parameter
from hwsearch.networks import CifarResNet
from hwsearch.quantize.blocks import block_graph, find_blocks


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.shift = nn.Parameter(torch.ones(4, 1, 1))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.two(self.one(x).relu()) + x * self.shift).relu()
        return self.head(x.mean((2, 3)))


class Viewed(nn.Module):
    """Reads the size of a batch first and uses it last."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        images = x.shape[0]
        x = self.two(self.one(x).relu()).relu()
        return self.head(x.mean((2, 3), keepdim=True)).view(images, -1)


def captured(module: nn.Module, *shape: int) -> Network:
    return capture(module.eval(), torch.zeros(2, *shape))


def computed(network: Network, x: Tensor) -> Tensor:
    """The network block by block, without quantizers."""
    for block in find_blocks(network):
        parameters = []
        for layer in block.layers:
            node = network.node(layer)
            has_bias = len(node.args) > 2 and node.args[2] is not None
            parameters += [network.weight(layer), parameter(network.graph, node, 2) if has_bias else None]
        x = block_graph(network, block, lambda tensor, layer: None)(x, *parameters)
    return x


def test_a_residual_block_is_whole_and_other_layers_are_alone():
    blocks = find_blocks(captured(Residual(), 3, 6, 6))
    assert [block.layers for block in blocks] == [("stem",), ("one", "two"), ("head",)]


def test_a_zero_padded_shortcut_belongs_to_its_block():
    layers = [block.layers for block in find_blocks(captured(CifarResNet(8), 3, 32, 32))]
    inner = [(f"layer{i}.0.conv1", f"layer{i}.0.conv2") for i in (1, 2, 3)]
    assert layers == [("conv1",), *inner, ("linear",)]


def test_the_size_of_a_batch_keeps_no_block_open():
    blocks = find_blocks(captured(Viewed(), 3, 6, 6))
    assert [block.layers for block in blocks] == [("one",), ("two",), ("head",)]


@pytest.mark.parametrize(
    ("make", "shape"), [(Viewed, (3, 6, 6)), (Residual, (3, 6, 6)), (lambda: CifarResNet(8), (3, 32, 32))]
)
def test_blocks_in_a_row_compute_the_network_and_hold_each_layer_once(make, shape):
    torch.manual_seed(0)
    network = captured(make(), *shape)
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(computed(network, images), network.graph(images))
    blocks = find_blocks(network)
    assert [layer for block in blocks for layer in block.layers] == [layer.name for layer in network.layers]


def test_reads_of_layers_and_of_arithmetic_get_their_own_quantizer():
    network = captured(Residual(), 3, 6, 6)
    asked: list[tuple[str, str | None]] = []
    for block in find_blocks(network):
        block_graph(network, block, lambda tensor, layer: asked.append((tensor, layer)))
    assert sorted(asked, key=str) == sorted({(read.tensor, read.layer) for read in network.reads}, key=str)
