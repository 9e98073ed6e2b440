import io
import os
import re
from collections import OrderedDict
from hashlib import sha256

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hwsearch.networks import CifarResNet, DigitsResNet, InceptionV3, load_checkpoint


class MakesFolder:
    """When unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def saved(path, content):
    torch.save(content, path)
    return path


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def refused(path, *expected, network=None, **kwargs):
    """The error's text, after a check that the network was left as it was."""
    network = network or DigitsResNet()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_checkpoint(network, path, **kwargs)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    for text in (str(path), *expected):
        assert text in str(error.value)
    return str(error.value)


@pytest.fixture
def source():
    return DigitsResNet()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".th", ".tar"])
def test_every_suffix_loads_and_the_module_is_returned(suffix, source, tmp_path):
    path = tmp_path / f"weights{suffix}"
    save_file(source.state_dict(), path) if suffix == ".safetensors" else torch.save(source.state_dict(), path)
    network = DigitsResNet().eval()
    assert load_checkpoint(network, path) is network and equal(network, source) and not network.training
    assert equal(load_checkpoint(DigitsResNet(), str(path), sha256(path.read_bytes()).hexdigest().upper()), source)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrappers_and_data_parallel_prefixes_are_taken_off(wrapper, source, tmp_path):
    state = OrderedDict((f"module.{key}", value) for key, value in source.state_dict().items())
    path = saved(tmp_path / "weights.pth", {wrapper: state, "epoch": 3, "best": 91.7})
    assert equal(load_checkpoint(DigitsResNet(), path), source)


def test_counters_of_batches_may_be_missing(source, tmp_path):
    state = {key: value for key, value in source.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert equal(load_checkpoint(DigitsResNet(), saved(tmp_path / "weights.pth", state)), source)


def test_half_precision_weights_are_converted(source, tmp_path):
    state = {key: value.half() if value.is_floating_point() else value for key, value in source.state_dict().items()}
    network = load_checkpoint(DigitsResNet(), saved(tmp_path / "weights.pth", state))
    assert torch.equal(network.fc.weight, source.fc.weight.half().float())


def test_training_only_keys_are_left_out(tmp_path):
    with torch.device("meta"):
        shapes = InceptionV3(classes=2).state_dict()
    state = {key: torch.ones_like(value, device="cpu") for key, value in shapes.items()}
    path = saved(tmp_path / "weights.pth", state | {"AuxLogits.fc.weight": torch.ones(1000, 768)})
    network = load_checkpoint(InceptionV3(classes=2), path)
    assert bool((network.fc.weight == 1).all())


def test_random_keeps_the_weights(source):
    before = {key: value.clone() for key, value in source.state_dict().items()}
    assert load_checkpoint(source, "random") is source
    assert all(torch.equal(before[key], value) for key, value in source.state_dict().items())


def test_a_file_in_a_package_is_found(source):
    assert not equal(load_checkpoint(DigitsResNet(), "hwsearch.networks:digits.safetensors"), source)


@pytest.mark.parametrize("missing", ["hwsearch.networks:no.pth", "no_such_package:a.pth", "json.decoder:a.pth"])
def test_a_missing_file_in_a_package_is_named(missing, source):
    package, file = missing.split(":")
    with pytest.raises(FileNotFoundError, match=f"'{re.escape(file)}' is not in package '{package}'; expected a"):
        load_checkpoint(source, missing)


def test_a_missing_file_is_named_with_what_was_expected(source, tmp_path):
    for path in (tmp_path / "no.pth", tmp_path, tmp_path / "a:b.pth"):
        with pytest.raises(FileNotFoundError) as error:
            load_checkpoint(source, path)
        assert str(error.value) == (
            f"Checkpoint '{path}' (model.checkpoint) is not a file; expected a .safetensors file or a state dict saved "
            "by torch.save, or 'random' for random weights."
        )


def test_another_hash_is_refused_with_both(source, tmp_path):
    path = saved(tmp_path / "weights.pth", source.state_dict())
    refused(path, sha256(path.read_bytes()).hexdigest(), f"expected {'0' * 64}", sha256="0" * 64)


def test_keys_that_do_not_fit_are_named(source, tmp_path):
    state = source.state_dict()
    state["head.weight"] = state.pop("fc.weight")
    state["fc.bias"] = torch.zeros(12)
    text = refused(saved(tmp_path / "weights.pth", state), "DigitsResNet")
    assert "missing: fc.weight; unexpected: head.weight; other shapes: fc.bias is [12] in the file and [10] in" in text


def test_an_error_shows_the_first_keys_and_counts_the_others(tmp_path):
    with torch.device("meta"):
        state = CifarResNet(20).state_dict()
    path = saved(tmp_path / "weights.pth", {key: torch.zeros(value.shape) for key, value in state.items()})
    text = refused(path, "network CifarResNet: missing: layer1.3.conv1.weight, ", network=CifarResNet(32))
    assert "layer1.3.bn1.bias and 57 more" in text  # 12 more convolutions with batch norm: 12 * 5 keys, 3 shown


def test_integer_and_sparse_weights_are_refused(source, tmp_path):
    state = source.state_dict()
    state["fc.weight"] = state["fc.weight"].to(torch.int8)
    state["fc.bias"] = state["fc.bias"].to_sparse()
    text = refused(saved(tmp_path / "weights.pth", state), "other types: fc.weight is torch.int8 in the file")
    assert "fc.bias" in text


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_modules_are_refused_with_what_to_do(legacy, source, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(source, path, _use_new_zipfile_serialization=not legacy)
    refused(path, "holds objects of 'hwsearch.networks.digits.DigitsResNet'", "torch.save(model.state_dict(), ")


def test_code_in_a_checkpoint_never_runs(tmp_path):
    folder = tmp_path / "made"
    path = saved(tmp_path / "weights.pth", {"state_dict": MakesFolder(folder)})
    refused(path, "holds objects of 'posix.mkdir'", "unpickling could run any code")
    assert not folder.exists()
    torch.load(path, weights_only=False)
    assert folder.is_dir()  # without the refusal


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*TorchScript:UserWarning")
def test_torchscript_and_damaged_files_are_refused(source, tmp_path):
    script, buffer = tmp_path / "script.pt", io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), script)
    refused(script, "TorchScript", "torch.save(model.state_dict(), ")
    torch.save(source.state_dict(), buffer)
    for name, content in [
        ("a.pth", b""),
        ("b.pth", b"text"),
        ("c.pth", buffer.getvalue()[:-99]),
        ("d.safetensors", b""),
    ]:
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "cannot be read as .", "It must be a state dict")


def test_files_without_a_state_dict_are_refused(source, tmp_path):
    refused(saved(tmp_path / "a.pth", [torch.ones(1)]), "holds a list; expected a state dict")
    refused(saved(tmp_path / "b.pth", {"net": source.state_dict(), "epoch": 1}), "net, epoch is not a tensor")
    refused(saved(tmp_path / "c.pth", {}), "nothing in it", "['state_dict', 'model']")
    refused(saved(tmp_path / "d.onnx", {}), "unknown suffix '.onnx'", ".safetensors")
