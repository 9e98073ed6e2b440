"""Every operator: the integers are exactly those that fake quantization computes with scales that are powers of two."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cost_models import Precision
from hwsearch.lowering.integer_network import (
    Add,
    AveragePool,
    Convolution,
    Copy,
    Lookup,
    MaxPool,
    Multiply,
)


class Body(nn.Module):
    """A 3x3 convolution from 3 to 8 channels, ``body``, and a linear classifier over all that it gives."""

    def __init__(self, *body):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(*body)
        self.fc = nn.LazyLinear(5)

    def forward(self, x):
        return self.fc(self.body(self.stem(x)).flatten(1))


class Function(nn.Module):
    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleDict(parts)

    def forward(self, x):
        return self.function(x, **self.parts)


IMAGE = (3, 6, 7)


def kinds(integers):
    return [type(operation) for operation in integers.operations]


CONVOLUTIONS = {
    "windows": [
        nn.Conv2d(8, 6, 3),
        nn.Conv2d(6, 7, (1, 4), stride=(2, 1), padding=(0, 2)),
        nn.Conv2d(7, 6, 3, padding=(1, 2), dilation=(1, 2)),
        nn.Conv2d(6, 5, (4, 2), padding="same"),
        nn.Conv2d(5, 6, (1, 2), padding="valid", bias=False),
    ],
    "groups": [
        nn.Conv2d(8, 6, 3, stride=2, padding=1, groups=2),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 12, 2, groups=6),
    ],
    "clamps": [
        nn.Conv2d(8, 5, 1),
        nn.ReLU(),
        nn.Conv2d(5, 6, 3, padding=1),
        nn.ReLU6(),
        nn.Conv2d(6, 6, 1),
        nn.Hardtanh(-0.5, 0.3),
        nn.Conv2d(6, 6, 1),
        Function(lambda x: x.clamp(min=-0.2)),
    ],
    "batch norm": [nn.Conv2d(8, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()],
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(check, name):
    assert set(kinds(check(Body(*CONVOLUTIONS[name]), IMAGE))) == {Convolution}


def two_readers(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    x = F.relu(x)
    return torch.cat([first(x), second(x)], 1)


def test_readers_of_other_widths_get_tensors_of_their_own(exact):
    parts = {"first": nn.Conv2d(8, 4, 3), "second": nn.Conv2d(8, 4, 3)}
    quantized = exact(Body(Function(two_readers, **parts)), IMAGE)
    eight, four = Precision(8, 8), Precision(8, 4)
    for second, formats in ((eight, 1), (four, 2)):
        config = {"stem": eight, "body.0.parts.first": eight, "body.0.parts.second": second, "fc": eight}
        integers = quantized.lower(config)
        assert len(integers.operations[0].outputs) == formats
        np.testing.assert_array_equal(quantized.logits(integers), quantized.fake_logits(config))


FUNCTIONS = [
    F.hardswish,
    F.hardsigmoid,
    torch.sigmoid,
    torch.tanh,
    F.silu,
    F.gelu,
    F.elu,
    lambda x: F.leaky_relu(x, 0.1),
    lambda x: x**2,
    lambda x: 1 - x / 2,
    lambda x: torch.sigmoid(x).clamp(0.25, 0.75),
    lambda x: torch.sigmoid(F.relu(x)),
    lambda x: F.gelu(x + 1.5),
    lambda x: x * F.relu6(x + 3) / 6,
]


def test_functions_of_one_value(check):
    body = Function(lambda x: torch.cat([function(x) for function in FUNCTIONS], 1))
    found = kinds(check(Body(body), IMAGE))
    assert found == [Convolution, *[Lookup] * (len(FUNCTIONS) + 2), Multiply, Lookup, Copy, Convolution]


POOLS = {
    "max": (nn.MaxPool2d(2), MaxPool),
    "max padded": (nn.MaxPool2d(3, 2, 1), MaxPool),
    "max, last window cut": (nn.MaxPool2d(2, ceil_mode=True), MaxPool),
    "max of everything": (nn.AdaptiveMaxPool2d(1), MaxPool),
    "maximum": (Function(lambda x: x.amax((2, 3))), MaxPool),
    "average": (nn.AvgPool2d(2), AveragePool),
    "average padded": (nn.AvgPool2d((3, 1), 1, (1, 0)), AveragePool),
    "average adaptive": (nn.AdaptiveAvgPool2d((2, 1)), AveragePool),
    "mean": (Function(lambda x: x.mean((2, 3))), AveragePool),
    "mean of rows": (Function(lambda x: x.mean(2, keepdim=True)), AveragePool),
    "mean of some rows": (Function(lambda x: x[:, :, 1:5].mean((2, 3))), AveragePool),
    "mean of padded": (Function(lambda x: F.pad(x, (1, 0, 2, 0)).mean((2, 3))), AveragePool),
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling(check, name):
    body, kind = POOLS[name]
    # Divided by an odd number of values an average has no ties, which float32 might miss: 7, 21, 35...
    finer = {"mean": 1 / 8, "adaptive_avg_pool2d": 1 / 8}
    integers = check(Body(nn.ReLU(), body), IMAGE, finer=finer)
    assert kinds(integers) == [Convolution, kind, Convolution]


def test_max_pooling_of_negative_values_ignores_its_padding(check):
    check(Body(Function(lambda x: -F.relu(x) - 0.125), nn.MaxPool2d(3, 2, 1)), IMAGE)


def residual(x: Tensor, conv: nn.Module) -> Tensor:
    return F.relu(x + conv(F.relu(x)))


def residual_of_clamped(x: Tensor, conv: nn.Module) -> Tensor:
    return F.relu6(conv(x)) + F.relu(x)


def two_convolutions(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    return first(x) + second(x)


def conv8(**options):
    return nn.Conv2d(8, 8, 3, padding=1, **options)


FUSED_SUMS = {
    "shortcut": Function(residual, conv=conv8()),
    "clamped operand": Function(residual_of_clamped, conv=conv8()),
    "two convolutions": Function(two_convolutions, first=conv8(), second=nn.Conv2d(8, 8, 1)),
    "depthwise": Function(residual, conv=conv8(groups=8)),
    "three in a row": nn.Sequential(*(Function(residual, conv=conv8()) for _ in range(3))),
}


@pytest.mark.parametrize("name", FUSED_SUMS)
def test_sums_are_taken_in_by_a_convolution_before_them(check, name):
    integers = check(Body(FUSED_SUMS[name]), IMAGE)
    assert set(kinds(integers)) == {Convolution}
    assert any(operation.residual for operation in integers.operations)


def read_twice(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(x)
    return torch.cat([F.relu(x + y), y], 1)


SUMS = {
    "itself": Function(lambda x: x + x),
    "pooled": Function(lambda x: F.max_pool2d(x, 3, 1, 1) + F.relu(x)),
    "its convolution is read again": Function(read_twice, conv=conv8()),
}


@pytest.mark.parametrize("name", SUMS)
def test_other_sums_stand_alone(check, name):
    assert Add in kinds(check(Body(SUMS[name]), IMAGE))


def test_sums_round_halves_up(calibrated):
    """By hand: codes of 8 bits, steps of 1 for the operands and of 2 for their sum."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)
            self.out = nn.Conv2d(1, 1, 1, bias=False)
            for part in (self.left, self.right, self.out):
                part.weight.data.fill_(127.0)

        def forward(self, x):
            return self.out(F.max_pool2d(self.left(x), 1) + F.max_pool2d(self.right(x), 1)).flatten(1)

    quantized = calibrated(Sum(), torch.arange(4.0).reshape(4, 1, 1, 1))
    steps = {"conv2d": 127.0, "conv2d_1": 127.0, "max_pool2d": 127.0, "max_pool2d_1": 127.0, "x": 1.0}
    quantized.ranges = {
        key: type(grid)(steps.get(key[0], 254.0 * 2), 0, grid.qmax) for key, grid in quantized.ranges.items()
    }
    # 0, 1, 2, 3 steps of each operand make 0, 2, 4, 6; in steps of four times that size 0, 0.5, 1 and 1.5
    logits = quantized.logits(quantized.lower()) / (127 * 508)
    np.testing.assert_array_equal(logits[:, 0], [0, 1, 1, 2])


