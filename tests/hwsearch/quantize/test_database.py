"""The layer database, and its files on disk."""

import functools
import importlib.util
import logging
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from hwsearch.graph import Network, capture
from hwsearch.quantize import (
    LayerDatabase,
    Moments,
    Range,
    adaround,
    build_database,
    coordinate_descent,
    gptq,
    least_squares,
    match_deviation,
    minmax,
    mse_grid,
    nearest,
    output_mean,
    percentile,
    quantize_weight,
    requant,
    requant_global,
    squant,
)

BITS = (2, 4, 8)
CALLS: list[int] = []


def counting(x: Tensor, bits: int, counts: Tensor | None = None, *, share: float = 1.0) -> Range:
    """Minmax, shrunk to a share of it, that leaves a trace of each call."""
    CALLS.append(bits)
    bounds = minmax(x, bits)
    return Range(bounds.lo * share, bounds.hi * share)


def calls_of(*args, **kwargs) -> int:
    CALLS.clear()
    build_database(*args, **kwargs)
    return len(CALLS)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, groups=1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(16, 5)]
    return capture(nn.Sequential(*layers), torch.zeros(2, 3, 6, 6))


def assert_same(one: LayerDatabase, other: LayerDatabase) -> None:
    assert one.keys() == other.keys()
    for key, entry in one.items():
        assert entry.codes.dtype == other[key].codes.dtype == torch.int8
        assert torch.equal(entry.codes, other[key].codes)
        assert torch.equal(entry.scale, other[key].scale)


@pytest.mark.parametrize("estimator", [minmax, percentile, requant, mse_grid])
def test_entries_are_the_weights_rounded_on_the_estimated_range_of_each_channel(network, estimator):
    database = build_database(network, estimator, BITS)
    assert database.keys() == {(layer.name, bits, "uniform") for layer in network.layers for bits in BITS}
    for (name, bits, _), entry in database.items():
        weight = network.weight(name)
        for channel in range(len(weight)):
            row = weight[channel : channel + 1]
            expected = quantize_weight(row, estimator(row.reshape(1, -1), bits).clip, bits)
            assert torch.equal(entry.codes[channel], expected.codes[0])
            assert torch.equal(entry.scale[channel], expected.scale[0])


def test_per_tensor_entries_have_one_range(network):
    database = build_database(network, minmax, BITS, granularity="per_tensor")
    for (name, bits, _), entry in database.items():
        weight = network.weight(name)
        assert entry.scale.tolist() == [float(weight.abs().max() / (2 ** (bits - 1) - 1))]
        assert torch.equal(entry.codes, quantize_weight(weight, weight.abs().max().view(1), bits).codes)


def test_unknown_granularities_are_refused(network):
    with pytest.raises(ValueError) as error:
        build_database(network, minmax, granularity="per_row")
    assert str(error.value) == ("granularity is one of ['per_tensor', 'per_channel', 'per_group'], not 'per_row'.")


@pytest.mark.parametrize("bits", [(1,), (8, 16)])
def test_widths_outside_two_to_eight_are_refused(network, bits, tmp_path):
    with pytest.raises(ValueError, match=r"Weights quantize to 2 to 8 bits, not (1|16)\."):
        build_database(network, minmax, bits, cache_dir=tmp_path)


def test_entries_from_disk_equal_those_computed_and_call_no_estimator(network, tmp_path):
    assert calls_of(network, counting, BITS, cache_dir=tmp_path) == len(network.layers) * len(BITS)
    assert calls_of(network, counting, BITS, cache_dir=tmp_path) == 0
    assert_same(build_database(network, counting, BITS, cache_dir=tmp_path), build_database(network, counting, BITS))
    assert len(list(tmp_path.iterdir())) == len(network.layers) * len(BITS)


def test_widths_are_cached_one_by_one(network, tmp_path):
    build_database(network, counting, (8, 4), cache_dir=tmp_path)
    assert calls_of(network, counting, (4, 8, 8), cache_dir=tmp_path) == 0
    assert calls_of(network, counting, (4,), cache_dir=tmp_path) == 0
    assert calls_of(network, counting, (4, 6), cache_dir=tmp_path) == len(network.layers)


