"""Every file of ``conf/`` composes into a configuration that the schema accepts and whose parts can be built."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.samplers import BaseSampler

from cost_models import CostModel, LayerSpec, Measuring, NetworkSpec, Precision, load_device
from hwsearch.cli.hydra_app import conf_dir
from hwsearch.cli.proposing import build_sampler
from hwsearch.cli.schema import EvaluateConfig, ProfileConfig, QuantizerConfig, SearchConfig, StudyConfig, TrainConfig
from hwsearch.quantize import LayerQuantizer, Reconstruction
from hwsearch.search import check_objectives
from hwsearch.train import Recipe

CONF = Path(__file__).parents[1] / "conf"
STUDIES = ("requant_paper",)
"""Experiments of hwsearch study; the others are of hwsearch search."""
CHOICES = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml")) if path.stem not in STUDIES]
REQUIRED = {"tvm_rpc": ["hardware.tracker=127.0.0.1:1", "hardware.key=board"]}
"""What only a user knows, by device; nothing connects before something is measured."""
MEASURED = ("tvm_cpu", "tvm_rpc")
GIVEN = ["model.checkpoint=random", "data.root=."]


def composed(*overrides: str, config_name: str | None = "config", given: Sequence[str] = GIVEN):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose(config_name, [*overrides, *given]), resolve=True)


def test_the_source_tree_is_what_the_command_line_reads():
    assert conf_dir() == CONF


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=[f"{group}/{name}" for group, name in CHOICES])
def test_every_choice_composes(group, name):
    content = composed(f"{group}={name}")
    content.pop("experiment", None)
    config = SearchConfig.model_validate(content)
    check_objectives(config.objective.objectives)


@pytest.mark.parametrize("name", [name for group, name in CHOICES if group == "hardware"])
def test_every_device_is_a_cost_model_with_a_source(name):
    device = load_device(composed(f"hardware={name}", *REQUIRED.get(name, []))["hardware"])
    assert isinstance(device, CostModel)
    assert device.name == name
    assert isinstance(device, Measuring) == (name in MEASURED)
    assert (CONF / "hardware" / f"{name}.yaml").read_text().startswith("# Source: ")


def test_the_cpu_measures_what_a_network_takes(tmp_path):
    small = ["hardware.weight_bits=[4,8]", "hardware.activation_bits=[8]", "hardware.tiles=1", "hardware.search_s=0.01"]
    procedure = "hardware.procedure={rounds: 1, samples: 2, sample_s: 2e-4}"
    cpu = load_device(composed("hardware=tvm_cpu", *small, procedure, f"hardware.cache_dir={tmp_path}")["hardware"])
    layer = LayerSpec("conv", "conv2d", 4, 8, (3, 3), padding=(1, 1), in_size=(6, 6), out_size=(6, 6))
    assert cpu.precisions(layer) == [Precision(4, 8), Precision(8, 8)]
    costs = [cpu.layer_cost(layer, precision) for precision in cpu.precisions(layer)]
    assert 0 < costs[0].latency_s <= costs[1].latency_s < 1e-3
    assert costs[0].computed_as == Precision(8, 8)
    assert cpu.network_cost(NetworkSpec.chain([layer]), {}).latency_s == 0
    assert {record["used_by"] for record in cpu.measurements(NetworkSpec.chain([layer]))} == {"conv"}


@pytest.mark.parametrize("name", [name for group, name in CHOICES if group == "sampler"])
def test_every_sampler_takes_a_seed(name):
    assert isinstance(build_sampler(composed(f"sampler={name}")["sampler"], seed=1), BaseSampler)


@pytest.mark.parametrize("name", [name for group, name in CHOICES if group == "sensitivity"])
def test_every_sensitivity_is_a_function_of_some_images(name):
    measure = instantiate(composed(f"sensitivity={name}", "sensitivity.images=8")["sensitivity"])
    assert measure.keywords["images"] == 8


@pytest.mark.parametrize("name", [name for group, name in CHOICES if group == "quantizer"])
def test_every_quantizer_can_be_built(name):
    quantizer = QuantizerConfig.model_validate(composed(f"quantizer={name}")["quantizer"])
    LayerQuantizer(instantiate(quantizer.weights), **instantiate(quantizer.method()))
    assert callable(instantiate(quantizer.activations))
    if quantizer.reconstruction:
        assert instantiate(quantizer.reconstruction) == Reconstruction()


@pytest.mark.parametrize("overrides", [[], *([f"experiment={name}"] for name in STUDIES)])
def test_every_study_composes_of_networks_and_quantizers_that_there_are(overrides):
    content = composed(*overrides, config_name="study", given=["data.root=."])
    content.pop("experiment", None)
    config = StudyConfig.model_validate(content)
    assert {("model", name) for name in config.models} <= set(CHOICES)
    assert {("quantizer", name) for name in config.quantizers} <= set(CHOICES)
    assert all(Precision.parse(text) for text in config.precisions)
    assert (config.granularities == ["per_tensor"]) == bool(overrides)


def test_the_papers_study_lists_every_estimator_of_weights():
    def estimator(name):
        quantizer = QuantizerConfig.model_validate(
            composed(f"+quantizer={name}", config_name=None, given=[])["quantizer"]
        )
        return quantizer.model_dump_json(include={"weights", "codebook", "hessian_weighted"})

    content = composed("experiment=requant_paper", config_name="study", given=["data.root=."])
    listed = {estimator(name) for name in content["quantizers"]}
    assert [name for group, name in CHOICES if group == "quantizer" and estimator(name) not in listed] == []


def test_evaluate_composes():
    assert EvaluateConfig.model_validate(composed(config_name="evaluate")).precisions is None


def test_train_composes_with_all_training_images():
    config = TrainConfig.model_validate(composed(config_name="train"))
    assert config.data.calibration_images is None
    assert Recipe(epochs=config.epochs, **config.recipe.model_dump()).lr_at(60) == pytest.approx(0.02)


def test_profile_composes():
    assert (
        ProfileConfig.model_validate(composed("model=cifar_resnet20", config_name="profile", given=[])).model.checkpoint
        == "random"
    )