def squeeze_excite(x: Tensor, down: nn.Module, up: nn.Module) -> Tensor:
    scale = F.adaptive_avg_pool2d(x, 1)
    return x * F.hardsigmoid(up(F.relu(down(scale))))


def test_squeeze_and_excite(check):
    body = Function(squeeze_excite, down=nn.Conv2d(8, 4, 1), up=nn.Conv2d(4, 8, 1))
    # The mean of 42 values has ties in whole steps.
    integers = check(Body(body), IMAGE, finer={"adaptive_avg_pool2d": 1 / 8})
    assert kinds(integers) == [Convolution, AveragePool, Convolution, Convolution, Lookup, Multiply, Convolution]


def test_products_of_two_tensors_of_one_size(check):
    integers = check(Body(Function(lambda x: x * torch.sigmoid(x))), IMAGE)
    assert kinds(integers) == [Convolution, Lookup, Multiply, Convolution]


def dense(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    x = torch.cat([x, F.relu(first(x))], 1)
    return torch.cat([x, F.relu(second(x))], 1)


COPIES = {
    "concatenation": Function(lambda x: torch.cat([F.relu(x), F.max_pool2d(x, 3, 1, 1), x], 1)),
    "clamped concatenation": Function(lambda x: F.relu(torch.cat([x, F.hardtanh(x)], 1))),
    "option A": Function(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 3, 2))),
    "channels": Function(lambda x: x[:, 2:7]),
    "halves swapped": Function(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    "parts": Function(lambda x: torch.cat([F.relu(part) for part in x.split([1, 5, 2], 1)], 1)),
    "some columns": Function(lambda x: x[:, :, :, 1::3]),
    "channels of new channels": Function(lambda x: F.pad(x, (0, 0, 0, 0, 2, 0))[:, 1:6]),
}


