"""Configurations: checks against a network's layers, and CSV files."""

from pathlib import Path

import pandas as pd
import pytest

from cost_models import FLOAT, Precision
from hwsearch.evaluate import check_config, read_precisions

W4A8 = Precision(4, 8)


def test_a_configuration_of_exactly_the_layers_is_accepted_in_any_order():
    check_config({"fc": W4A8, "conv": FLOAT}, ["conv", "fc"])
    check_config({}, [])


def test_an_unknown_layer_is_named_with_similar_ones():
    with pytest.raises(ValueError) as error:
        check_config({"layer1.conv": W4A8, "fc": W4A8}, ["layer1.conv1", "layer1.conv2", "fc"])
    assert str(error.value) == "The network has no layer 'layer1.conv'. Did you mean layer1.conv2, layer1.conv1?"


def test_an_unknown_layer_without_similar_ones_is_answered_with_all():
    with pytest.raises(ValueError) as error:
        check_config({"zzz": W4A8}, ["conv", "fc"])
    assert str(error.value) == "The network has no layer 'zzz'. It has conv, fc."


def test_missing_layers_are_counted_and_the_first_ones_named():
    with pytest.raises(ValueError) as error:
        check_config({"l0": W4A8}, [f"l{i}" for i in range(8)])
    assert str(error.value) == (
        "The configuration gives no precision for 7 of 8 layers: ['l1', 'l2', 'l3', 'l4', 'l5']."
    )


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "precisions.csv"


def refused(file: Path, text: str, trial: int | None = None) -> str:
    file.write_text(text)
    with pytest.raises(ValueError) as error:
        read_precisions(file, trial)
    return str(error.value)


def test_a_file_of_one_configuration_is_read(file):
    file.write_text("layer,weight_bits,activation_bits\nconv,4,8\nfc,32,32\n")
    assert read_precisions(file) == {"conv": W4A8, "fc": FLOAT}


def test_other_columns_and_their_order_do_not_matter(file):
    file.write_text("activation_bits,note,layer,weight_bits\n8,first,conv,4\n")
    assert read_precisions(file) == {"conv": W4A8}


def test_the_format_of_weights_is_kept(file):
    file.write_text("layer,weight_bits,activation_bits,weight_format\na,4,8,uniform\nb,4,8,codebook\n")
    assert read_precisions(file) == {"a": W4A8, "b": Precision(4, 8, "codebook")}


@pytest.mark.parametrize("names", [["0", "2"], ["0", "1.0", "1.10"], ["null", "NA", "nan", "inf"], ["a,b", 'c"d', "ü"]])
def test_layer_names_are_read_as_they_are_written(file, names):
    table = pd.DataFrame({"layer": names, "weight_bits": 4, "activation_bits": 8})
    table.to_csv(file, index=False)
    assert read_precisions(file) == dict.fromkeys(names, W4A8)


TRIALS = "trial,layer,weight_bits,activation_bits\n3,conv,4,8\n3,fc,8,8\n12,conv,2,2\n12,fc,32,32\n"


def test_one_of_several_trials_is_read(file):
    file.write_text(TRIALS)
    assert read_precisions(file, 3) == {"conv": W4A8, "fc": Precision(8, 8)}
    assert read_precisions(file, 12) == {"conv": Precision(2, 2), "fc": FLOAT}


def test_the_only_trial_needs_no_choice(file):
    file.write_text("\n".join(TRIALS.splitlines()[:3]))
    assert read_precisions(file) == read_precisions(file, 3) == {"conv": W4A8, "fc": Precision(8, 8)}


def test_several_trials_need_a_choice(file):
    assert refused(file, TRIALS) == (f"Precision file '{file}' holds 2 trials; choose one with trial=N, e.g. trial=3.")


def test_an_unknown_trial_is_refused_with_those_there_are(file):
    assert refused(file, TRIALS, 4) == f"Precision file '{file}' has no trial 4; it has 3, 12."


def test_a_trial_of_a_file_without_trials_is_refused(file):
    assert refused(file, "layer,weight_bits,activation_bits\nconv,4,8\n", 0) == (
        f"Precision file '{file}' holds one configuration and no column trial; leave out trial=0."
    )


def test_a_layer_named_twice_is_refused(file):
    text = "layer,weight_bits,activation_bits\nconv,4,8\nfc,4,8\nconv,8,8\n"
    assert refused(file, text) == f"Precision file '{file}' names layer 'conv' twice."


def test_missing_columns_are_named(file):
    assert refused(file, "layer,weights\nconv,4\n") == (
        f"Precision file '{file}' lacks the columns ['weight_bits', 'activation_bits']; it has ['layer', 'weights']."
    )


@pytest.mark.parametrize("cell", ["4.5", "", "four", "inf", "nan"])
def test_bits_that_are_no_whole_numbers_are_refused_with_their_layer(file, cell):
    assert refused(file, f"layer,weight_bits,activation_bits\nfc,8,8\nconv,{cell},8\n") == (
        f"Precision file '{file}' gives layer 'conv' weight_bits='{cell}' and activation_bits='8'; they must be whole "
        "numbers."
    )


def test_whole_numbers_may_be_written_as_floats(file):
    file.write_text("layer,weight_bits,activation_bits\nconv,4.0,8\n")
    assert read_precisions(file) == {"conv": W4A8}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01" * 9, b'layer,weight_bits\n"open,4\n'])
def test_a_file_that_is_no_table_is_refused_with_its_path(file, content):
    file.write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_precisions(file)
    assert str(error.value).startswith(f"Precision file '{file}' is no CSV table: ")


def test_a_missing_file_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_precisions(tmp_path / "none.csv")
    path = tmp_path / "none.csv"
    assert str(error.value) == f"There is no precision file '{path}'; give a CSV, or a shorthand such as W4A8."
