"""Capture: the graph computes what the module computes, and its layers and reads are what the module's code says."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from cost_models import LayerSpec
from hwsearch.graph import CaptureError, Network, Read, capture
from hwsearch.networks import DSCNN, CifarResNet, InceptionV3, MobileNetV2, ResNet


def warmed_up(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """In evaluation mode, with random affine parameters of batch norms and the statistics of random inputs."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
            part.momentum = 1.0
    module.train()(torch.randn(8, *shape))
    return module.eval()


def check_equal(module: nn.Module, shape: tuple[int, ...]) -> Network:
    """The captured graph gives the module's logits on other batch sizes than it was captured with."""
    network = capture(module, torch.zeros(2, *shape))
    for batch in (5, 1):
        inputs = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = module(inputs)
            logits = network.graph(inputs)
        if batch > 1:
            assert (expected.std(0) > 0).any()  # otherwise the comparison says nothing
        # Folding rounds each weight once more and changes the order of float32 operations, in every layer.
        torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    return network


class Mixed(nn.Module):
    """One of everything that common convolutional networks hold, for ``[N, 3, 16, 24]``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.grouped = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1, groups=4), nn.BatchNorm2d(12), nn.ReLU6())
        self.depthwise = nn.Conv2d(12, 12, (3, 5), padding=(1, 2), groups=12, bias=False)
        self.bn = nn.BatchNorm2d(12)
        self.dilated = nn.Conv2d(12, 12, 3, padding=(2, 3), dilation=(2, 3))
        self.wide = nn.Conv2d(12, 8, (1, 7), padding="same")
        self.pool = nn.MaxPool2d(2)
        self.twice = nn.Conv2d(8, 8, 1)
        self.dropout = nn.Dropout()
        self.fc = nn.Linear(24, 16)
        self.fc_bn = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # [N, 8, 8, 12]
        y = F.relu6(self.bn(self.depthwise(self.grouped(x))))
        y = self.wide(F.relu(self.dilated(y)))
        y += x
        y = self.pool(F.relu(y, inplace=True))  # [N, 8, 4, 6]
        y = self.twice(self.twice(y))
        y = torch.cat([y, F.avg_pool2d(y, 3, 1, 1), F.adaptive_avg_pool2d(y, 1).expand_as(y)], 1)  # [N, 24, 4, 6]
        y = self.fc(self.dropout(F.adaptive_max_pool2d(y, 1).flatten(1)))
        return self.head(F.relu(self.fc_bn(y)))


MIXED = (3, 16, 24)


@pytest.fixture(scope="module")
def mixed() -> Network:
    return check_equal(warmed_up(Mixed(), MIXED), MIXED)


def test_the_graph_equals_the_module_on_any_batch_size(mixed):
    assert mixed.graph(torch.zeros(3, *MIXED)).shape == (3, 5)


def test_the_graph_runs_in_any_memory_layout():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PixelShuffle(2), nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(200, 3))
    network = capture(module.eval(), torch.zeros(2, 3, 8, 8))
    inputs = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = network.graph(inputs)
    network.graph.to(memory_format=torch.channels_last)
    # Layouts have kernels of their own, which add in other orders.
    torch.testing.assert_close(network.graph(inputs.to(memory_format=torch.channels_last)), logits)


def test_layers_have_the_shapes_of_their_modules(mixed):
    small, large = (4, 6), (8, 12)
    expected = [
        LayerSpec("stem.0", "conv2d", 3, 8, (3, 3), (2, 2), (1, 1), in_size=(16, 24), out_size=large),
        LayerSpec("grouped.0", "conv2d", 8, 12, (3, 3), padding=(1, 1), groups=4, in_size=large, out_size=large),
        LayerSpec("depthwise", "conv2d", 12, 12, (3, 5), padding=(1, 2), groups=12, in_size=large, out_size=large),
        LayerSpec("dilated", "conv2d", 12, 12, (3, 3), (1, 1), (2, 3), (2, 3), in_size=large, out_size=large),
        LayerSpec("wide", "conv2d", 12, 8, (1, 7), padding=(0, 3), in_size=large, out_size=large),
        LayerSpec("twice", "conv2d", 8, 8, in_size=small, out_size=small),
        LayerSpec("twice__2", "conv2d", 8, 8, in_size=small, out_size=small),
        LayerSpec("fc", "linear", 24, 16),
        LayerSpec("head", "linear", 16, 5),
    ]
    assert list(mixed.layers) == expected


def test_strides_and_paddings_keep_their_axes():
    conv = nn.Conv2d(3, 4, (5, 2), stride=(3, 1), padding=(2, 0), bias=False)
    (layer,) = capture(nn.Sequential(conv, nn.Flatten()), torch.zeros(2, 3, 10, 7)).layers
    expected = LayerSpec("0", "conv2d", 3, 4, (5, 2), (3, 1), (2, 0), in_size=(10, 7), out_size=(4, 6), bias=False)
    assert layer == expected


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        pytest.param(DSCNN(), (1, 49, 10), id="DSCNN"),
        pytest.param(MobileNetV2("cifar", 10), (3, 32, 32), id="MobileNetV2", marks=pytest.mark.slow),
        pytest.param(ResNet(18, "cifar", 10), (3, 32, 32), id="ResNet-18", marks=pytest.mark.slow),
        pytest.param(InceptionV3("cifar", 10), (3, 32, 32), id="Inception-v3", marks=pytest.mark.slow),
    ],
)
def test_own_networks_are_captured_exactly(network, shape):
    check_equal(warmed_up(network, shape), shape)


def test_resnet_20_is_captured_exactly_and_has_the_macs_of_its_closed_form():
    # He et al. 2016, section 4.2, with n = 3: a 3x3 convolution to 16 channels, then three stages of 2n 3x3 convolutions
    # of 16, 32, 64 channels on 32, 16, 8 pixels. Channels double where pixels halve, so that all convolutions cost the
    # same but the first of a later stage, which has half the input channels.
    one = 9 * 16 * 16 * 32 * 32
    expected = 9 * 3 * 16 * 32 * 32 + 6 * one + 2 * (one // 2 + 5 * one) + 64 * 10
    assert expected == 40_551_040
    network = check_equal(warmed_up(CifarResNet(20), (3, 32, 32)), (3, 32, 32))
    assert sum(layer.macs for layer in network.layers) == expected


class Encoder(nn.Module):
    """One block of a vision transformer with a class token."""

    def __init__(self, *, need_weights: bool) -> None:
        super().__init__()
        self.need_weights = need_weights  # False takes torch's fused attention, True the one in single steps
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, dropout=0.1, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)  # [N, 16, 8, 8] -> [N, 64, 16]
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=self.need_weights)[0]
        return self.head((x + self.mlp(x))[:, 0])


@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_is_captured_with_its_projections_as_layers(need_weights):
    torch.manual_seed(0)
    encoder = Encoder(need_weights=need_weights).eval()
    network = check_equal(encoder, (3, 32, 32))
    layers = {layer.name: layer for layer in network.layers}
    assert list(layers) == ["patches", "attention.in_proj", "attention.out_proj", "mlp.0", "mlp.3", "head"]
    tokens = (65, 1)
    assert layers["attention.in_proj"] == LayerSpec(
        "attention.in_proj", "linear", 16, 48, in_size=tokens, out_size=tokens
    )
    assert layers["mlp.0"].macs == 65 * 16 * 32
    assert layers["head"].macs == 16 * 5


def test_torch_encoders_are_captured_without_the_fused_path_of_frozen_weights():
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    network = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.Flatten(2), nn.Linear(16, 16), block, nn.Flatten())
    check_equal(network.requires_grad_(False).eval(), (3, 16, 16))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x) + x)
        return self.fc(x.mean((2, 3)))


def test_layers_read_their_inputs_and_sums_and_means_read_for_no_layer():
    network = capture(Residual(), torch.zeros(2, 3, 8, 8))
    nodes = {node.name: node for node in network.graph.graph.nodes}
    sum_node = next(name for name, node in nodes.items() if node.target == torch.ops.aten.add.Tensor)
    mean_node = next(name for name, node in nodes.items() if node.target == torch.ops.aten.mean.dim)
    first, second, fc = (network.nodes[name] for name in ("conv1", "conv2", "fc"))
    rectified = nodes[second].args[0].name
    assert set(network.reads) == {
        Read("x", first, "conv1"),
        Read(rectified, second, "conv2"),
        Read(rectified, sum_node, None),
        Read(second, sum_node, None),
        Read(nodes[mean_node].args[0].name, mean_node, None),
        Read(mean_node, fc, "fc"),
    }
    assert nodes[rectified].target == torch.ops.aten.relu.default
    assert nodes[nodes[mean_node].args[0].name].target == torch.ops.aten.relu.default


def test_concatenated_tensors_are_read_once_by_their_reader():
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(F.max_pool2d(torch.cat([self.a(x), F.relu(self.b(x))], 1), 2)).flatten(1)

    network = capture(Branches(), torch.zeros(2, 3, 8, 8))
    pooled = network.node("c").args[0].name
    assert {(read.tensor, read.layer) for read in network.reads} == {("x", "a"), ("x", "b"), (pooled, "c")}


def test_capture_leaves_modes_weights_and_statistics_of_the_module_alone():
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten()]
    module = nn.Sequential(*layers).train()
    module[1].eval()  # a frozen batch norm in a network that is being trained
    module[3].requires_grad_(False)
    modes = [part.training for part in module.modules()]
    needs_grad = [parameter.requires_grad for parameter in module.parameters()]
    state = copy.deepcopy(module.state_dict())
    capture(module, torch.randn(2, 3, 8, 8))
    assert [part.training for part in module.modules()] == modes
    assert [parameter.requires_grad for parameter in module.parameters()] == needs_grad
    assert module.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_the_network_does_not_share_memory_with_the_module():
    module = Residual().eval()
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network = capture(module, inputs)
    before = network.graph(inputs)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(network.graph(inputs), before)


def test_calls_of_one_module_are_layers_with_weights_of_their_own(mixed):
    first, second = mixed.weight("twice"), mixed.weight("twice__2")
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()


def test_names_are_those_of_modules_whatever_holds_their_weights():
    class Names(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
            self.pruned = prune.l1_unstructured(nn.Conv2d(4, 4, 3), "weight", 0.5)
            self.conv_ = nn.Conv2d(4, 4, 3)
            self.weight = nn.Parameter(torch.randn(2, 4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv_(self.pruned(self.normed(x))).mean((2, 3))
            return F.linear(x, self.weight)

    network = capture(Names(), torch.zeros(2, 3, 8, 8))
    assert [layer.name for layer in network.layers] == ["normed", "pruned", "conv_", "layer"]
    assert (network.weight("pruned") == 0).sum() == 4 * 4 * 9 / 2  # the weights as they are used


def test_layers_that_compute_a_constant_are_no_layers():
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Linear(2, 6)
            self.conv = nn.Conv2d(3, 6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return (self.conv(x) + self.position(torch.ones(1, 2)).view(1, 6, 1, 1)).mean((2, 3))

    torch.manual_seed(0)
    module = Constant().eval()
    assert [layer.name for layer in capture(module, torch.zeros(2, 3, 4, 4)).layers] == ["conv"]
    check_equal(module, (3, 4, 4))


def channels_first_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)


def squeeze_excite(x: Tensor) -> Tensor:
    return x * F.hardsigmoid(x.mean((2, 3), keepdim=True))


OPERATORS = [
    lambda x: F.hardswish(F.silu(F.elu(F.leaky_relu(x, 0.1)))) + torch.tanh(torch.sigmoid(x)),
    lambda x: F.mish(F.selu(F.celu(x))) + F.softplus(x) + F.prelu(x, torch.tensor([0.2])),
    lambda x: torch.maximum(x.clamp(min=-0.5), x.clamp(-1, 0.2)) + x.clamp(max=0.1),
    lambda x: (1 - x / 2) * 3 - x**2,
    lambda x: F.channel_shuffle(x, 2),
    lambda x: torch.stack(x.chunk(2, 1)[::-1], 1).flatten(1, 2),
    lambda x: x[:, [0, 2, 1, 3]].flip(3),
    lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2),
    lambda x: F.pad(F.pad(x, (1, 1, 1, 1), mode="reflect"), (0, 2)),
    lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1),
    lambda x: F.group_norm(F.instance_norm(x), 2) + channels_first_norm(x),
    lambda x: F.interpolate(F.interpolate(x, scale_factor=2), size=(5, 7), mode="bilinear"),
    squeeze_excite,
    lambda x: x.amax((2, 3)) + x.sum((2, 3)),
]


def test_usual_operators_are_understood():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return torch.cat([operator(x).flatten(1) for operator in OPERATORS], 1)

    torch.manual_seed(0)
    check_equal(Net().eval(), (3, 6, 6))


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)


def refused(module: nn.Module, *shape: int) -> str:
    with pytest.raises(CaptureError) as error:
        capture(module, torch.zeros(2, *(shape or (3, 8, 8))))
    return str(error.value)


def test_control_flow_that_depends_on_data_is_refused_with_its_line():
    class Branch(Conv):
        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            if x.sum() > 0:
                x = -x
            return x.mean((2, 3))

    message = refused(Branch())
    assert message.startswith("torch.export can't capture Branch: Could not guard on data-dependent expression")
    assert message.endswith("if x.sum() > 0:") and "test_capture.py:" in message


def test_an_unknown_operator_is_named_with_its_module_and_line():
    class Audio(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv1d(3, 4, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).mean(2)

    message = refused(Audio(), 3, 16)
    assert message.startswith("Operator 'aten.conv1d.default' in 'body.0' (File ")
    assert "test_capture.py" in message
    assert "hwsearch quantizes conv2d and linear layers" in message


def test_batch_norm_without_statistics_is_refused():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    assert refused(module).startswith("Operator 'aten._native_batch_norm_legit.no_stats' in '1'")


def test_two_inputs_are_refused():
    class Two(Conv):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.conv(x + y).mean((2, 3))

    message = refused(Two())
    assert message.startswith("hwsearch captures networks with one input; Two.forward(x: ")
    assert message.endswith("missing a required argument: 'y'.")


def test_an_optional_second_input_is_left_out():
    class Optional(Conv):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return self.conv(x if mask is None else x * mask).mean((2, 3))

    check_equal(Optional().eval(), (3, 8, 8))


def test_a_network_without_layers_is_refused():
    class Unused(Conv):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) + self.conv(torch.ones(1, 3, 3, 3)).sum()

    nothing = "has no conv2d or linear layer, so there is nothing to quantize."
    assert refused(nn.Sequential(nn.Flatten(), nn.ReLU())) == f"Sequential {nothing}"
    assert refused(Unused()) == f"Unused {nothing}"


def test_outputs_that_are_no_tensor_are_refused():
    class Wrapped(Conv):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.conv(x).mean((2, 3))}

    assert refused(Wrapped()) == "The network returns a dict; return the logits alone, [N, classes]."


def test_a_fixed_batch_size_is_refused():
    class Fixed(Conv):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).view(2, -1)

    assert refused(Fixed()) == (
        "torch.export can't capture Fixed: its code works for one batch size only; take that from x.shape[0], not len(x), or "
        "write -1 in a view."
    )


def test_an_input_of_the_wrong_shape_is_refused():
    message = refused(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), 1, 8, 8)
    assert "expected input" in message and "to have 3 channels, but got 1 channels instead" in message


def test_weights_that_depend_on_the_input_are_refused():
    class Dynamic(Conv):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.conv(x)[:1, :3, :3, :3]).flatten(1)

    message = refused(Dynamic())
    assert message.startswith("The weights of 'aten.conv2d.default' in 'the top level' (File ")
    assert message.endswith("are computed from the network's input.")
