"""Each mistake a user can make gives one message that says what to do, and exit status 2."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from .conftest import SMALL

MEASURED = """
_target_: cost_models.Lookup
path: {path}
name: table
chip: none
runtime: none
batch: 1
origin: measured
source: own
sources: {{own: {{kind: measurement, cite: round numbers}}}}
"""


class RunsCode:
    """Unpickling this object calls a function."""

    def __reduce__(self):
        return print, ("unpickled",)


def test_unknown_option(hwsearch):
    result = hwsearch("search", "--foo")
    assert result.status == 2
    assert result.err.endswith("hwsearch search: error: unrecognized arguments: --foo\n")


def test_unknown_subcommand_and_group(hwsearch_process, hwsearch):
    assert "No such command 'serach'" in hwsearch_process("serach").stderr
    result = hwsearch("list", "gpus")
    assert result.status == 2
    assert result.err == (
        "Error: There is no list of 'gpus'; choose from models, devices, data, quantizers, spaces, samplers, sensitivities, objectives, "
        "experiments.\n"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("n_trails=5", "Error: Unknown key 'n_trails' in 'n_trails=5'. Did you mean 'n_trials'?\n"),
        ("+n_trails=5", "Error: Unknown key 'n_trails' in '+n_trails=5'. Did you mean 'n_trials'?\n"),
        (
            "space.weight_bit=[4]",
            "Error: Unknown key 'space.weight_bit' in 'space.weight_bit=[4]'. Did you mean 'weight_bits'?\n",
        ),
        (
            "n_trials=many",
            "Error: The configuration does not fit: n_trials: Input should be a valid integer, unable to parse string as an "
            "integer (got 'many').\n",
        ),
        (
            "+data.calibration_imges=100",
            "Error: Unknown key 'data.calibration_imges' in '+data.calibration_imges=100'. Did you mean 'calibration_images'?\n",
        ),
        ("constraints.latency=6", "Error: Unknown key 'constraints.latency' in 'constraints.latency=6'. Did you mean 'latency_s'?\n"),
        ("space.pinned=[first]", "Error: space.pinned holds 'first'; write LAYER:PRECISION as in first:W8A8.\n"),
        ("device=gpu", "Error: device=gpu is no torch device; set device=cpu or device=cuda.\n"),
        ("model.input.divisor=0", "Error: model.input.divisor=0 must be positive and finite.\n"),
        ("objective.objectives=[top5]", "Error: 'top5' is no objective; choose from ['top1', 'kl', 'agreement', 'latency_s', 'energy_j', 'size_bytes', 'bops'].\n"),
        ("constraints.size_bytes=-1", "Error: constraints.size_bytes=-1 must be positive.\n"),
        ("device=cuda:99", "Error: device=cuda:99: torch sees no CUDA device here; set device=cpu.\n"),
    ],
)  # fmt: skip
def test_typo_or_wrong_value(hwsearch, tmp_path, override, message):
    if override.startswith("device") and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    result = hwsearch("search", f"run_dir={tmp_path / 'run'}", override)
    assert (result.status, result.err) == (2, message)


def test_unknown_experiment_is_not_passed_over(hwsearch, tmp_path):
    result = hwsearch("search", "experiment=resnet20_bitfusoin", f"run_dir={tmp_path / 'run'}")
    assert result.status == 2
    assert "Could not find 'experiment/resnet20_bitfusoin'" in result.err


def test_wrong_value_of_a_device_names_the_field(hwsearch, tmp_path):
    result = hwsearch("search", "hardware.clock_hz=-5", f"run_dir={tmp_path / 'run'}")
    assert result.status == 2
    assert "clock_hz" in result.err
    assert "errors.pydantic.dev" not in result.err


def test_unknown_choice_lists_those_there_are(hwsearch, tmp_path):
    result = hwsearch("search", "hardware=tpu", f"run_dir={tmp_path / 'run'}")
    assert result.status == 2
    assert "Could not find 'hardware/tpu'" in result.err
    assert "bitfusion_isca_2018" in result.err


def test_bits_that_the_device_lacks(hwsearch, tmp_path):
    result = hwsearch("search", "hardware=t4_roofline", "space.weight_bits=[2,8]", f"run_dir={tmp_path / 'run'}")
    assert (result.status, result.err) == (
        2,
        "Error: Hardware 't4_roofline' has no kernels for weight_bits=[2] in layer 'conv1'; it supports [4, 8]. "
        "Set space.weight_bits to a subset.\n",
    )


def test_objective_that_the_device_does_not_know(hwsearch, tmp_path):
    (tmp_path / "conf" / "hardware").mkdir(parents=True)
    (tmp_path / "conf" / "hardware" / "npu.yaml").write_text(
        "_target_: cost_models.Analytic\nname: npu\nchip: NPU\nruntime: none\nbatch: 1\noutput_bits: 8\noverlap: max\n"
        "source: sheet\nsources: {sheet: {kind: datasheet, cite: round numbers}}\n"
        "compute: [{weight_bits: 8, activation_bits: 8, macs_per_s: 1e9, source: sheet}]\n"
    )
    own = ["--config-dir", tmp_path / "conf", "hardware=npu", f"run_dir={tmp_path / 'run'}"]
    result = hwsearch("search", *own, "objective=accuracy_energy")
    assert (result.status, result.err) == (
        2,
        "Error: Hardware 'npu' does not know energy_j; it knows ['latency_s', 'size_bytes', 'bops'].\n",
    )


def test_checkpoint_that_does_not_fit(hwsearch, tmp_path):
    digits = "hwsearch.networks:digits.safetensors"
    result = hwsearch("search", "model=cifar_resnet20", f"model.checkpoint={digits}", "data=cifar10", "data.root=.", f"run_dir={tmp_path / 'run'}")  # fmt: skip
    assert (result.status, result.err) == (
        2,
        f"Error: Checkpoint '{digits}' does not fit network CifarResNet: missing: layer1.0.conv1.weight, "
        "layer1.0.bn1.weight, layer1.0.bn1.bias and 89 more; unexpected: block1.bn1.bias, block1.bn1.num_batches_tracked, "
        "block1.bn1.running_mean and 41 more; other shapes: conv1.weight is [16, 1, 3, 3] in the file and [16, 3, 3, 3] in "
        "the network. Check the arguments of model.network (depth, width, shortcut, classes, stem).\n",
    )


def test_checkpoint_with_pickled_code_is_refused(hwsearch, tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"conv1.weight": torch.zeros(1), "payload": RunsCode()}, path)
    result = hwsearch(
        "evaluate", f"model.checkpoint={path}", "model.checkpoint_sha256=null", f"run_dir={tmp_path / 'run'}"
    )
    assert (result.status, result.err) == (
        2,
        f"Error: Checkpoint '{path}' holds objects of 'print'; unpickling could run any code, so only tensors are read. In the "
        "project that made the file, save the state dict alone: torch.save(model.state_dict(), 'weights.pth').\n",
    )
    assert "unpickled" not in result.out
    path.write_bytes(pickle.dumps(RunsCode()))
    assert (
        hwsearch(
            "evaluate", f"model.checkpoint={path}", "model.checkpoint_sha256=null", f"run_dir={tmp_path / 'run'}"
        ).status
        == 2
    )


def test_checkpoint_or_root_that_is_not_set(hwsearch, tmp_path):
    result = hwsearch("search", "model=cifar_resnet20", f"run_dir={tmp_path / 'run'}")
    assert result.err == (
        "Error: model.checkpoint is not set; give model.checkpoint=FILE (.safetensors or .pth), or model.checkpoint=random for "
        "random weights.\n"
    )
    result = hwsearch("evaluate", "data=cifar10", f"run_dir={tmp_path / 'run'}")
    assert result.err == "Error: data.root is not set; give data.root=DIR, the folder that holds the files.\n"


def test_images_of_the_wrong_shape(hwsearch, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cifar10_test.npz", "cifar10_calib2048.npz"):
        images = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
        np.savez(tmp_path / name, images=images, labels=np.arange(20) % 10)
    result = hwsearch(
        "evaluate", "model=cifar_resnet20", "model.checkpoint=random", "data=cifar10", f"data.root={tmp_path}", f"run_dir={tmp_path / 'run'}"
    )  # fmt: skip
    assert result.status == 2
    assert result.err == (
        "Error: Data 'cifar10' has images of 16x16x3 (H x W x C), but model input is 3x32x32 (C x H x W). Choose data and "
        "model that agree; model.input.resize=true resizes image files, not stored arrays.\n"
    )


def test_missing_image_file(hwsearch, tmp_path):
    result = hwsearch("evaluate", "model=cifar_resnet20", "model.checkpoint=random", "data=cifar10", f"data.root={tmp_path}", f"run_dir={tmp_path / 'run'}")  # fmt: skip
    assert result.status == 2
    assert str(tmp_path / "cifar10_test.npz") in result.err


def test_more_classes_than_the_network_has(hwsearch, tmp_path):
    result = hwsearch("evaluate", "model.network.classes=5", "model.checkpoint=random", f"run_dir={tmp_path / 'run'}")
    assert (result.status, result.err) == (
        2,
        "Error: Data 'digits' has labels up to 9, but model 'digits' gives outputs of shape [5] per image; "
        "set model.network.classes or choose other data.\n",
    )


def test_unwritable_run_folder(hwsearch, tmp_path):
    (tmp_path / "file").write_text("")
    result = hwsearch("search", f"run_dir={tmp_path / 'file' / 'run'}")
    assert (result.status, result.err) == (
        2,
        f"Error: Run folder '{tmp_path / 'file' / 'run'}' can't be written: Not a directory. Choose another run_dir.\n",
    )


def test_bound_on_a_cost_that_no_candidate_meets(hwsearch, tmp_path):
    result = hwsearch("search", "constraints.size_bytes=100", f"run_dir={tmp_path / 'run'}")
    assert (result.status, result.err) == (
        2,
        "Error: No candidate meets constraints.size_bytes=100: the nearest has size_bytes=11204, with every layer at W2A2.\n",
    )


def test_bound_on_accuracy_that_no_candidate_meets_keeps_the_tables(hwsearch, tmp_path):
    run_dir = tmp_path / "run"
    result = hwsearch("search", *SMALL, "constraints.top1=100.5", f"run_dir={run_dir}")
    assert result.status == 0
    assert "No candidate meets top1 >= 100.5: the nearest is trial" in result.out
    assert (run_dir / "pareto.csv").exists()


def test_run_folder_of_another_search(hwsearch, tmp_path):
    run_dir = f"run_dir={tmp_path / 'run'}"
    assert hwsearch("search", *SMALL, run_dir).status == 0
    result = hwsearch("search", *SMALL, run_dir, "seed=1")
    assert (result.status, result.err) == (
        2,
        "Error: The run folder holds a search with other settings (seed); repeat the command that began it, or choose "
        "another run_dir.\n",
    )


def test_costs_that_were_measured_again_are_those_of_another_search(hwsearch, tmp_path):
    (tmp_path / "hardware").mkdir()
    table = tmp_path / "table.csv"
    (tmp_path / "hardware" / "table.yaml").write_text(MEASURED.format(path=table))
    command = ["search", "--config-dir", tmp_path, "hardware=table", *SMALL, f"run_dir={tmp_path / 'run'}"]
    results = []
    for fc_s in (0.25, 0.5):
        table.write_text(
            f"op,weight_bits,activation_bits,latency_s\nconv2d,4,8,1\nconv2d,8,8,2\nlinear,4,8,{fc_s}\nlinear,8,8,0.5\n"
        )
        results.append(hwsearch(*command))
    assert [result.status for result in results] == [0, 2]
    assert "a search with other settings (costs)" in results[1].err


def test_compare_without_finished_runs(hwsearch, tmp_path):
    result = hwsearch("compare", tmp_path)
    assert result.status == 2
    assert result.err == f"Error: Run folder '{tmp_path}' has no run.json: the search may not have finished.\n"


def test_trial_without_a_file_is_refused(hwsearch, tmp_path):
    result = hwsearch("evaluate", "precisions=W4A8", "trial=7", f"run_dir={tmp_path / 'run'}")
    assert (result.status, result.err) == (
        2,
        "Error: trial=7 chooses a trial of a file; set precisions=FILE, e.g. a run's precisions.csv.\n",
    )


def test_precisions_that_are_neither_file_nor_shorthand(hwsearch, tmp_path):
    result = hwsearch("evaluate", "precisions=W4", f"run_dir={tmp_path / 'run'}")
    assert (result.status, result.err) == (2, "Error: precisions=W4 is neither a file nor a shorthand such as W4A8.\n")
    path = Path(tmp_path / "p.csv")
    path.write_text("layer,weight_bits,activation_bits\nconv9,8,8\n")
    result = hwsearch("evaluate", f"precisions={path}", f"run_dir={tmp_path / 'run'}")
    assert result.err.startswith("Error: The network has no layer 'conv9'. Did you mean conv1")


@pytest.mark.parametrize("command", ["evaluate", "study"])
@pytest.mark.parametrize(
    ("precision", "kind"), [("W1A8", "weight_bits"), ("W4A1", "activation_bits"), ("W16A32", "weight_bits")]
)
def test_widths_at_which_nothing_is_quantized(hwsearch, tmp_path, command, precision, kind):
    expected = f"holds {precision}, but {kind} must be one of [2, 3, 4, 5, 6, 7, 8], or 32 for floats.\n"
    stated = f"precisions={precision}" if command == "evaluate" else f"precisions=[W4A8,{precision}]"
    result = hwsearch(command, stated, f"run_dir={tmp_path / 'run'}")
    assert (result.status, result.err) == (2, f"Error: precisions {expected}")
    result = hwsearch(command, f"space.pinned=[first:{precision}]", f"run_dir={tmp_path / 'run'}")
    assert (result.status, result.err) == (2, f"Error: space.pinned {expected}")


def test_widths_of_a_file_at_which_nothing_is_quantized(hwsearch, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("layer,weight_bits,activation_bits\nconv1,4,1\n")
    result = hwsearch("evaluate", f"precisions={path}", f"run_dir={tmp_path / 'run'}")
    assert result.err.startswith(f"Error: precisions={path} holds W4A1, but activation_bits must be one of [2, ")


def test_importances_for_an_estimator_that_takes_none(hwsearch, tmp_path):
    weighted = ["quantizer=requant", "quantizer.hessian_weighted=true", "model.checkpoint=missing.pth"]
    result = hwsearch("evaluate", "precisions=W4A8", *weighted, f"run_dir={tmp_path / 'run'}")
    assert (result.status, result.err) == (
        2,
        "Error: hessian_weighted=true weighs squared errors, but for requant every weight counts the same; set "
        "hessian_weighted=false, or weights to requant_global, lp, octav, aciq, kl or percentile.\n",
    )