def test_other_arguments_granularity_or_weights_are_other_entries(network, tmp_path):
    half = functools.partial(counting, share=0.5)
    layers = len(network.layers)
    build_database(network, counting, (4,), cache_dir=tmp_path)
    assert calls_of(network, half, (4,), cache_dir=tmp_path) == layers
    assert calls_of(network, functools.partial(counting, share=0.6), (4,), cache_dir=tmp_path) == layers
    assert (
        calls_of(network, functools.partial(functools.partial(counting, share=9), share=0.5), (4,), cache_dir=tmp_path)
        == 0
    )
    assert calls_of(network, counting, (4,), granularity="per_tensor", cache_dir=tmp_path) == layers
    weight = network.weight("4")
    original = float(weight[0, 0])
    weight[0, 0] = original + 1
    try:
        assert calls_of(network, counting, (4,), cache_dir=tmp_path) == 1
    finally:
        weight[0, 0] = original
    assert calls_of(network, counting, (4,), cache_dir=tmp_path) == 0
    assert_same(build_database(network, half, (4,), cache_dir=tmp_path), build_database(network, half, (4,)))


def seeing(values: Tensor, levels: Tensor, moments: Moments, *, use: bool) -> Tensor:
    """Rounding to nearest that leaves a trace of each call, with or without a look at the layer's inputs."""
    CALLS.append(0)
    if use:
        moments()
    return nearest(values, levels, moments)


def test_another_method_or_calibration_set_is_another_entry(network, tmp_path):
    first, other = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.ones(2, 3, 6, 6)
    looking, blind = (functools.partial(seeing, use=use) for use in (True, False))
    layers = len(network.layers)
    options = {"cache_dir": tmp_path, "calibration": [first]}
    assert calls_of(network, minmax, (4,), rounding=looking, **options) == layers
    assert calls_of(network, minmax, (4,), rounding=looking, **options) == 0
    assert calls_of(network, minmax, (4,), rounding=looking, **options | {"calibration": [(first, None)]}) == 0
    assert calls_of(network, minmax, (4,), rounding=looking, **options | {"calibration": [other]}) == layers
    assert calls_of(network, minmax, (4,), rounding=blind, **options) == layers
    assert calls_of(network, minmax, (4,), rounding=blind, corrections=[match_deviation], **options) == layers
    assert calls_of(network, minmax, (4,), rounding=blind, formats=["codebook"], **options) == layers
    assert calls_of(network, minmax, (4,), rounding=blind, formats=["codebook", "uniform"], **options) == 0


def test_methods_without_data_never_look_at_the_calibration_set(network, tmp_path):
    def unread():
        raise AssertionError("the calibration set was read")
        yield

    build_database(network, minmax, (4,), **METHODS["squant"], calibration=unread(), cache_dir=tmp_path)
    squared = functools.partial(squant)
    build_database(network, minmax, (4,), rounding=squared, calibration=unread(), cache_dir=tmp_path)
    with pytest.raises(AssertionError):
        build_database(network, minmax, (4,), rounding=gptq, calibration=unread(), cache_dir=tmp_path)


def test_all_fields_of_an_entry_come_back_from_disk(network, tmp_path):
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    options = {"formats": ["codebook"], "corrections": [output_mean], "calibration": [images], "cache_dir": tmp_path}
    made, read = (build_database(network, minmax, (3,), **options) for _ in range(2))
    for key, entry in made.items():
        for name, tensor in vars(entry).items():
            assert torch.equal(tensor, getattr(read[key], name)), name


def test_a_quantizer_that_needs_inputs_says_so(network):
    with pytest.raises(ValueError, match=r"^This quantizer needs calibration inputs: pass calibration=, batches of"):
        build_database(network, minmax, (4,), rounding=gptq)


def test_groups_are_the_largest_divisor_of_a_channel_up_to_their_size(network):
    database = build_database(network, minmax, (4,), granularity="per_group", group_size=8)
    groups = {name: entry.scale.shape for (name, _, _), entry in database.items()}
    assert groups == {"0": (4, 9), "2": (4, 3), "4": (5, 2)}  # channels of 27, 9 and 16 weights: 3, 3 and 8 in a group
    weight, entry = network.weight("0"), database["0", 4, "uniform"]
    largest = weight.reshape(4, 9, 3).abs().amax(2)
    torch.testing.assert_close(entry.scale, largest / 7)
    assert float((entry.dequantize() - weight).abs().max()) <= float(largest.max()) / 14 + 1e-6
    with pytest.raises(ValueError, match=r"^group_size=0 must be at least 1\.$"):
        build_database(network, minmax, (4,), granularity="per_group", group_size=0)


