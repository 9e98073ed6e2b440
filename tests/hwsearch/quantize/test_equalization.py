"""Cross-layer equalization: the same function, like ranges."""

import pytest
import torch
from torch import nn

from hwsearch.graph import Network, capture
from hwsearch.quantize import equalize


def captured(*layers: nn.Module) -> Network:
    torch.manual_seed(0)
    network = capture(nn.Sequential(*layers, nn.Flatten()).eval(), torch.zeros(2, 3, 8, 8))
    network.weight("0").mul_(torch.tensor([0.01, 0.1, 1.0, 10.0]).view(4, 1, 1, 1))
    return network


READERS = {
    "plain": nn.Conv2d(4, 6, 3),
    "grouped": nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, groups=4),
    "depthwise with two filters each": nn.Conv2d(4, 8, 3, groups=4),
}


@pytest.mark.parametrize("between", [[nn.ReLU()], [nn.ReLU(), nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2)]])
@pytest.mark.parametrize("reader", READERS)
def test_ranges_of_a_channel_agree_and_the_function_stays(reader, between, caplog):
    network = captured(nn.Conv2d(3, 4, 3), *between, READERS[reader])
    before = network.weight("0").clone()
    found = equalize(network)
    last = found.layers[1]
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.graph(images), network.graph(images), rtol=1e-4, atol=1e-5)
    written = found.weight("0").abs().flatten(1).amax(1)
    assert "Nothing is equalized" not in caplog.text
    columns = found.weight(last.name).abs().view(last.groups, -1, 4 // last.groups, 9)
    torch.testing.assert_close(written, columns.amax((1, 3)).flatten())
    assert torch.equal(network.weight("0"), before)
    assert found.fingerprint != network.fingerprint


@pytest.mark.parametrize(
    "between", [nn.ReLU6(), nn.Sigmoid(), nn.ConstantPad2d(1, 1.0)], ids=["clips", "bends", "pads with ones"]
)
def test_channels_that_cannot_be_scaled_are_left_alone_and_that_is_said(between, caplog):
    network = captured(nn.Conv2d(3, 4, 3), between, nn.Conv2d(4, 6, 3))
    assert torch.equal(equalize(network).weight("0"), network.weight("0"))
    assert "Nothing is equalized: " in caplog.text


def test_a_tensor_with_two_readers_is_left_alone():
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            x = self.first(x).relu()
            return (self.second(x) + x).flatten(1)

    network = capture(Fork().eval(), torch.zeros(2, 3, 5, 5))
    assert torch.equal(equalize(network).weight("first"), network.weight("first"))


def test_channels_of_zeros_keep_finite_weights():
    network = captured(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3))
    network.weight("0")[0] = 0
    network.weight("2")[:, 1] = 0
    found = equalize(network)
    assert all(found.weight(layer.name).isfinite().all() for layer in found.layers)
    assert torch.equal(found.weight("2")[:, 0], network.weight("2")[:, 0])
