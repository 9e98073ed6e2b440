"""Every YAML of conf/model, composed as the command line does."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hwsearch.networks import load_checkpoint

CONF = Path(__file__).parents[3] / "conf"
SHARED = Path(__file__).parents[3].parent / "shared" / "data"
NAMES = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
FAST = {
    "cifar_resnet20",
    "digits",
    "mlperf_tiny_dscnn",
    "mlperf_tiny_resnet8",
    "mlperf_tiny_vww",
    "mobilenet_v1_075",
}
TORCHVISION = {"torchvision"}
FIELDS = {"name", "network", "checkpoint", "checkpoint_sha256", "input"}
WEIGHTS = {
    "cifar_resnet20": "cifar10/resnet20.pth",
    "cifar_resnet32": "cifar10/resnet32.pth",
    "mlperf_tiny_resnet8": "cifar10/resnet8_mlperf_tiny.pth",
    "mlperf_tiny_dscnn": "kws/dscnn_mlperf_tiny.pth",
    "mlperf_tiny_vww": "vww/vww96_mlperf_tiny.pth",
    "mobilenet_v1_075": "imagenet/mobilenet_v1_075_224.pth",
}


def model_config(name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=[f"+model={name}", *overrides]).model


def built(name):
    if name in TORCHVISION:
        pytest.importorskip("torchvision", reason="torchvision is no dependency of hwsearch")
    config = model_config(name, "model.checkpoint=random")
    return config, load_checkpoint(instantiate(config.network), config.checkpoint).eval()


def shared(file):
    if not (SHARED / file).is_file():
        pytest.skip(f"no {SHARED / file}: real weights are not shipped with the project")
    return SHARED / file


@pytest.mark.parametrize("name", NAMES)
def test_every_file_names_itself_its_source_and_the_same_fields(name):
    config = model_config(name)
    assert (CONF / "model" / f"{name}.yaml").read_text().startswith("# ")
    assert config.name == name and set(config) == FIELDS
    assert set(config.input) == {"_target_", "shape", "divisor", "mean", "std", "resize"}
    assert OmegaConf.is_missing(config, "checkpoint") == (name != "digits")
    assert instantiate(config.input).shape == tuple(config.input.shape)


def test_variants_differ_from_their_family_only_in_what_they_name():
    family, config = model_config("resnet18"), model_config("resnet101_cifar")
    assert dict(config.network) == dict(family.network) | {"depth": 101, "stem": "cifar", "classes": 10}
    assert config.input.shape == [3, 32, 32] and config.input.std == family.input.std
    assert model_config("cifar_resnet56", "model.network.shortcut=B").network.shortcut == "B"


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_every_network_exports_with_a_dynamic_batch_and_gives_its_logits(name):
    config, network = built(name)
    classes = config.network.get("classes", 1000)
    two = torch.randn(2, *config.input.shape, generator=torch.Generator().manual_seed(0))
    three = torch.randn(3, *config.input.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert network(two).shape == (2, classes)
        expected = network(three)
    exported = torch.export.export(network, (two,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    with torch.inference_mode():
        assert torch.equal(exported(three), expected)  # the same operators in the same order


@pytest.mark.parametrize("name", WEIGHTS)
def test_shared_weights_load_with_every_key(name):
    path, (_, network) = shared(WEIGHTS[name]), built(name)
    state = torch.load(path, weights_only=True)
    loaded = load_checkpoint(network, path).state_dict()
    assert {key for key in loaded if not key.endswith("num_batches_tracked")} == set(state)
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_digits_weights_ship_with_the_package():
    config = model_config("digits")
    network = load_checkpoint(instantiate(config.network), config.checkpoint)
    assert network.fc.weight.abs().max() > 0.2  # initial weights lie within 32 ** -0.5 = 0.18
