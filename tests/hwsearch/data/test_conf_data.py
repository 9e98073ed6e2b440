"""Every YAML of conf/data, composed as the command line does."""

from collections import Counter
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hwsearch.data import Preprocess

CONF = Path(__file__).parents[3] / "conf" / "data"
SHARED = Path(__file__).parents[3].parent / "shared" / "data"
FIELDS = {"name", "loader", "root", "split_seed", "calibration_images", "batch_size"}


def load(name, root, preprocess):
    config = OmegaConf.create({"data": OmegaConf.load(CONF / f"{name}.yaml")})
    config.data.root = None if root is None else str(root)
    return instantiate(config.data.loader)(preprocess=preprocess)


def shared(folder):
    if not (SHARED / folder).is_dir():
        pytest.skip(f"no {SHARED / folder}: real data is not shipped with the project")
    return SHARED / folder


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_names_itself_its_source_and_the_same_fields(path):
    config = OmegaConf.load(path)
    assert path.read_text().startswith("# ")
    assert config.name == path.stem and set(config) == FIELDS
    assert OmegaConf.is_missing(config, "root") == (path.stem != "digits")
    assert config.loader._partial_ is True


def test_digits_load_with_1000_labelled_images():
    data = load("digits", None, Preprocess((1, 8, 8), divisor=16.0))
    assert data.name == "digits" and data.inputs.shape == (1000, 8, 8, 1) and data.calibration.shape == (512, 8, 8, 1)


def test_cifar10_loads_with_the_counts_of_its_readme():
    data = load("cifar10", shared("cifar10"), Preprocess((3, 32, 32)))
    counts = Counter(data.labels.tolist())
    assert data.inputs.shape == (9975, 32, 32, 3) and data.calibration.shape == (512, 32, 32, 3)
    assert [counts[label] for label in range(10)] == [1000] * 7 + [999, 976, 1000]  # 1 horse, 24 ships missing


def test_kws_loads_without_its_calibration_samples():
    data = load("kws", shared("kws"), Preprocess((1, 49, 10)))
    assert data.inputs.shape == (808, 49, 10, 1) and data.calibration.shape == (192, 49, 10, 1)
    assert set(data.labels.tolist()) == set(range(12))


def test_vww_loads_without_its_calibration_samples():
    data = load("vww", shared("vww"), Preprocess((3, 96, 96)))
    assert data.inputs.shape == (800, 96, 96, 3) and data.calibration.shape == (200, 96, 96, 3)


def test_imagenet_loads_1000_photographs_of_430_classes():
    data = load("imagenet_nips17", shared("imagenet"), Preprocess((3, 32, 32), resize=True))
    assert data.inputs.shape == (1000, 32, 32, 3) and data.calibration.shape == (1000, 32, 32, 3)
    assert data.labels[:4].tolist() == [305, 883, 243, 559] and len(set(data.labels.tolist())) == 430
