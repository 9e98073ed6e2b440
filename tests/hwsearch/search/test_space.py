"""What a search decides, and what it refuses to decide about."""

from dataclasses import replace
from math import prod

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models import LayerSpec, Precision, load_device
from cost_models.tvm.cost_model import TvmCpu
from hwsearch.search import Group, SearchSpace, build_space, canonical, config_of, groups_table
from hwsearch.search.encoding import encode, suggest

NAMES = ["stem", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "fc"]
LAYERS = [LayerSpec(name, "linear" if name == "fc" else "conv2d", 8, 8) for name in NAMES]
PAIRS = st.sets(st.tuples(st.integers(2, 8), st.integers(2, 8)), min_size=1, max_size=12)


def roofline(conv, linear=None, name="npu"):
    """A device with these (weight, activation) pairs."""
    rates = [
        {"weight_bits": w, "activation_bits": a, "macs_per_s": 1e9, "ops": ops, "source": "sheet"}
        for pairs, ops in ((conv, ["conv2d"]), (conv if linear is None else linear, ["linear"]))
        for w, a in pairs
    ]
    fields = {
        "_target_": "cost_models.Analytic",
        **{"name": name, "chip": "NPU", "runtime": "none", "batch": 1, "output_bits": 32, "overlap": "max"},
        **{"source": "sheet", "sources": {"sheet": {"kind": "datasheet", "cite": "round numbers"}}},
        "compute": rates,
    }
    return load_device(fields)


def precisions(*texts):
    return tuple(Precision.parse(text) for text in texts)


def choices(space):
    return {group.name: " ".join(map(str, group.precisions)) for group in space.groups}


def in_words(config):
    """``W4A8`` for a configuration that is W4A8 everywhere, else each layer's precision."""
    texts = [str(precision) for precision in config.values()]
    return " ".join(texts[:1] if len(set(texts)) == 1 else texts)


def refusal(*args, **options):
    with pytest.raises(ValueError) as error:  # callers compare the whole message
        build_space(*args, **options)
    return str(error.value)


@st.composite
def spaces(draw):
    """Any pair sets, of convolutions and linear layers apart, any ties that they allow, any pins."""
    conv, linear = draw(PAIRS), draw(PAIRS)
    pinned = {}
    for name in draw(st.sets(st.sampled_from(NAMES), max_size=2)):
        pinned[name] = Precision(*draw(st.sampled_from(sorted(linear if name == "fc" else conv))))
    free = [name for name in NAMES[:-1] if name not in pinned]  # all of one kind
    tied = [draw(st.lists(st.sampled_from(free), unique=True))] if free and draw(st.booleans()) else []
    space = build_space(LAYERS, roofline(conv, linear), pinned=pinned, tied=tied)
    coded = draw(st.sets(st.integers(0, 5)))  # which choices of each group exist as codebooks, too
    return replace(
        space, groups=tuple(_with_codebooks(group, coded - {0} if pinned else coded) for group in space.groups)
    )


def _with_codebooks(group, numbers):
    """A group with some choices doubled; a pinned one has only number 0."""
    doubled = [replace(p, weight_format="codebook") for i, p in enumerate(group.precisions) if i in numbers]
    every = sorted((*group.precisions, *doubled), key=lambda p: (p.weight_bits, p.activation_bits, p in doubled))
    return replace(group, precisions=tuple(every))


@st.composite
def configurations(draw):
    space = draw(spaces())
    return space, space.config({group.name: draw(st.sampled_from(group.precisions)) for group in space.groups})


@given(configurations())
@settings(deadline=None)
def test_every_configuration_survives_encoding(case):
    space, config = case
    parameters = encode(space, config)
    assert config_of(space, parameters) == config


@given(configurations())
@settings(deadline=None, max_examples=25)
def test_the_loop_and_the_tables_decode_alike(case):
    space, config = case
    study = optuna.create_study()
    study.enqueue_trial(encode(space, config))
    trial = study.ask()
    assert suggest(trial, space) == config
    assert config_of(space, trial.params) == config


