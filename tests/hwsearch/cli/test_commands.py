import filecmp
import json

import pandas as pd
import pytest

from hwsearch.compare import load_run

from .conftest import SMALL

TABLES = (
    "trials.csv",
    "precisions.csv",
    "progress.csv",
    "pareto.csv",
    "groups.csv",
    "cost_table.csv",
    "layers.csv",
    "ranges.csv",
    "run.json",
    "versions.json",
)


@pytest.mark.slow
def test_workers_share_a_search(hwsearch, tmp_path):
    result = hwsearch("search", *SMALL, "workers=2", f"run_dir={tmp_path / 'run'}")
    assert result.status == 0, result.err
    trials = pd.read_csv(tmp_path / "run" / "trials.csv")
    assert trials["state"].isin(["complete", "dropped"]).sum() == 6
    assert not pd.read_csv(tmp_path / "run" / "precisions.csv").drop(columns="trial").empty
    assert not list((tmp_path / "run").glob(".worker-*"))


def test_the_same_seed_gives_the_same_bytes(hwsearch, tmp_path):
    for name in ("one", "two"):
        result = hwsearch("search", "n_trials=20", "seed=3", f"run_dir={tmp_path / name}")
        assert result.status == 0, result.err
    assert filecmp.cmpfiles(tmp_path / "one", tmp_path / "two", TABLES, shallow=False) == (list(TABLES), [], [])
    assert (tmp_path / "one" / "pareto.png").stat().st_size > 10_000
    trials = pd.read_csv(tmp_path / "one" / "trials.csv")
    assert trials["state"].isin(["complete", "dropped"]).sum() == 20
    run = load_run(tmp_path / "one")
    assert set(run.pareto["kind"]) == {"float", "uniform", "mixed"}
    assert not run.pareto.loc[run.pareto["kind"] == "float", "on_front"].any()


def test_a_grid_of_searches_can_be_compared(hwsearch, tmp_path):
    grid = ["-m", "hardware=bitfusion_isca_2018,t4_roofline", "seed=1", "space.weight_bits=[4,8]", "n_trials=5"]
    grid.append("quantizer.codebook_bits=[4]")
    assert hwsearch("search", *grid, f"run_dir={tmp_path}").status == 0
    folders = sorted(path.parent for path in tmp_path.glob("*/pareto.csv"))
    assert [folder.name for folder in folders] == [
        "hardware=bitfusion_isca_2018,quantizer.codebook_bits=[4],seed=1,space.weight_bits=[4,8]",
        "hardware=t4_roofline,quantizer.codebook_bits=[4],seed=1,space.weight_bits=[4,8]",
    ]
    result = hwsearch("compare", *folders, "--x", "size_bytes", "--where", "test_top1 > 50", "--best", "size_bytes", "--out", tmp_path / "out")  # fmt: skip
    assert result.status == 0, result.err
    assert "Union front" in result.out
    assert "Hardware differs" in result.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "compare.csv",
        "summary.csv",
        "domination.csv",
        "compare.png",
    }
    assert hwsearch("compare", *folders, f"run_dir={tmp_path / 'named'}").status == 0
    assert (tmp_path / "named" / "summary.csv").exists()
    elsewhere = ["--on", "t4_roofline", "--on", "gap9_ne16", "--out", tmp_path / "elsewhere"]
    result = hwsearch("compare", *folders, *elsewhere)
    assert result.status == 0, result.err
    assert "does not run W4A4" in " ".join(result.out.split())
    assert "t4_roofline: The quantizer stores weights of 4 bits as codebooks" in " ".join(result.out.split())
    summary = pd.read_csv(tmp_path / "elsewhere" / "transfer_summary.csv")
    assert list(summary["device"]) == ["t4_roofline"] * 2 + ["gap9_ne16"] * 2
    assert summary["share"].between(0, 1).all()
    assert "leave it out with --on" in hwsearch("compare", *folders, "--on", "t4_roofline", "--best", "bops").err