@pytest.mark.parametrize("name", COPIES)
def test_moving_values_takes_one_copy(check, name):
    assert kinds(check(Body(COPIES[name]), IMAGE)).count(Copy) == 1


def test_concatenations_of_concatenations_are_copied_once_per_reader(check):
    body = Function(dense, first=nn.Conv2d(8, 3, 1), second=nn.Conv2d(11, 5, 3, padding=1))
    assert kinds(check(Body(body), IMAGE)).count(Copy) == 2


def conv_after(function, **options):
    return Body(Function(function), nn.Conv2d(8, 8, 3, **options))


def test_padding_and_cropping_before_a_convolution_are_its_window(check):
    integers = check(conv_after(lambda x: F.pad(x, (1, 2, 0, 1)), stride=2), IMAGE)
    assert kinds(integers) == [Convolution] * 3
    assert integers.operations[1].window.padding == (0, 1)
    integers = check(conv_after(lambda x: x[:, :, 2:, 1:6]), IMAGE)
    assert kinds(integers) == [Convolution] * 3
    assert integers.operations[1].window.padding == (-2, -1)


def test_rings_are_no_larger_than_what_is_read(check):
    integers = check(conv_after(F.relu, stride=2, padding=(1, 0)), IMAGE)
    source = integers.operations[1].source
    # Rows -1..5 and columns 0..6 of 6x7 pixels are read.
    assert integers.tensors[source].image.ring == (1, 0, 0, 0)


def test_what_is_cropped_does_not_come_back_as_padding(check):
    integers = check(conv_after(lambda x: x[:, :, :4], padding=1), IMAGE)
    assert kinds(integers) == [Convolution, Copy, Convolution, Convolution]
    integers = check(Body(Function(lambda x: F.pad(x[:, :, 1:], (0, 0, 2, 0)))), IMAGE)
    assert kinds(integers) == [Convolution, Copy, Convolution]


def test_padding_before_max_pooling_counts(check):
    body = Function(lambda x: F.max_pool2d(F.pad(-F.relu(x) - 0.125, (1, 1, 1, 1)), 2))
    assert kinds(check(Body(body), IMAGE)).count(Copy) == 1


def preactivation(x: Tensor, norm: nn.Module, conv: nn.Module) -> Tensor:
    return torch.cat([x, conv(F.relu(norm(x)))], 1)


def test_a_batch_norm_that_no_layer_takes_in_is_depthwise(calibrated):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    module = Body(Function(preactivation, norm=norm, conv=nn.Conv2d(8, 4, 3, padding=1)))
    quantized = calibrated(module, torch.randn(64, *IMAGE))
    integers = quantized.lower()
    (depthwise,) = (part for part in integers.operations if isinstance(part, Convolution) and part.groups == 8)
    assert set(np.abs(depthwise.weight).ravel()) == {127}
    expected, found = quantized.fake_logits(), quantized.logits(integers)
    # Its float factors are no codes times scales: a few values in a thousand are rounded the other way.
    assert np.std(found - expected) <= 2e-3 * np.std(expected)