def test_hessian_weights_are_the_mean_squares_of_the_inputs(network):
    images = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 1, 10]).view(
        3, 1, 1
    )
    seen = []

    def spying(x: Tensor, bits: int, counts: Tensor | None = None) -> Range:
        seen.append(counts)
        return minmax(x, bits)

    build_database(network, spying, (4,), calibration=[images], hessian_weighted=True)
    patches = nn.functional.unfold(images, 3).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(seen[0], patches.square().mean(0).expand(4, -1), rtol=1e-3, atol=1e-5)
    assert [counts.shape for counts in seen] == [(4, 27), (4, 9), (5, 16)]


@pytest.mark.parametrize("estimator", [requant, functools.partial(mse_grid, points=5)])
def test_estimators_for_which_all_weights_count_the_same_refuse_to_weigh_them_before_calibration(network, estimator):
    def images():
        raise AssertionError("the calibration set was read")
        yield

    with pytest.raises(ValueError, match=r"^hessian_weighted=true weighs squared errors, but for (requant|mse_grid) "):
        build_database(network, estimator, (4,), calibration=images(), hessian_weighted=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_the_layer(value):
    network = capture(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), torch.zeros(2, 3))
    network.weight("1")[0, 0] = value
    with pytest.raises(ValueError) as error:
        build_database(network, minmax, (4,))
    assert str(error.value) == "Layer '1' has weights that are NaN or infinite, and so no range. Check the checkpoint."


METHODS = {
    "nearest": {},
    "squant": {"rounding": squant, "corrections": [match_deviation]},
    "gptq": {"rounding": gptq, "corrections": [least_squares, output_mean]},
    "coordinate_descent": {"rounding": coordinate_descent, "corrections": [least_squares, output_mean]},
    "adaround": {"rounding": functools.partial(adaround, steps=20), "corrections": [output_mean]},
    "hessian weighted": {"hessian_weighted": True},
}


@pytest.mark.parametrize("form", ["uniform", "codebook"])
@pytest.mark.parametrize("method", METHODS)
def test_zero_layers_and_constant_channels_have_defined_results_with_one_calibration_image(method, form):
    network = capture(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)), torch.zeros(2, 2, 4, 4)
    )
    network.weight("0")[0] = 0.25
    network.weight("0")[1] = 0.0
    network.weight("3").zero_()
    image = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    database = build_database(network, requant_global, (2, 4), formats=[form], calibration=[image], **METHODS[method])
    for (name, _, _), entry in database.items():
        assert entry.dequantize().isfinite().all()
        zeros = entry.dequantize() if name == "3" else entry.dequantize()[1]
        assert float(zeros.abs().max()) < 1e-15
    # a constant channel is exact on any grid that holds its value
    torch.testing.assert_close(database["0", 4, form].dequantize()[0].mean(), torch.tensor(0.25), rtol=0.05, atol=0)


def test_one_bit_weights_are_refused(network):
    with pytest.raises(ValueError, match=r"^Weights quantize to 2 to 8 bits, not 1\.$"):
        build_database(network, requant_global, (1,))
    with pytest.raises(ValueError, match=r"^weight_format is one of \['uniform', 'codebook'\], not 'ternary'\.$"):
        build_database(network, requant_global, (4,), formats=["ternary"])


PLUGIN = """
from hwsearch.quantize import Range

SHARE = {share}

def helper(x):
    return SHARE * x.abs().amax(1)

def estimator(x, bits, counts=None):
    return Range(-helper(x), helper(x))
"""


def load_plugin(path: Path, share: float) -> ModuleType:
    path.write_text(PLUGIN.format(share=share))
    spec = importlib.util.spec_from_file_location("plugin", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plugin"] = module
    spec.loader.exec_module(module)
    return module


def test_an_edited_estimator_file_is_another_estimator(network, tmp_path):
    cache = tmp_path / "cache"
    try:
        full = build_database(network, load_plugin(tmp_path / "plugin.py", 1.0).estimator, BITS, cache_dir=cache)
        half = build_database(network, load_plugin(tmp_path / "plugin.py", 0.25).estimator, BITS, cache_dir=cache)
    finally:
        sys.modules.pop("plugin", None)
    assert torch.equal(half["4", 8, "uniform"].scale, full["4", 8, "uniform"].scale / 4)
    assert len(list(cache.iterdir())) == 2 * len(network.layers) * len(BITS)


def shrunk(share: float):
    def estimator(x: Tensor, bits: int, counts: Tensor | None = None) -> Range:
        return counting(x, bits, share=share)

    return estimator


class Shrunk:
    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, x: Tensor, bits: int, counts: Tensor | None = None) -> Range:
        return counting(x, bits, share=self.share)