@given(spaces(), st.data())
@settings(deadline=None)
def test_every_parameter_vector_is_a_configuration_of_the_space(space, data):
    widest = encode(space, space.config({group.name: group.precisions[-1] for group in space.groups}))
    ranges = {
        f"{group.name}.{key}": len(choices)
        for group in space.groups
        for key, choices in (
            ("weight_bits", group.weight_bits),
            ("activation_bits", group.activation_bits),
            ("weight_format", group.weight_formats),
        )
        if f"{group.name}.{key}" in widest
    }
    config = config_of(space, {name: data.draw(st.integers(0, count - 1)) for name, count in ranges.items()})
    assert list(config) == [layer for group in space.groups for layer in group.layers]
    for group in space.groups:
        chosen = {config[layer] for layer in group.layers}
        assert len(chosen) == 1
        assert chosen <= set(group.precisions)


@given(spaces())
@settings(deadline=None)
def test_uniform_configurations_are_distinct_ones_of_the_space(space):
    uniforms = space.uniforms()
    assert uniforms
    assert len({canonical(config) for config in uniforms}) == len(uniforms) <= space.size
    for config in uniforms:
        assert config_of(space, encode(space, config)) == config


@given(spaces())
@settings(deadline=None)
def test_size_counts_the_distinct_configurations(space):
    if space.size > 2000:
        assert space.size == prod(len(group.precisions) for group in space.groups)
        return
    found = [{}]
    for group in space.groups:
        found = [{**rest, group.name: precision} for rest in found for precision in group.precisions]
    assert len({canonical(space.config(choice)) for choice in found}) == space.size


def test_without_limits_the_choices_are_what_the_device_runs(bit_fusion, t4):
    # Bit Fusion stores 1 to 8 bits; the quantizers make 2 to 8.
    assert build_space(LAYERS, bit_fusion).size == 49 ** len(LAYERS)
    assert build_space(LAYERS, t4).size == 2 ** len(LAYERS)


def test_formats_narrow_the_choices_and_codebooks_come_after_uniform_grids():
    device = TvmCpu(name="cpu", weight_bits=(4,), activation_bits=(8,), weight_formats=("uniform", "codebook"))
    assert set(choices(build_space(LAYERS, device)).values()) == {"W4A8 W4A8 codebook"}
    assert set(choices(build_space(LAYERS, device, weight_formats=["codebook"])).values()) == {"W4A8 codebook"}
    assert in_words(build_space(LAYERS, device).uniforms()[0]) == "W4A8"


def test_widths_narrow_the_choices(bit_fusion):
    space = build_space(LAYERS, bit_fusion, weight_bits=[8, 4, 2], activation_bits=[8, 4])
    assert set(choices(space).values()) == {"W2A4 W2A8 W4A4 W4A8 W8A4 W8A8"}


@pytest.mark.parametrize(
    ("pairs", "parameters"),
    [
        ([(8, 8)], []),
        ([(4, 4), (8, 8)], ["weight_bits"]),
        ([(4, 8), (8, 4)], ["weight_bits"]),
        ([(8, 4), (8, 8)], ["activation_bits"]),
        ([(4, 8), (8, 8)], ["weight_bits"]),
        ([(4, 4), (4, 8), (8, 8)], ["weight_bits", "activation_bits"]),
    ],
)
def test_a_layer_has_no_more_parameters_than_decisions(pairs, parameters):
    space = build_space(LAYERS[:1], roofline(pairs))
    assert list(encode(space, space.uniforms()[0])) == [f"stem.{name}" for name in parameters]


@pytest.mark.parametrize(
    ("pinned", "fixed"),
    [
        ({"stem": "W8A8"}, ["stem"]),
        ({"first": "W8A8", "last": "w8a8"}, ["stem", "fc"]),
        ({"layer1.*": Precision(8, 8)}, ["layer1.0.conv1", "layer1.0.conv2"]),
        ({"*.conv1": " W8A8 "}, ["layer1.0.conv1", "layer2.0.conv1"]),
    ],
)
def test_pinned_layers_have_one_choice(bit_fusion, pinned, fixed):
    space = build_space(LAYERS, bit_fusion, weight_bits=[2, 4], activation_bits=[4], pinned=pinned)
    assert space.pinned == set(fixed)
    assert choices(space) == {name: "W8A8" if name in fixed else "W2A4 W4A4" for name in NAMES}