def test_batch_norms_without_affine_parameters_and_after_a_mean(calibrated):
    torch.manual_seed(0)
    body = nn.Sequential(Function(lambda x: F.relu(x).mean((2, 3))), nn.BatchNorm1d(8, affine=False))
    quantized = calibrated(Body(body), torch.randn(64, *IMAGE))
    expected, found = quantized.fake_logits(), quantized.logits(quantized.lower())
    assert np.std(found - expected) <= 1e-2 * np.std(expected)


class Tokens(nn.Module):
    """Linear layers over ``[N, T, features]``."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow, self.head = nn.Linear(6, 10), nn.Linear(10, 6), nn.Linear(6, 4)

    def forward(self, x):
        x = x + self.narrow(F.gelu(self.wide(x)))
        return self.head(x.mean(1))


def test_linear_layers_over_tokens(check):
    integers = check(Tokens(), (7, 6))
    assert integers.tensors[integers.inputs[0]].image.height == 7


def test_perceptrons(check):
    check(
        nn.Sequential(
            nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 7), nn.BatchNorm1d(7), nn.Hardswish(), nn.Linear(7, 3)
        ),
        (6,),
    )


RESHAPES = {
    "1x1 maps": lambda x: x.mean((2, 3), keepdim=True).squeeze(3).squeeze(2).unsqueeze(2).flatten(1),
    "channels last": lambda x: x.permute(0, 2, 3, 1).flatten(1),
    "transposed": lambda x: x.transpose(2, 3).flatten(1),
    "in two steps": lambda x: x.flatten(2).flatten(1),
    "elementwise in between": lambda x: torch.sigmoid(F.relu(x).flatten(1)),
}


@pytest.mark.parametrize("name", RESHAPES)
def test_reshapes_move_nothing(check, name):
    integers = check(Body(Function(RESHAPES[name])), IMAGE, finer={"mean": 1 / 8})
    assert Copy not in kinds(integers)


def test_logits_may_come_from_an_average(check):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def forward(self, x):
            return F.adaptive_avg_pool2d(F.relu(self.conv(x)), 1).flatten(1)

    assert kinds(check(Pooled(), (3, 6, 6))) == [Convolution, AveragePool]


def test_logits_of_a_convolution(check):
    check(nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 5, 2), nn.Flatten()), (3, 6, 5))


class TwoStems(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(4 * 6 * 7, 5)

    def forward(self, x):
        return self.fc((self.first(x) + self.second(x)).flatten(1))


def test_inputs_are_written_in_each_format_that_is_read(exact):
    quantized = exact(TwoStems(), IMAGE)
    config = quantized.uniform() | {"second": Precision(8, 5)}
    integers = quantized.lower(config)
    assert [integers.tensors[name].image.ring for name in integers.inputs] == [(0, 0, 0, 0), (1, 1, 1, 1)]
    np.testing.assert_array_equal(quantized.logits(integers), quantized.fake_logits(config))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        return self.fc(F.softmax(x, -1)).mean(1)


def refusal(quantized, config=None):
    with pytest.raises(ValueError) as error:
        quantized.lower(config)
    return str(error.value)


HOLDS = (
    " An integer network holds conv2d, linear, batch norm, residual sums, products of two tensors, average and max "
    "pooling, clamps (relu, relu6...), functions of one value (sigmoid, hardswish, gelu...), concatenation, slicing and "
    "splitting, zero padding, flattening."
)


def test_unknown_operators_are_named_with_what_is_known(calibrated):
    torch.manual_seed(0)
    found = refusal(calibrated(Attention(), torch.randn(4, 7, 6)))
    assert found == "Operator 'aten.softmax.int' (node 'softmax') has no integer form." + HOLDS


REFUSED = {
    "layer norm": (nn.LayerNorm(7), "aten.layer_norm.default", None),
    "shuffled channels": (
        Function(lambda x: x.reshape(-1, 2, 4, 6, 7).transpose(1, 2).reshape(-1, 8, 6, 7)),
        "aten.reshape.default",
        "it moves values in a way that no image in memory has",
    ),
    "reflection": (
        Function(lambda x: F.pad(x, (0, 0, 1, 0), mode="reflect")[:, :, 1:]),
        "aten.pad.default",
        "it pads with something else than zeros",
    ),
    "upsampling": (
        nn.Sequential(nn.MaxPool2d((2, 1)), nn.Upsample((6, 7))),
        "aten.upsample_nearest2d.vec",
        None,
    ),
    "uneven windows": (
        nn.Sequential(nn.AdaptiveAvgPool2d((4, 7)), nn.ZeroPad2d((0, 0, 1, 1))),
        "aten.adaptive_avg_pool2d.default",
        "6x7 pixels to 4x7 take windows of several sizes",
    ),
    "counts": (
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        "aten.avg_pool2d.default",
        "count_include_pad=False divides by several counts",
    ),
    "difference": (Function(lambda x: x - F.max_pool2d(x, 3, 1, 1)), "aten.sub.Tensor", "it takes two tensors"),
    "weighted sum": (
        Function(lambda x: torch.add(x, F.relu(x), alpha=2)),
        "aten.add.Tensor",
        "it adds something else than two tensors of one shape",
    ),
    "sum with one row": (
        Function(lambda x: x + x.mean(2, keepdim=True)),
        "aten.add.Tensor",
        "it adds something else than two tensors of one shape",
    ),
    "product with one row": (
        Function(lambda x: x * x.mean(2, keepdim=True)),
        "aten.mul.Tensor",
        "its operands have different shapes, and none is one value per channel",
    ),
    "mean of channels": (
        Function(lambda x: torch.cat([x.mean(1, keepdim=True)] * 8, 1)),
        "aten.mean.dim",
        "it reaches beyond height and width",
    ),
    "rows beside rows": (
        Function(lambda x: torch.cat([x[:, :, 1:], x[:, :, :1]], 2)),
        "aten.cat.default",
        "it concatenates something else than channels",
    ),
    "every other channel": (
        Function(lambda x: torch.cat([x[:, ::2], x[:, 1::2]], 1)),
        "aten.slice.Tensor",
        "it takes something else than rows, columns or adjacent channels",
    ),
    "clamp without zero": (
        Function(lambda x: F.pad(x, (0, 0, 1, 0)).clamp(min=0.5)[:, :, 1:]),
        "aten.pad.default",
        "the clamp after it leaves out the zeros that it adds",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_integer_form_is_refused(calibrated, name):
    body, target, why = REFUSED[name]
    torch.manual_seed(0)
    found = refusal(calibrated(Body(body), torch.randn(4, *IMAGE)))
    assert found.startswith(f"Operator '{target}' (node '")
    assert found.endswith(f"has no integer form{f': {why}' if why else ''}.{HOLDS}")


def test_logits_must_be_accumulators_that_nothing_else_reads(calibrated):
    class Last(nn.Module):
        def __init__(self, last):
            super().__init__()
            self.fc, self.last = nn.Linear(6, 6), last

        def forward(self, x):
            return self.last(self.fc(x))

    why = "the logits must come from a layer or an average, and be read by nothing else"
    images = torch.randn(4, 6)
    for last in (nn.Sigmoid(), Function(lambda x: x + x)):
        assert why in refusal(calibrated(Last(last), images))


def test_float_layers_are_refused(exact):
    quantized = exact(Body(nn.ReLU()), IMAGE)
    found = refusal(quantized, quantized.uniform() | {"fc": Precision(8, 32)})
    assert found == "Layer 'fc' reads floats (activation_bits=32); an integer network takes 1 to 8 bits."
    found = refusal(quantized, quantized.uniform() | {"fc": Precision(32, 8)})
    assert found == "Layer 'fc' has float weights (weight_bits=32); an integer network takes 2 to 8 bits."
    found = refusal(quantized, quantized.uniform() | {"fcc": Precision(8, 8)})
    assert found == "The network has no layer 'fcc'. Did you mean fc?"


def test_widths_that_were_not_prepared_are_refused_with_those_that_were(exact):
    quantized = exact(Body(nn.ReLU()), IMAGE)
    found = refusal(quantized, quantized.uniform() | {"fc": Precision(1, 8)})
    assert found.startswith("The layer database holds no uniform weights of 1 bits for layer 'fc'; it holds ")
    found = refusal(quantized, quantized.uniform() | {"fc": Precision(8, 1)})
    assert found == (
        "There is no range of tensor 'view' for activation_bits=1; calibration made them for [2, 3, 4, 5, 6, 7, 8]."
    )