def test_evaluate_judges_float_uniform_and_a_trial(hwsearch, tmp_path):
    assert hwsearch("evaluate", f"run_dir={tmp_path / 'float'}").status == 0
    result = json.loads((tmp_path / "float" / "result.json").read_text())
    assert result["n"] == 1000
    assert result["top1"] >= 99.0
    assert result["interval"][0] < result["top1"] < result["interval"][1]
    assert hwsearch("evaluate", "precisions=W3A8", "space=first_last_8", f"run_dir={tmp_path / 'w3'}").status == 0
    precisions = list(json.loads((tmp_path / "w3" / "result.json").read_text())["precisions"].values())
    assert (precisions[0], precisions[1], precisions[-1]) == ("W8A8", "W3A8", "W8A8")
    assert hwsearch("search", *SMALL, f"run_dir={tmp_path / 'run'}").status == 0
    file = f"precisions={tmp_path / 'run' / 'precisions.csv'}"
    result = hwsearch("evaluate", file, f"run_dir={tmp_path / 'trial'}")
    assert "holds 6 trials; choose one with trial=N" in result.err
    assert hwsearch("evaluate", file, "trial=0", f"run_dir={tmp_path / 'trial'}").status == 0
    judged = json.loads((tmp_path / "trial" / "result.json").read_text())
    pareto = pd.read_csv(tmp_path / "run" / "pareto.csv").set_index("trial").loc[0]
    # Both halves hold 500 images.
    assert judged["top1"] == pytest.approx((pareto["search_top1"] + pareto["test_top1"]) / 2, abs=1e-9)
    assert judged["size_bytes"] == pareto["size_bytes"]


def test_own_network_data_and_device_by_config_dir(hwsearch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_network.py").write_text("from hwsearch.networks import DigitsResNet as Net\n")
    conf = tmp_path / "conf"
    for group in ("model", "hardware"):
        (conf / group).mkdir(parents=True)
    (conf / "model" / "mine.yaml").write_text(
        "name: mine\n"
        "network: {_target_: own_network.Net, classes: 10}\n"
        "checkpoint: random\n"
        "checkpoint_sha256: null\n"
        "input: {_target_: hwsearch.data.Preprocess, shape: [1, 8, 8], divisor: 16.0}\n"
    )
    (conf / "hardware" / "npu.yaml").write_text(
        "_target_: cost_models.Analytic\nname: npu\nchip: NPU\nruntime: none\nbatch: 1\noutput_bits: 8\noverlap: max\n"
        "source: sheet\nsources: {sheet: {kind: datasheet, cite: round numbers}}\n"
        "compute:\n- {weight_bits: 8, activation_bits: 8, macs_per_s: 1e9, source: sheet}\n"
        "- {weight_bits: 4, activation_bits: 8, macs_per_s: 2e9, source: sheet}\n"
    )
    own = ["--config-dir", conf, "model=mine", "hardware=npu", "n_trials=4", f"run_dir={tmp_path / 'run'}"]
    assert hwsearch("search", *own).status == 0
    run = load_run(tmp_path / "run")
    assert run.info["hardware"] == "npu"
    assert run.pareto["energy_j"].isna().all()
    assert "npu" in hwsearch("list", "devices", "--config-dir", conf).out


def test_lists_and_help_suffice(hwsearch):
    assert "cifar_resnet20" in hwsearch("list", "models").out
    assert "bitfusion_isca_2018" in hwsearch("list", "devices").out
    assert "brute_force" in hwsearch("list", "samplers").out
    assert "resnet20_bitfusion" in hwsearch("list", "experiments").out
    for command, expected in (
        ("search", "n_trials=N"),
        ("evaluate", "precisions=W4A8"),
        ("compare", "--where"),
        ("list", "samplers"),
    ):
        assert expected in hwsearch(command, "--help").out


def test_cfg_job_prints_the_configuration_and_does_nothing(hwsearch, tmp_path):
    result = hwsearch("search", "--cfg", "job", "seed=7", f"run_dir={tmp_path / 'run'}")
    assert "seed: 7" in result.out
    assert not (tmp_path / "run" / "trials.csv").exists()


def test_pins_and_overrides_from_the_command_line(hwsearch, tmp_path):
    options = ["space.pinned=[first:W8A8]", "space.overrides=[{layers: 'block1*', weight_bits: [3]}]", "n_trials=8"]
    result = hwsearch("search", *SMALL[:2], *options, f"run_dir={tmp_path / 'run'}")
    assert result.status == 0, result.err
    bits = pd.read_csv(tmp_path / "run" / "precisions.csv").groupby("layer")["weight_bits"].unique()
    assert list(bits["conv1"]) == [8]
    assert all(list(widths) == [3] for layer, widths in bits.items() if layer.startswith("block1"))
    assert any(len(widths) == 2 for widths in bits)
    result = hwsearch("search", "--cfg", "job", "space=first_last_8", "space.pinned=[]")
    assert "pinned: []" in result.out