def test_later_pins_win(bit_fusion):
    space = build_space(LAYERS, bit_fusion, pinned={"*": "W4A4", "first": "W8A8"})
    assert choices(space) == {name: "W8A8" if name == "stem" else "W4A4" for name in NAMES}
    assert space.size == 1


def test_tied_layers_decide_once(bit_fusion):
    space = build_space(LAYERS, bit_fusion, weight_bits=[4, 8], activation_bits=[8], tied=[["layer1.*", "fc"]])
    assert [group.layers for group in space.groups] == [
        ("stem",),
        ("layer1.0.conv1", "layer1.0.conv2", "fc"),
        ("layer2.0.conv1",),
    ]
    assert [group.name for group in space.groups] == ["stem", "layer1.0.conv1", "layer2.0.conv1"]
    assert space.size == 2**3
    for config in space.uniforms():
        assert sorted(config) == sorted(NAMES)


def test_ties_that_share_a_layer_join(bit_fusion):
    tied = [["layer2.0.conv1", "fc"], ["stem", "layer1.0.conv1"], ["fc", "stem"], []]
    space = build_space(LAYERS, bit_fusion, tied=tied)
    assert [group.layers for group in space.groups] == [
        ("stem", "layer1.0.conv1", "layer2.0.conv1", "fc"),
        ("layer1.0.conv2",),
    ]


def test_tied_layers_keep_what_they_have_in_common():
    device = roofline(conv=[(2, 8), (4, 8), (8, 8)], linear=[(4, 8), (8, 8), (8, 4)])
    assert choices(build_space(LAYERS, device, tied=[["last", "first"]]))["stem"] == "W4A8 W8A8"


def test_a_layer_tied_to_a_pinned_one_is_pinned(bit_fusion):
    space = build_space(LAYERS, bit_fusion, weight_bits=[4, 8], pinned={"first": "W8A8"}, tied=[["stem", "fc"]])
    assert choices(space)["stem"] == "W8A8"
    assert space.uniform(Precision(4, 4))["fc"] == Precision(8, 8)


SHARED = [("layer1.0.conv1", "layer1.0.conv2", "fc")]


def groups(space):
    return [group.layers for group in space.groups if len(group.layers) > 1]


def test_layers_that_share_a_tensor_decide_once(bit_fusion):
    assert groups(build_space(LAYERS, bit_fusion, shared=SHARED)) == SHARED


def test_layers_decide_apart_where_the_user_says_so(bit_fusion):
    assert groups(build_space(LAYERS, bit_fusion, shared=SHARED, untied=["layer1.*"])) == []
    assert groups(build_space(LAYERS, bit_fusion, shared=SHARED, untied=["last"])) == [
        ("layer1.0.conv1", "layer1.0.conv2")
    ]
    pinned = build_space(LAYERS, bit_fusion, shared=SHARED, pinned={"layer1.0.conv2": "W8A8"})
    assert groups(pinned) == [("layer1.0.conv1", "fc")]
    tied = build_space(LAYERS, bit_fusion, shared=SHARED, untied=["*"], tied=[["stem", "fc"]])
    assert groups(tied) == [("stem", "fc")]


def test_layers_that_share_a_tensor_but_no_precision_decide_apart():
    device = roofline(conv=[(2, 8), (4, 8)], linear=[(8, 8)])
    assert groups(build_space(LAYERS, device, shared=SHARED)) == []


def test_groups_are_listed_layer_by_layer(t4):
    table = groups_table(build_space(LAYERS, t4, shared=SHARED, pinned={"stem": "W8A8"}))
    assert table["layer"].tolist() == ["stem", "layer1.0.conv1", "layer1.0.conv2", "fc", "layer2.0.conv1"]
    assert table["group"].tolist() == ["stem", *["layer1.0.conv1"] * 3, "layer2.0.conv1"]
    assert table["pinned"].tolist() == [True, False, False, False, False]
    assert table["precisions"].tolist() == ["W8A8", *["W4A4 W8A8"] * 4]


