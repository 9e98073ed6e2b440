"""Fake quantization, against integer arithmetic that is written out here and against the float network."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from cost_models import FLOAT, Precision
from hwsearch.evaluate import FakeQuantNetwork
from hwsearch.evaluate.fake_quantization import ActivationQuantizer
from hwsearch.graph import Network, capture
from hwsearch.networks import DigitsResNet, load_checkpoint
from hwsearch.quantize import (
    ActivationGrid,
    QuantizedWeight,
    build_database,
    calibrate,
    minmax,
    mse,
    requant,
    weight_qmax,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own, when a graph is copied

Ints = NDArray[np.int64]
SHAPE = (3, 4, 4)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x) + x)
        return self.fc(x.mean((2, 3)))


LAYERS = ("conv1", "conv2", "fc")


class Integers:
    """A quantized ``Residual`` in int64. All scales are powers of two, so that float32 loses nothing either.

    A real value is ``S (q - Z)`` or ``S_x S_w acc`` (Jacob et al. 2018, arXiv:1712.05877, eqs. 1 and 4); values are
    requantized by ``q = clamp(round(r / S) + Z)``, ties to even. Padding holds the code of zero.
    """

    def __init__(self, bits: dict[str, tuple[int, int]], seed: int) -> None:
        self.bits = bits
        self.random = np.random.default_rng(seed)
        self.codes: dict[str, Ints] = {}
        self.weight_scales: dict[str, NDArray[np.float64]] = {}
        self.biases: dict[str, Ints] = {}
        shapes = {"conv1": (4, 3, 3, 3), "conv2": (4, 2, 3, 3), "fc": (5, 4)}
        for name, shape in shapes.items():
            qmax = weight_qmax(bits[name][0])
            self.codes[name] = self.random.integers(-qmax, qmax + 1, shape)
            self.weight_scales[name] = 2.0 ** -self.random.integers(4, 7, shape[0])
            self.biases[name] = self.random.integers(-200, 200, shape[0])  # in units of S_x S_w
        self.widths = {"x": bits["conv1"][1], "relu": bits["conv2"][1], "mean": bits["fc"][1]}
        self.grids: dict[str, ActivationGrid] = {}

    def quantize(self, tensor: str, real: NDArray[np.float64]) -> Ints:
        if tensor not in self.grids:
            self.grids[tensor] = self.choose_grid(real, 2 ** self.widths.get(tensor, 8) - 1)
        grid = self.grids[tensor]
        codes = np.rint(real / grid.scale) + grid.zero_point  # exact in float64: a quotient by a power of two
        return np.clip(codes, 0, grid.qmax).astype(np.int64)

    def choose_grid(self, real: NDArray[np.float64], qmax: int) -> ActivationGrid:
        """About the range of most values: some saturate. Also where none is negative, zero may lie above code 0."""
        lo, hi = np.quantile(real, [0.03, 0.97])
        scale = 2.0 ** np.round(np.log2((hi - lo) / qmax))
        zero_point = np.clip(np.rint(-lo / scale) + self.random.integers(0, qmax // 8 + 1), 0, qmax)
        return ActivationGrid(float(scale), int(zero_point), qmax)

    def real(self, tensor: str, codes: Ints) -> NDArray[np.float64]:
        return self.grids[tensor].scale * (codes - self.grids[tensor].zero_point)

    def conv(self, name: str, tensor: str, codes: Ints, groups: int) -> NDArray[np.float64]:
        """3x3, stride 1, padding 1."""
        zero = self.grids[tensor].zero_point
        padded = np.pad(codes, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=zero) - zero
        n, channels, height, width = codes.shape
        weight = self.codes[name]
        sums = np.zeros((n, len(weight), height, width), dtype=np.int64)
        for out in range(len(weight)):
            first = out // (len(weight) // groups) * (channels // groups)
            for i in range(channels // groups):
                for y in range(3):
                    for x in range(3):
                        sums[:, out] += weight[out, i, y, x] * padded[:, first + i, y : y + height, x : x + width]
        return self.scaled(name, tensor, sums, (1, -1, 1, 1))

    def scaled(self, name: str, tensor: str, sums: Ints, shape: tuple[int, ...]) -> NDArray[np.float64]:
        assert np.abs(sums).max() < 2**24  # float32 sums are exact, too
        scale = self.grids[tensor].scale * self.weight_scales[name]
        return (sums + self.biases[name].reshape(shape)) * scale.reshape(shape)

    def logits(self, images: NDArray[np.float64]) -> NDArray[np.float64]:
        first = np.maximum(self.conv("conv1", "x", self.quantize("x", images), 1), 0)
        second = self.conv("conv2", "relu", self.quantize("relu", first), 2)
        left = self.real("conv2", self.quantize("conv2", second))
        right = self.real("relu for the sum", self.quantize("relu for the sum", first))
        total = np.maximum(left + right, 0)
        pooled = self.real("sum", self.quantize("sum", total)).mean((2, 3))  # of 16 values: exact
        codes = self.quantize("mean", pooled)
        sums = (codes - self.grids["mean"].zero_point) @ self.codes["fc"].T
        return self.scaled("fc", "mean", sums, (1, -1))

    def fake(self, network: Network, device: str) -> FakeQuantNetwork:
        """The same integers as the database and the ranges of a fake quantized network."""
        nodes = {read.layer: read.tensor for read in network.reads if read.layer}
        total = next(read.tensor for read in network.reads if read.node == nodes["fc"])
        names = {"x": nodes["conv1"], "relu": nodes["conv2"], "mean": nodes["fc"], "sum": total}
        names |= {"relu for the sum": nodes["conv2"], "conv2": network.nodes["conv2"]}
        ranges = {(names[name], grid.qmax.bit_length()): grid for name, grid in self.grids.items()}
        database = {
            (name, self.bits[name][0], "uniform"): QuantizedWeight(
                torch.from_numpy(self.codes[name]).to(torch.int8), torch.from_numpy(self.weight_scales[name]).float()
            )
            for name in LAYERS
        }
        return FakeQuantNetwork(network, database, ranges, device)


# conv2 reads the tensor that the sum reads at 8 bits, with a grid of its own: its width is another.
WIDTHS = [
    {"conv1": (8, 8), "conv2": (8, 7), "fc": (8, 8)},
    {"conv1": (8, 6), "conv2": (2, 3), "fc": (4, 2)},
    {"conv1": (3, 4), "conv2": (5, 6), "fc": (2, 5)},
    {"conv1": (2, 2), "conv2": (6, 1), "fc": (7, 7)},
]


@pytest.mark.parametrize("seed", [0, 2, 3])
@pytest.mark.parametrize("bits", WIDTHS)
def test_logits_are_those_of_integer_arithmetic(bits, seed, device):
    integers = Integers(bits, seed)
    images = integers.random.integers(-80, 80, (6, *SHAPE)) / 16
    expected = integers.logits(images)
    assert np.ptp(expected, axis=0).any()
    assert np.array_equal(expected, expected.astype(np.float32))  # nothing will be rounded to compare
    module = Residual()
    for name, tensor in zip(LAYERS, ("x", "relu", "mean"), strict=True):
        scale = integers.grids[tensor].scale * integers.weight_scales[name]
        module.get_submodule(name).bias.data = torch.from_numpy(integers.biases[name] * scale).float()
    network = integers.fake(capture(module, torch.zeros(2, *SHAPE)), device)
    network.configure({name: Precision(*bits[name]) for name in LAYERS})
    logits = network(torch.from_numpy(images).float())
    assert torch.equal(logits.cpu(), torch.from_numpy(expected).float())


def test_real_scales_give_integer_sums_up_to_float32_rounding():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()).eval()
    images = torch.randn(4, 3, 6, 6)
    network = capture(module, images)
    database, ranges = build_database(network, requant), calibrate(network, [images], mse)
    fake = FakeQuantNetwork(network, database, ranges)
    for weight_bits, activation_bits in [(2, 2), (4, 8), (8, 4), (8, 8)]:
        fake.configure({"0": Precision(weight_bits, activation_bits)})
        weight, grid = (
            database["0", weight_bits, "uniform"],
            ranges["x" if ("x", 8) in ranges else network.reads[0].tensor, activation_bits],
        )
        codes = torch.round(images / np.float32(grid.scale)).clamp(-grid.zero_point, grid.qmax - grid.zero_point)
        sums = F.conv2d(codes.double(), weight.codes.double())  # whole numbers below 2^53: exact
        assert torch.equal(sums, sums.round())
        step = grid.scale * weight.scale.double()
        bias = torch.round(module[0].bias.detach().double() / step)
        expected = (sums + bias.view(1, -1, 1, 1)) * step.view(1, -1, 1, 1)
        # 27 float32 products, each of a rounded weight and a rounded activation.
        error = (fake(images).double() - expected.flatten(1)).abs().max()
        assert error <= 1e-6 * expected.abs().max()


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20),
    st.integers(1, 8).flatmap(lambda bits: st.tuples(st.just(2**bits - 1), st.integers(0, 2**bits - 1))),
    st.floats(1e-3, 10),
)
def test_the_quantizer_gives_values_of_its_grid_and_keeps_zero(values, codes, scale):
    qmax, zero_point = codes
    quantizer = ActivationQuantizer()
    quantizer.grid = ActivationGrid(scale, zero_point, qmax)
    x = torch.tensor([*values, 0.0])
    before = x.clone()
    found = quantizer(x)
    whole = np.rint(np.array([*values, 0.0], dtype=np.float32) / np.float32(scale)) + zero_point
    expected = (np.clip(whole, 0, qmax) - zero_point).astype(np.float32) * np.float32(scale)
    assert np.array_equal(found.numpy(), expected)
    assert found[-1] == 0
    assert torch.equal(x, before)  # other readers see the tensor as it is


@pytest.fixture(scope="module")
def digits() -> Network:
    return capture(load_checkpoint(DigitsResNet(), "hwsearch.networks:digits.safetensors"), torch.zeros(2, 1, 8, 8))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def fake_network(network: Network, images: Tensor, device: str = "cpu") -> FakeQuantNetwork:
    return FakeQuantNetwork(network, build_database(network, minmax), calibrate(network, [images], minmax), device)


@pytest.fixture(scope="module")
def fake(digits, images) -> FakeQuantNetwork:
    return fake_network(digits, images)


def everywhere(network: Network, weight_bits: int, activation_bits: int) -> dict[str, Precision]:
    return {layer.name: Precision(weight_bits, activation_bits) for layer in network.layers}


def in_its_layout(graph: torch.fx.GraphModule, images: Tensor) -> Tensor:
    """Logits with convolutions on channels-last memory, as in FakeQuantNetwork: other layouts add in other orders."""
    with torch.inference_mode():
        return copy.deepcopy(graph).to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))


def test_the_float_configuration_is_the_float_network_exactly(digits, images, fake):
    fake.configure(everywhere(digits, 32, 32))
    assert torch.equal(fake(images), in_its_layout(digits.graph, images))
    torch.testing.assert_close(fake(images), digits.graph(images))  # in the other layout


def test_a_new_network_is_float(digits, images):
    assert torch.equal(fake_network(digits, images)(images), in_its_layout(digits.graph, images))


def test_float_activations_in_all_layers_leave_sums_and_means_float(digits, images, fake):
    fake.configure(everywhere(digits, 3, 32))
    graph = copy.deepcopy(digits.graph)
    for layer in digits.layers:
        node = digits.node(layer.name)
        graph.get_buffer(str(node.args[1].target)).copy_(fake.database[layer.name, 3, "uniform"].dequantize())
    assert torch.equal(fake(images), in_its_layout(graph, images))


def test_float_weights_leave_activations_quantized(digits, images, fake):
    fake.configure(everywhere(digits, 32, 4))
    with_float_weights = fake(images)
    fake.configure(everywhere(digits, 32, 32))
    assert not torch.equal(with_float_weights, fake(images))


def test_one_layer_with_integer_activations_makes_the_other_tensors_eight_bits(digits, images, fake):
    fake.configure(everywhere(digits, 32, 32))
    plain = fake(images)
    # The last layer's input is the last tensor: with 8 bits it can't be all that changes the logits.
    fake.configure(everywhere(digits, 32, 32) | {"fc": Precision(32, 8)})
    one = fake(images)
    graph = copy.deepcopy(digits.graph)
    (read,) = [read for read in digits.reads if read.layer == "fc"]
    grid = fake.ranges[read.tensor, 8]
    pooled = next(node for node in graph.graph.nodes if node.name == read.tensor)
    with graph.graph.inserting_after(pooled):
        quantizer = ActivationQuantizer()
        quantizer.grid = grid
        graph.add_module("quantizer", quantizer)
        call = graph.graph.call_module("quantizer", (pooled,))
    next(node for node in graph.graph.nodes if node.name == read.node).replace_input_with(pooled, call)
    graph.recompile()
    assert not torch.equal(one, plain)
    assert not torch.equal(one, in_its_layout(graph, images))


def test_configurations_leave_no_trace(digits, images, fake, device):
    network = fake_network(digits, images, device)
    names = [layer.name for layer in digits.layers]
    mixed = {name: Precision(2 + i % 7, 8 - i % 7) for i, name in enumerate(names)}
    configs = [everywhere(digits, 8, 8), mixed, everywhere(digits, 32, 32), everywhere(digits, 4, 32)]
    first = []
    for config in configs:
        network.configure(config)
        first.append(network(images))
        network.configure(dict(reversed(config.items())))  # again, and in another order of the layers
        assert torch.equal(network(images), first[-1])
    for config, logits in zip(reversed(configs), reversed(first), strict=True):
        network.configure(config)
        assert torch.equal(network(images), logits)
    assert len({tuple(logits.flatten().tolist()) for logits in first}) == len(configs)


def test_quantizing_leaves_the_captured_network_alone(digits, images):
    before, fingerprint = digits.graph(images), digits.fingerprint
    network = fake_network(digits, images)
    network.configure(everywhere(digits, 2, 2))
    network(images)
    assert torch.equal(digits.graph(images), before)
    same = Network(digits.graph, digits.layers, digits.nodes, digits.reads)  # fingerprints are computed once
    assert same.fingerprint == fingerprint


def test_calls_of_one_module_may_differ_in_precision():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.relu(self.fc(x)))

    torch.manual_seed(0)
    inputs = torch.rand(8, 6)
    network = capture(Twice(), inputs)
    fake = fake_network(network, inputs)
    fake.configure({"fc": Precision(2, 32), "fc__2": Precision(8, 32)})
    bias = network.graph.get_buffer(str(network.node("fc").args[2].target))
    first = F.relu(F.linear(inputs, fake.database["fc", 2, "uniform"].dequantize(), bias))
    assert torch.equal(fake(inputs), F.linear(first, fake.database["fc__2", 8, "uniform"].dequantize(), bias))


def test_networks_that_flatten_images_run():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)]
    inputs = torch.rand(4, 3, 8, 8)
    network = capture(nn.Sequential(*layers).eval(), inputs)
    fake = fake_network(network, inputs)
    torch.testing.assert_close(fake(inputs), network.graph(inputs))
    fake.configure(everywhere(network, 8, 8))
    # 8-bit codes of weights and activations: errors of half a step, added up over 36 products, stay within 5 %.
    torch.testing.assert_close(fake(inputs), network.graph(inputs), rtol=0.05, atol=0.05)


def test_unknown_and_missing_layers_are_refused(digits, fake):
    config = everywhere(digits, 8, 8)
    with pytest.raises(ValueError, match=r"The network has no layer 'fcc'\. Did you mean fc"):
        fake.configure(config | {"fcc": FLOAT})
    with pytest.raises(ValueError, match=r"gives no precision for 1 of \d+ layers: \['fc'\]"):
        fake.configure({name: precision for name, precision in config.items() if name != "fc"})


def test_widths_that_were_not_prepared_are_refused_with_those_that_were(digits, images):
    database, ranges = build_database(digits, minmax, (4, 8)), calibrate(digits, [images], minmax, (6, 8))
    network = FakeQuantNetwork(digits, database, ranges)
    with pytest.raises(ValueError) as error:
        network.configure(everywhere(digits, 2, 8))
    assert (
        str(error.value)
        == "The layer database holds no uniform weights of 2 bits for layer 'conv1'; it holds uniform ones of [4, 8]."
    )
    with pytest.raises(ValueError) as error:
        network.configure(everywhere(digits, 8, 4))
    assert str(error.value) == "There are no ranges for activation_bits=4; calibration made them for [6, 8]."


def test_codebooks_are_refused_where_the_database_holds_uniform_levels(digits, fake):
    config = everywhere(digits, 8, 8) | {"fc": Precision(4, 8, "codebook")}
    with pytest.raises(ValueError) as error:
        fake.configure(config)
    assert str(error.value) == (
        "The layer database holds no codebook weights of 4 bits for layer 'fc'; "
        "it holds uniform ones of [2, 3, 4, 5, 6, 7, 8]."
    )