@pytest.mark.parametrize(
    "make", [shrunk, Shrunk, lambda share: lambda x, bits, counts=None: counting(x, bits, share=share)]
)
def test_estimators_with_hidden_state_are_not_cached(network, tmp_path, make):
    full = build_database(network, make(1.0), BITS, cache_dir=tmp_path)
    quarter = build_database(network, make(0.25), BITS, cache_dir=tmp_path)
    assert torch.equal(quarter["4", 8, "uniform"].scale, full["4", 8, "uniform"].scale / 4)
    assert not list(tmp_path.iterdir())


DAMAGES = {
    "emptied": lambda data: b"",
    "cut in the header": lambda data: data[:20],
    "cut in the data": lambda data: data[:-1],
    "extended": lambda data: data + b"\0",
    "zeroed": lambda data: bytes(len(data)),
    "text": lambda data: b"<html>not found</html>" * 20,
    "huge header": lambda data: b"\xff" * 8 + data[8:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_rebuilt_with_the_right_content(network, tmp_path, caplog, damage):
    intact = build_database(network, counting, BITS, cache_dir=tmp_path)
    contents = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path, data in contents.items():
        path.write_bytes(DAMAGES[damage](data))
    with caplog.at_level(logging.WARNING):
        assert_same(build_database(network, counting, BITS, cache_dir=tmp_path), intact)
    warned = [record.message for record in caplog.records]
    assert warned == [f"9 damaged files of the layer database in {tmp_path} were rebuilt."]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == contents
    assert calls_of(network, counting, BITS, cache_dir=tmp_path) == 0


def test_no_flipped_bit_reaches_the_database(tmp_path):
    network = capture(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), torch.zeros(2, 3))
    intact = build_database(network, counting, (4,), cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    for position in range(len(data)):  # every byte, and every bit of the header's length
        for bit in range(8) if position < 8 else (position % 7,):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            assert_same(build_database(network, counting, (4,), cache_dir=tmp_path), intact)


def test_a_file_in_place_of_the_folder_costs_one_warning_and_the_cache(network, tmp_path, caplog):
    blocked = tmp_path / "cache"
    blocked.write_text("a file")
    with caplog.at_level(logging.WARNING):
        assert_same(build_database(network, minmax, BITS, cache_dir=blocked), build_database(network, minmax, BITS))
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith(f"The layer database is not cached in {blocked}: ")
    assert blocked.read_text() == "a file"


def test_a_full_disk_leaves_no_part_of_a_file(network, tmp_path, caplog):
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # writes beyond 100 bytes of a file fail
    try:
        with caplog.at_level(logging.WARNING):
            database = build_database(network, minmax, BITS, cache_dir=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert_same(database, build_database(network, minmax, BITS))
    assert len(caplog.records) == 1
    assert not list(tmp_path.iterdir())


WRITER = """
    import sys
    from pathlib import Path
    import torch
    from torch import nn
    from hwsearch.graph import capture
    from hwsearch.quantize import build_database, minmax

    torch.manual_seed(0)
    network = capture(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), torch.zeros(2, 3))
    expected = build_database(network, minmax)
    print("ready", flush=True)
    sys.stdin.readline()  # both start at once
    for _ in range(100):
        for path in Path(sys.argv[1]).glob("*.safetensors"):
            path.unlink(missing_ok=True)
        for key, entry in build_database(network, minmax, cache_dir=Path(sys.argv[1])).items():
            assert torch.equal(entry.codes, expected[key].codes) and torch.equal(entry.scale, expected[key].scale)
"""


def test_processes_that_write_and_remove_the_same_files_do_not_disturb_each_other(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(WRITER), str(tmp_path)]
    pipe = subprocess.PIPE
    writers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    errors = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], errors
    assert errors == ["", ""]  # nor any warning
