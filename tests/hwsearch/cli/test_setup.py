"""What commands are set up with."""

import json

import pytest

from hwsearch.cli.schema import EvaluateConfig
from hwsearch.cli.setup import activation_ranges, equalized, load_task


@pytest.fixture
def config(hwsearch, tiny, tmp_path) -> EvaluateConfig:
    assert hwsearch("evaluate", *tiny, f"run_dir={tmp_path / 'run'}").status == 0
    return EvaluateConfig.model_validate(json.loads((tmp_path / "run" / "result.json").read_text())["config"])


def test_activation_ranges_are_computed_once_for_a_network_and_an_estimator(config):
    task = load_task(config)
    ranges = activation_ranges(config, task)
    assert activation_ranges(config, task) is ranges
    minmax = {"activations": {"_target_": "hwsearch.quantize.minmax", "_partial_": True}}
    other = config.model_copy(update={"quantizer": config.quantizer.model_copy(update=minmax)})
    found = activation_ranges(other, task)
    assert found is not ranges and found.keys() == ranges.keys()
    scaled = config.quantizer.model_copy(
        update={"equalization": {"_target_": "hwsearch.quantize.equalize", "_partial_": True}}
    )
    assert activation_ranges(config, equalized(task, scaled)) is not ranges
