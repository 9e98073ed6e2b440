"""Folding of batch norms: the weights that come out, and where nothing may be folded."""

import pytest
import torch
from torch import Tensor, nn

from hwsearch.graph import Network, capture
from hwsearch.graph.ops import BATCH_NORM


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.running_var, 0.1, 4)
            nn.init.normal_(part.running_mean)
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return module.eval()


def batch_norms(network: Network) -> int:
    return sum(node.target == BATCH_NORM for node in network.graph.graph.nodes)


def check_equal(module: nn.Module, network: Network, inputs: Tensor) -> None:
    with torch.no_grad():
        expected = module(inputs)
    # One float32 rounding of each weight and another order of the sums.
    torch.testing.assert_close(network.graph(inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("groups", "bias"), [(1, False), (2, True), (4, False)])
def test_folded_weights_and_bias_follow_equation_14_of_jacob_et_al(groups, bias):
    conv, norm = nn.Conv2d(4, 8, 3, groups=groups, bias=bias), nn.BatchNorm2d(8, eps=1e-2)
    module = randomized(nn.Sequential(conv, norm, nn.Flatten()))
    network = capture(module, torch.zeros(2, 4, 5, 5))
    factor = norm.weight.double() / (norm.running_var.double() + 1e-2).sqrt()
    weight = conv.weight.double() * factor.view(8, 1, 1, 1)
    shift = (conv.bias.double() if bias else 0) - norm.running_mean.double()
    node = network.node("0")
    assert torch.equal(network.weight("0"), weight.float())
    assert torch.equal(network.graph.get_buffer(node.args[2].target), (shift * factor + norm.bias.double()).float())
    assert network.layers[0].bias
    assert batch_norms(network) == 0
    check_equal(module, network, torch.randn(3, 4, 5, 5))


def test_a_batch_norm_without_affine_parameters_is_folded():
    module = randomized(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten()))
    network = capture(module, torch.zeros(2, 3, 5, 5))
    assert batch_norms(network) == 0
    check_equal(module, network, torch.randn(3, 3, 5, 5))


def test_batch_norms_in_a_row_are_all_folded_also_behind_dropout():
    norms = [nn.BatchNorm2d(4), nn.Dropout(), nn.BatchNorm2d(4), nn.Dropout2d(), nn.BatchNorm2d(4, affine=False)]
    module = randomized(nn.Sequential(nn.Conv2d(3, 4, 3), *norms, nn.Flatten()))
    network = capture(module, torch.zeros(2, 3, 5, 5))
    assert batch_norms(network) == 0
    check_equal(module, network, torch.randn(3, 3, 5, 5))


def test_a_convolution_that_is_also_used_elsewhere_keeps_its_batch_norm():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return (self.norm(x) + x).flatten(1)

    module = randomized(Shared())
    network = capture(module, torch.zeros(2, 3, 5, 5))
    assert batch_norms(network) == 1
    assert torch.equal(network.weight("conv"), module.conv.weight)
    check_equal(module, network, torch.randn(3, 3, 5, 5))


def test_each_call_of_a_shared_convolution_is_folded_with_its_own_batch_norm():
    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.conv(self.first(self.conv(x)))).flatten(1)

    module = randomized(Calls())
    network = capture(module, torch.zeros(2, 4, 5, 5))
    assert batch_norms(network) == 0
    assert not torch.equal(network.weight("conv"), network.weight("conv__2"))
    check_equal(module, network, torch.randn(3, 4, 5, 5))


def test_a_batch_norm_before_its_convolution_stays():
    module = randomized(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1), nn.Flatten()))
    network = capture(module, torch.zeros(2, 3, 5, 5))
    assert batch_norms(network) == 1
    check_equal(module, network, torch.randn(3, 3, 5, 5))


def test_a_batch_norm_after_a_linear_layer_is_folded():
    module = randomized(nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4)))
    network = capture(module, torch.zeros(2, 6))
    assert batch_norms(network) == 0
    assert network.layers[0].bias
    check_equal(module, network, torch.randn(5, 6))


@pytest.mark.parametrize("features", [4, 6])
def test_a_batch_norm_over_the_tokens_of_a_linear_layer_stays(features):
    # Torch's channels are dimension 1, here the 4 tokens; with 4 features a wrong fold would go unnoticed by shapes.
    module = randomized(nn.Sequential(nn.Linear(6, features), nn.BatchNorm1d(4), nn.Flatten()))
    network = capture(module, torch.zeros(2, 4, 6))
    assert batch_norms(network) == 1
    check_equal(module, network, torch.randn(5, 4, 6))