def test_overrides_change_one_width_and_later_ones_win(bit_fusion):
    overrides = {
        "layer*": {"weight_bits": [2, 3]},
        "layer2.*": {"weight_bits": [3, 4], "activation_bits": [6, 8]},
        "fc": {"weight_bits": None},
    }
    space = build_space(LAYERS, bit_fusion, weight_bits=[4], activation_bits=[8], overrides=overrides)
    assert choices(space) == {
        "stem": "W4A8",
        "layer1.0.conv1": "W2A8 W3A8",
        "layer1.0.conv2": "W2A8 W3A8",
        "layer2.0.conv1": "W3A6 W3A8 W4A6 W4A8",
        "fc": "W2A8 W3A8 W4A8 W5A8 W6A8 W7A8 W8A8",
    }


@pytest.mark.parametrize(
    ("options", "uniforms"),
    [
        ({}, "W8A8 W7A7 W7A8 W6A6 W6A8 W5A5 W5A8 W4A4 W4A8 W3A3 W3A8 W2A2 W2A8"),
        ({"weight_bits": [2, 4, 8], "activation_bits": [4, 8]}, "W8A8 W4A4 W4A8 W2A4 W2A8"),
        ({"weight_bits": [4, 8], "activation_bits": [8]}, "W8A8 W4A8"),
        # No 8-bit activations: the widest there are.
        ({"weight_bits": [4, 8], "activation_bits": [4, 6]}, "W8A6 W4A4 W4A6"),
        ({"weight_bits": [8], "activation_bits": [2]}, "W8A2"),
    ],
)
def test_uniform_configurations_of_a_device_that_runs_every_pair(bit_fusion, options, uniforms):
    found = build_space(LAYERS, bit_fusion, **options).uniforms()
    assert [in_words(config) for config in found] == uniforms.split()


def test_uniform_configurations_of_a_device_that_runs_equal_widths_only(t4):
    assert [in_words(config) for config in build_space(LAYERS, t4).uniforms()] == ["W8A8", "W4A4"]


def test_uniform_configurations_leave_pinned_layers_alone(bit_fusion):
    space = build_space(LAYERS, bit_fusion, weight_bits=[2, 4], activation_bits=[8], pinned={"last": "W6A6"})
    assert [in_words(config) for config in space.uniforms()] == ["W4A8 W4A8 W4A8 W4A8 W6A6", "W2A8 W2A8 W2A8 W2A8 W6A6"]


def test_uniform_configurations_take_wider_containers_but_not_narrower_weights():
    space = build_space(LAYERS, roofline(conv=[(4, 4), (8, 8)], linear=[(2, 8), (6, 8)]))
    found = [(str(config["stem"]), str(config["fc"])) for config in space.uniforms()]
    # No (8, b): the linear layer has no such weights. (6, 6), (4, 4), (2, 2), (2, 8):
    assert found == [("W8A8", "W6A8"), ("W4A4", "W6A8"), ("W4A4", "W2A8"), ("W8A8", "W2A8")]


def test_nearest_prefers_the_least_work_then_the_narrower_weights():
    group = Group("conv", ("conv",), precisions("W2A8", "W4A4", "W4A8", "W8A2", "W8A4"))
    assert group.nearest(2, 2) == Precision(2, 8)  # 16 bit products each, as W4A4 and W8A2: the fewest weight bits
    assert group.nearest(3, 3) == Precision(4, 4)
    assert group.nearest(8, 8) == Precision(8, 4)  # nothing holds it: the widest activations beside such weights
    assert group.nearest(9, 2) is None


def test_a_space_without_a_common_weight_width_has_no_such_uniform(bit_fusion):
    space = build_space(LAYERS, bit_fusion, overrides={"layer2.*": {"weight_bits": [2, 3]}})
    assert space.uniform(Precision(8, 8)) is None
    assert space.uniform(Precision(3, 8)) == dict.fromkeys(NAMES, Precision(3, 8))


