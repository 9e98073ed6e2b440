"""Training of a small network on a part of the digits."""

import dataclasses

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hwsearch.data import Preprocess, load_digits
from hwsearch.networks import load_checkpoint
from hwsearch.train import Recipe, train

PREPROCESS = Preprocess((1, 8, 8), divisor=16.0)
RECIPE = Recipe(
    epochs=3,
    batch_size=20,
    lr=0.1,
    decay=0.2,
    decay_at=[0.5],
    momentum=0.9,
    weight_decay=5e-4,
    crop_padding=1,
    flip=False,
)


@pytest.fixture(scope="module")
def data():
    return load_digits(preprocess=PREPROCESS, max_calibration=300)


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1)
        return nn.Sequential(*layers, nn.Linear(512, 10))


def files(folder):
    return load_file(folder / "weights.safetensors"), (folder / "training.csv").read_bytes()


def test_it_learns_and_its_weights_load(data, tmp_path):
    module = network()
    log = train(module, data, PREPROCESS, RECIPE, tmp_path)
    assert list(log["epoch"]) == [1, 2, 3] and list(log["lr"]) == pytest.approx([0.1, 0.1, 0.02])
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]
    assert log["test_top1"].iloc[-1] > 60
    pd.testing.assert_frame_equal(log, pd.read_csv(tmp_path / "training.csv"))
    loaded = load_checkpoint(network(), tmp_path / "weights.safetensors").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in module.state_dict().items())


def test_a_stopped_training_goes_on_to_the_same_weights(data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    train(network(), data, PREPROCESS, RECIPE, whole, seed=5)
    stopped, steps = network(), iter(range(70))  # 1 for the classes, 15 and 50 for the first epoch and its judgement

    def step(*_):
        if next(steps, None) is None:
            raise KeyboardInterrupt

    stopped.register_forward_pre_hook(step)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, data, PREPROCESS, RECIPE, parts, seed=5)
    assert len(pd.read_csv(parts / "training.csv")) == 1 and not (parts / "weights.safetensors").exists()
    train(network(), data, PREPROCESS, RECIPE, parts, seed=5)
    (weights, log), (expected, expected_log) = files(parts), files(whole)
    assert log == expected_log
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_a_finished_training_is_not_repeated(data, tmp_path):
    first = train(network(), data, PREPROCESS, RECIPE, tmp_path)
    written = (tmp_path / "training.pt").stat().st_mtime_ns
    again = train(network(), data, PREPROCESS, RECIPE, tmp_path)
    assert (tmp_path / "training.pt").stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(first, again)


def test_global_randomness_is_left_alone_and_does_not_matter(data, tmp_path):
    logs = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        logs.append(train(network(), data, PREPROCESS, dataclasses.replace(RECIPE, epochs=1), folder))
        assert torch.equal(torch.get_rng_state(), before)
    pd.testing.assert_frame_equal(*logs)


def test_another_seed_gives_other_weights(data, tmp_path):
    one = dataclasses.replace(RECIPE, epochs=1)
    first, second = network(), network()
    for seed, module in enumerate((first, second)):
        (tmp_path / str(seed)).mkdir()
        train(module, data, PREPROCESS, one, tmp_path / str(seed), seed=seed)
    assert not torch.equal(first[0].weight, second[0].weight)


def test_a_folder_of_another_training_is_refused(data, tmp_path):
    train(network(), data, PREPROCESS, dataclasses.replace(RECIPE, epochs=1), tmp_path)
    with pytest.raises(ValueError, match=r"holds a training with another recipe: .*Choose another run_dir"):
        train(network(), data, PREPROCESS, RECIPE, tmp_path)
    with pytest.raises(ValueError, match=r"holds a training with another seed: 0, not 1"):
        train(network(), data, PREPROCESS, dataclasses.replace(RECIPE, epochs=1), tmp_path, seed=1)


def test_a_training_on_other_inputs_or_labels_is_refused(data, tmp_path):
    one = dataclasses.replace(RECIPE, epochs=1)
    train(network(), data, PREPROCESS, one, tmp_path)
    with pytest.raises(ValueError, match=r"holds a training with another preprocess: .*divisor=16"):
        train(network(), data, dataclasses.replace(PREPROCESS, divisor=8.0), one, tmp_path)
    other = dataclasses.replace(data, calibration_labels=9 - data.calibration_labels)
    with pytest.raises(ValueError, match=r"holds a training with another labels: "):
        train(network(), other, PREPROCESS, one, tmp_path)


def test_images_without_labels_are_refused(data, tmp_path):
    unlabelled = dataclasses.replace(data, calibration_labels=None)
    with pytest.raises(ValueError, match=r"^Data 'digits' has no labels of its training images"):
        train(network(), unlabelled, PREPROCESS, RECIPE, tmp_path)


def test_too_few_classes_are_refused(data, tmp_path):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 9))
    with pytest.raises(ValueError, match=r"labels up to 9, but the network gives 9 outputs"):
        train(module, data, PREPROCESS, RECIPE, tmp_path)


def test_a_diverging_loss_stops_the_training(data, tmp_path):
    with pytest.raises(ValueError, match=r"^The loss is (nan|inf) in epoch 1; start again with a smaller recipe\.lr"):
        train(network(), data, PREPROCESS, dataclasses.replace(RECIPE, lr=1e30), tmp_path)


def test_it_trains_on_cuda(data, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    log = train(network(), data, PREPROCESS, RECIPE, tmp_path, device="cuda")
    assert log["test_top1"].iloc[-1] > 70
