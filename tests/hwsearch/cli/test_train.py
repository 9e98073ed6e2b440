"""``hwsearch train`` as users call it."""

import pandas as pd
import pytest
import yaml

SMALL = ["model=digits", "model.checkpoint=random", "data=digits", "epochs=2", "data.calibration_images=200"]
SMALL += ["recipe.batch_size=40", "recipe.crop_padding=1", "recipe.flip=false"]


def test_trained_weights_are_a_checkpoint(hwsearch, tmp_path):
    run = tmp_path / "run"
    result = hwsearch("train", *SMALL, f"run_dir={run}")
    assert result.status == 0, result.err
    assert f"model.checkpoint={run / 'weights.safetensors'}" in result.out
    assert list(pd.read_csv(run / "training.csv")["epoch"]) == [1, 2]
    assert (run / "config.yaml").exists()
    again = hwsearch("train", *SMALL, f"run_dir={run}")
    assert (again.status, again.out) == (0, result.out)
    weights = f"model.checkpoint={run / 'weights.safetensors'}"
    judged = hwsearch("evaluate", weights, "model.checkpoint_sha256=null", f"run_dir={tmp_path / 'judged'}")
    assert f"{pd.read_csv(run / 'training.csv')['test_top1'].iloc[-1]:.2f} %" in judged.out


def test_the_configuration_is_there_from_the_first_epoch_on_and_stays(hwsearch, tmp_path):
    config = tmp_path / "config.yaml"
    result = hwsearch("train", *SMALL, "recipe.lr=1e30", f"run_dir={tmp_path}")
    assert result.status == 2 and "The loss is" in result.err
    assert yaml.safe_load(config.read_text())["recipe"]["lr"] == 1e30
    assert hwsearch("train", *SMALL, f"run_dir={tmp_path}").status == 0
    written = config.read_bytes()
    result = hwsearch("train", *SMALL, "seed=1", f"run_dir={tmp_path}")
    assert result.status == 2 and "holds a training with another seed: 0, not 1" in result.err
    assert config.read_bytes() == written


def test_bad_recipes_are_refused_at_once(hwsearch, tmp_path):
    result = hwsearch("train", *SMALL, "recipe.lr=-1", f"run_dir={tmp_path}")
    assert result.status == 2 and "Training with lr=-1.0 is not possible" in result.err
    result = hwsearch("train", *SMALL, "recipe.rate=1", f"run_dir={tmp_path}")
    assert result.status == 2 and "recipe.rate" in result.err
    result = hwsearch("train", "model=cifar_resnet20", "data=cifar10", f"run_dir={tmp_path}")
    assert result.status == 2 and "data.root is not set" in result.err


@pytest.mark.slow
def test_a_cifar_network_trains_for_an_epoch(hwsearch, shared, tmp_path):
    data = ["data=cifar10", f"data.root={shared / 'cifar10'}", "data.calibration_images=256"]
    result = hwsearch("train", "model=cifar_resnet20", *data, "epochs=1", f"run_dir={tmp_path}")
    assert result.status == 0, result.err
    assert "after 1 epochs on 256 images of cifar10" in result.out