def test_equal_configurations_are_equal_in_canonical_form():
    config = {"b": Precision(4, 8), "a": Precision(8, 8)}
    assert canonical(config) == canonical(dict(reversed(config.items())))
    assert canonical(config) != canonical({**config, "b": Precision(8, 4)})


def test_a_space_of_one_configuration_is_uniform():
    space = SearchSpace((Group("a", ("a", "b"), precisions("W8A8")),))
    assert space.uniforms() == [{"a": Precision(8, 8), "b": Precision(8, 8)}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weight_bits": [2, 4]},
            "Hardware 't4_roofline' has no kernels for weight_bits=[2] in layer 'stem'; it supports [4, 8]. "
            "Set space.weight_bits to a subset.",
        ),
        (
            {"activation_bits": [8, 6, 2]},
            "Hardware 't4_roofline' has no kernels for activation_bits=[2, 6] in layer 'stem'; it supports [4, 8]. "
            "Set space.activation_bits to a subset.",
        ),
        (
            {"weight_bits": [4], "activation_bits": [8]},
            "Hardware 't4_roofline' runs layer 'stem' at none of weight_bits=[4] with activation_bits=[8]; "
            "it supports the pairs W4A4, W8A8.",
        ),
        (
            {"weight_bits": [1, 4]},
            "space.weight_bits=[1, 4] must hold widths from 2 to 8, those that the quantizers make; "
            "null leaves all that the device runs.",
        ),
        (
            {"activation_bits": []},
            "space.activation_bits=[] must hold widths from 2 to 8, those that the quantizers make; "
            "null leaves all that the device runs.",
        ),
        (
            {"overrides": {"fc": {"weight_bits": [16]}}},
            "space.overrides['fc'].weight_bits=[16] must hold widths from 2 to 8, those that the quantizers make; "
            "null leaves all that the device runs.",
        ),
        (
            {"overrides": {"fc": {"weight_bit": [4]}}},
            "space.overrides['fc'] has unknown keys ['weight_bit']; it takes ['weight_bits', 'activation_bits'].",
        ),
        (
            {"overrides": {"layer3.*": {"weight_bits": [4]}}},
            "'layer3.*' in space.overrides matches no layer; the layers are stem, layer1.0.conv1, layer1.0.conv2, "
            "layer2.0.conv1, fc.",
        ),
        (
            {"pinned": {"fc.weight": "W8A8"}},
            "'fc.weight' in space.pinned matches no layer; the layers are stem, layer1.0.conv1, layer1.0.conv2, "
            "layer2.0.conv1, fc.",
        ),
        (
            {"untied": ["head"]},
            "'head' in space.untied matches no layer; the layers are stem, layer1.0.conv1, layer1.0.conv2, "
            "layer2.0.conv1, fc.",
        ),
        (
            {"tied": [["stem", "head"]]},
            "'head' in space.tied matches no layer; the layers are stem, layer1.0.conv1, layer1.0.conv2, "
            "layer2.0.conv1, fc.",
        ),
        (
            {"pinned": {"last": "W4A8"}},
            "space.pinned sets layer 'fc' to W4A8, which hardware 't4_roofline' lacks; it supports W4A4, W8A8.",
        ),
        (
            {"pinned": {"first": "W32A32"}},
            "space.pinned sets layer 'stem' to W32A32; the quantizers make 2 to 8 bits.",
        ),
        ({"pinned": {"first": "8"}}, "'8' is not a precision; write weight and activation bits as in W4A8."),
        (
            {"pinned": {"first": "W8A8", "last": "W4A4"}, "tied": [["stem", "fc"]]},
            "The tied layers stem, fc have no precision in common.",
        ),
    ],
)
def test_a_space_that_contradicts_network_or_device_is_refused(t4, options, message):
    assert refusal(LAYERS, t4, **options) == message


def test_a_layer_that_the_device_does_not_run_is_named():
    device = roofline(conv=[(4, 8), (8, 8)], linear=[(32, 32)])
    assert refusal(LAYERS, device) == (
        "Hardware 'npu' runs layer 'fc' at no precision of 2 to 8 bits in a format of space.weight_formats."
    )
