"""``hwsearch profile``: every layer at every precision, modelled or measured."""

import json
from time import monotonic

import pandas as pd
import pytest

from .conftest import QUICK


def test_a_modelled_device_is_profiled_without_weights_or_images(hwsearch, tmp_path):
    result = hwsearch("profile", "model=cifar_resnet20", "hardware=bitfusion_isca_2018", f"run_dir={tmp_path}")
    assert result.status == 0, result.err
    assert "cifar_resnet20 on bitfusion_isca_2018, per image at batch 16" in result.out
    assert "W6A8: stored 6-bit, computed 8-bit in 20 layers" in result.out
    assert "Note on bitfusion_isca_2018" in result.out
    costs = pd.read_csv(tmp_path / "cost_table.csv")
    eight = costs[(costs["weight_bits"] == 8) & (costs["activation_bits"] == 8)]
    profile = json.loads((tmp_path / "profile.json").read_text())
    assert profile["schema"] == "hwsearch.profile/1"
    assert profile["cost_source"] == "modelled"
    uniform = profile["uniform"]["W8A8"]
    assert uniform["latency_s"] == pytest.approx(eight["latency_s"].sum() + uniform["operators_s"], rel=1e-12)
    assert uniform["size_bytes"] == eight["size_bytes"].sum()
    assert len(pd.read_csv(tmp_path / "layers.csv")) == 20
    assert not (tmp_path / "measurements.csv").exists()


def test_a_measured_device_writes_what_it_measured_and_a_second_run_measures_nothing(hwsearch, tmp_path):
    widths = ["hardware.weight_bits=[2,4,8]", "hardware.activation_bits=[2,8]"]
    uniform_weights = "quantizer.codebook_bits=[]"
    options = ["hardware=tvm_cpu", *QUICK, *widths, uniform_weights, f"hardware.cache_dir={tmp_path / 'cache'}"]
    first = hwsearch("profile", *options, f"run_dir={tmp_path / 'one'}")
    assert first.status == 0, first.err
    measured = pd.read_csv(tmp_path / "one" / "measurements.csv")
    profile = json.loads((tmp_path / "one" / "profile.json").read_text())
    assert profile["cost_source"] == "measured"
    assert (measured["latency_s"] > 0).all()
    assert (measured["reference_s"] > 0).all()
    assert set(measured["threads"]) == {1}
    assert set(measured.loc[measured["stored_weight_bits"] == 2, "weight_format"]) == {"uniform"}
    assert {"cpu", "tvm", "llvm", "date", "spread", "rounds"} <= set(measured.columns)
    layers = set(pd.read_csv(tmp_path / "one" / "layers.csv")["layer"])
    assert layers <= set(" ".join(measured["used_by"]).split())
    assert "block3.conv1 block3.conv2" in " ".join(measured["used_by"])  # layers of one shape are measured once

    costs = pd.read_csv(tmp_path / "one" / "cost_table.csv").dropna(subset="latency_s")
    table = costs.pivot_table("latency_s", ["weight_bits", "activation_bits"], "layer")
    assert ((table.loc[(2, 8)] <= table.loc[(4, 8)]) & (table.loc[(4, 8)] <= table.loc[(8, 8)])).all()
    assert (table.loc[(2, 2)] <= table.loc[(2, 8)]).all()
    uniform = profile["uniform"]["W4A8"]
    assert uniform["latency_s"] == pytest.approx(table.loc[(4, 8)].sum() + uniform["operators_s"], rel=1e-12)

    start = monotonic()
    second = hwsearch("profile", *options, f"run_dir={tmp_path / 'two'}")
    assert monotonic() - start < 30
    assert second.out.splitlines()[:-1] == first.out.splitlines()[:-1]  # all but the folder
    for name in ("measurements.csv", "cost_table.csv"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


@pytest.mark.slow
def test_codebooks_are_measured_where_the_quantizer_stores_them(hwsearch, tiny, tmp_path):
    options = [*QUICK, "hardware.weight_bits=[2]", f"hardware.cache_dir={tmp_path / 'cache'}", f"run_dir={tmp_path}"]
    result = hwsearch("profile", *tiny, *options)
    assert result.status == 0, result.err
    measured = pd.read_csv(tmp_path / "measurements.csv")
    assert set(measured.loc[measured["stored_weight_bits"] == 2, "weight_format"]) == {"codebook"}
    assert json.loads((tmp_path / "profile.json").read_text())["quantizer"] == "fast"


def test_a_modelled_device_that_knows_no_codebooks_says_so(hwsearch, tmp_path):
    def said(*options):
        result = hwsearch("profile", "hardware=bitfusion_isca_2018", *options, f"run_dir={tmp_path}")
        assert result.status == 0, result.err
        warnings = json.loads((tmp_path / "profile.json").read_text())["warnings"]
        return "2 bits as codebooks" in " ".join(result.out.split()), "2 bits as codebooks" in " ".join(warnings)

    assert said() == (True, True)
    assert said("quantizer=requant") == (False, False)


def test_columns_are_those_asked_for(hwsearch, tmp_path):
    result = hwsearch("profile", "hardware=t4_roofline", "shown=[W4A4,W2A2]", f"run_dir={tmp_path}")
    assert result.out.splitlines()[1].split() == ["latency", "/", "ns", "W4A4"]
    result = hwsearch("profile", "hardware=t4_roofline", "shown=[four]", f"run_dir={tmp_path}")
    assert (result.status, result.err) == (
        2,
        "Error: 'four' is not a precision; write weight and activation bits as in W4A8.\n",
    )


def test_an_unknown_target_is_named_with_the_choices(hwsearch, tmp_path):
    target = "hardware.target={kind: llvm, mtriple: aarch64-linux-gnu, mcpu: cortex-a67}"
    result = hwsearch("profile", "hardware=tvm_cpu", target, f"run_dir={tmp_path}")
    assert (result.status, result.err) == (
        2,
        "Error: hardware: Target: unknown aarch64 mcpu 'cortex-a67'; choose from ['cortex-a78', 'cortex-a77', "
        "'cortex-a76', 'cortex-a75', 'cortex-a73'].\n",
    )


def test_a_target_that_this_machine_cannot_run_points_to_the_remote_device(hwsearch, tmp_path):
    result = hwsearch(
        "profile", "hardware=tvm_cpu", "hardware.target={kind: llvm, mtriple: armv7a-linux-gnueabihf}", f"run_dir={tmp_path}"
    )  # fmt: skip
    assert result.status == 2
    assert "is no CPU of this machine" in result.err
    assert "measure on the device itself, with hardware=tvm_rpc" in result.err


def test_a_tracker_must_be_given_and_answer(hwsearch, tmp_path):
    missing = hwsearch("profile", "hardware=tvm_rpc", f"run_dir={tmp_path}")
    assert (missing.status, missing.err) == (
        2,
        "Error: hardware.tracker is not set; give hardware.tracker=HOST:PORT, where python -m tvm.exec.rpc_tracker runs.\n",
    )
    device = ["hardware=tvm_rpc", "hardware.tracker=127.0.0.1:1", "hardware.key=board"]
    silent = hwsearch("profile", *device, f"run_dir={tmp_path}")
    assert silent.status == 2
    assert silent.err.startswith("Error: No RPC tracker answers at '127.0.0.1:1' (")
    assert silent.err.endswith("; start one with: python -m tvm.exec.rpc_tracker\n")


def test_help_says_what_to_type(hwsearch):
    assert "hardware=tvm_rpc hardware.tracker=HOST:PORT" in hwsearch("profile", "--help").out
