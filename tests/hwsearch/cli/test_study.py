"""``hwsearch study`` as users call it."""

import json
from importlib import resources

import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

SMALL = ["models=[digits]", "quantizers=[minmax,requant]", "precisions=[W6A32,W3A32]"]


@pytest.fixture
def study(hwsearch, tmp_path):
    """Run a study into a folder of that name."""

    def run(folder, *args):
        return hwsearch("study", *args, f"run_dir={tmp_path / folder}", f"cache_dir={tmp_path / 'cache'}")

    return run


def test_one_table_of_every_quantizer_at_every_precision(hwsearch, study, tmp_path):
    result = study("run", "quantizers=[requant]", "precisions=[W3A8,W3A32]", "granularities=[per_tensor,per_channel]")
    assert result.status == 0, result.err
    assert result.out.count("digits │") == 2
    table = pd.read_csv(tmp_path / "run" / "study.csv")
    rows = [*zip(table["quantizer"], table["granularity"], table["precision"], strict=True)]
    expected = [("requant", g, p) for g in ("per_tensor", "per_channel") for p in ("W3A8", "W3A32")]
    assert rows == expected
    assert (tmp_path / "run" / "study.md").read_text().startswith("| model | float | quantizer | granularity | W3A8 |")
    options = ["quantizer=requant", "precisions=W3A32", f"run_dir={tmp_path / 'one'}"]
    assert hwsearch("evaluate", *options).status == 0
    judged = json.loads((tmp_path / "one" / "result.json").read_text())
    assert table["top1"].iloc[-1] == judged["top1"] and table["top1_low"].iloc[-1] == judged["interval"][0]


def test_a_stopped_study_goes_on_wherever_it_is_called_from(hwsearch, study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hwsearch("study", *SMALL, "run_dir=run", "cache_dir=other").status == 0
    monkeypatch.chdir("/")
    path = tmp_path / "run" / "study.csv"
    whole = path.read_bytes()
    rows = pd.read_csv(path)
    rows[rows["quantizer"] == "minmax"].to_csv(path, index=False)
    assert study("run", *SMALL).status == 0
    assert path.read_bytes() == whole
    result = study("run", *SMALL[:2], "precisions=[W4A32]")
    assert result.status == 2
    assert "holds a study with precisions=['W6A32', 'W3A32'], not ['W4A32']. Choose another run_dir." in result.err


def test_a_study_does_not_go_on_with_other_weights(study, tmp_path):
    weights = load_file(resources.files("hwsearch.networks").joinpath("digits.safetensors"))
    checkpoint = tmp_path / "weights.safetensors"
    save_file(weights, checkpoint)
    options = [f"models=[digits:{checkpoint}]", "quantizers=[minmax,equalized]", "precisions=[W4A32]"]
    assert study("run", *options).status == 0
    path = tmp_path / "run" / "study.csv"
    rows = pd.read_csv(path)
    rows[rows["quantizer"] == "minmax"].to_csv(path, index=False)
    held = path.read_bytes()
    save_file(weights | {"conv1.weight": weights["conv1.weight"] * 1.01}, checkpoint)
    result = study("run", *options)
    assert result.status == 2
    assert result.err.startswith(
        f"Error: Run folder '{tmp_path / 'run'}' holds a study of 'digits' with other weights: their fingerprint is "
    )
    assert path.read_bytes() == held
    save_file(weights, checkpoint)
    assert study("run", *options).status == 0
    assert list(pd.read_csv(path)["quantizer"]) == ["minmax", "equalized"]


@pytest.mark.parametrize("key", ["models", "quantizers", "precisions"])
def test_a_study_of_nothing_is_refused(study, key):
    result = study("run", *SMALL, f"{key}=[]")
    assert result.status == 2
    assert f"The configuration does not fit: {key}: List should have at least 1 item" in result.err


def test_no_granularities_are_the_quantizers_own(study, tmp_path):
    assert study("run", "quantizers=[requant_per_tensor]", "precisions=[W4A32]", "granularities=[]").status == 0
    assert list(pd.read_csv(tmp_path / "run" / "study.csv")["granularity"]) == ["per_tensor"]


def test_what_it_lacks_is_named_before_any_work(study, tmp_path):
    result = study("a", "models=[cifar_resnet20]")
    assert result.status == 2
    assert "models names 'cifar_resnet20' without its weights; write cifar_resnet20:FILE" in result.err
    result = study("b", "quantizers=[requan]")
    assert result.status == 2 and "requan" in result.err
    result = study("c", "precisions=[W4]")
    assert result.status == 2 and "W4" in result.err
    assert not (tmp_path / "c" / "study.csv").exists()


@pytest.mark.parametrize(
    ("twice", "named"),
    [("models=[digits,digits]", "digits, minmax, per_channel"), ("precisions=[W4A32,W4A32]", "W4A32")],
)
def test_rows_and_columns_of_one_name_are_refused(study, twice, named):
    result = study("run", *SMALL, twice)
    message = f"Error: The study names '{named}' more than once; its table could not tell them apart.\n"
    assert (result.status, result.err) == (2, message)


@pytest.mark.slow
def test_the_papers_study_runs_small(study, shared, tmp_path):
    network = f"models=[cifar_resnet20:{shared / 'cifar10' / 'resnet20.pth'}]"
    data = [f"data.root={shared / 'cifar10'}", "data.loader.test=cifar10_calib2048.npz"]
    data += ["data.loader.calibration=cifar10_test.npz", "data.calibration_images=8", "data.batch_size=128"]
    chosen = ["quantizers=[minmax,requant]", "precisions=[W8A32,W3A32]"]
    result = study("run", "experiment=requant_paper", network, *data, *chosen)
    assert result.status == 0, result.err
    top1 = pd.read_csv(tmp_path / "run" / "study.csv").set_index(["quantizer", "precision"])["top1"]
    assert abs(top1["requant", "W8A32"] - top1["minmax", "W8A32"]) < 1
    assert top1["requant", "W3A32"] > top1["minmax", "W3A32"] + 10  # per tensor, as in the paper
