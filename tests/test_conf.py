"""Every file of ``conf/`` composes into a configuration that the schema accepts and whose parts can be built."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.samplers import BaseSampler

from cost_models import CostModel
from hwsearch.cli.hydra_app import conf_dir
from hwsearch.cli.schema import EvaluateConfig, SearchConfig
from hwsearch.search import check_objectives

CONF = Path(__file__).parents[1] / "conf"
CHOICES = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml"))]
GIVEN = ["model.checkpoint=random", "data.root=."]


def composed(*overrides: str, config_name: str = "config"):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose(config_name, [*overrides, *GIVEN]), resolve=True)


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
    device = instantiate(composed(f"hardware={name}")["hardware"], _convert_="all")
    assert isinstance(device, CostModel)
    assert device.name == name
    assert (CONF / "hardware" / f"{name}.yaml").read_text().startswith("# Source: ")


@pytest.mark.parametrize("name", [name for group, name in CHOICES if group == "sampler"])
def test_every_sampler_takes_a_seed(name):
    assert isinstance(instantiate(composed(f"sampler={name}")["sampler"], seed=1), BaseSampler)


@pytest.mark.parametrize("name", [name for group, name in CHOICES if group == "quantizer"])
def test_every_quantizer_is_a_pair_of_functions(name):
    quantizer = composed(f"quantizer={name}")["quantizer"]
    assert all(callable(instantiate(quantizer[kind])) for kind in ("weights", "activations"))


def test_evaluate_composes():
    assert EvaluateConfig.model_validate(composed(config_name="evaluate")).precisions is None
