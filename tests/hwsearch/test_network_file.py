"""Networks stored beside results, read back without loss."""

import json
from pathlib import Path

import pytest
import torch

from hwsearch.graph import capture
from hwsearch.network_file import NETWORK_FILE, network_content, read_network
from hwsearch.networks import DigitsResNet
from hwsearch.run_folder import write_json


def test_a_network_is_read_as_it_was_written(tmp_path: Path) -> None:
    spec = capture(DigitsResNet().eval(), torch.zeros(1, 1, 8, 8)).spec
    write_json(network_content(spec), tmp_path / NETWORK_FILE)
    read = read_network(tmp_path)
    assert read == spec
    assert list(read.inputs) == list(spec.inputs)  # the order they run


def test_a_folder_without_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        read_network(tmp_path)
    assert str(error.value) == (
        f"'{tmp_path}' has no network.json. A search adds it to its folder when its command is given again with "
        f"run_dir={tmp_path}; 'hwsearch profile model=NAME run_dir={tmp_path}' writes that of a network."
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "its schema is not 'hwsearch.network/1'"),
        ({"schema": "hwsearch.network/2"}, "its schema is not 'hwsearch.network/1'"),
        ({"schema": "hwsearch.network/1", "layers": [], "operators": []}, "'inputs': Field required"),
        (
            {"schema": "hwsearch.network/1", "layers": [{"name": "a", "op": "conv"}], "operators": [], "inputs": {}},
            "'layers.0.op': Input should be 'conv2d' or 'linear'; 'layers.0.in_channels': Field required; "
            "'layers.0.out_channels': Field required",
        ),
    ],
)
def test_another_file_of_that_name_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    (tmp_path / NETWORK_FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError) as error:
        read_network(tmp_path)
    assert str(error.value) == f"'{tmp_path / NETWORK_FILE}' describes no network: {reason}."


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / NETWORK_FILE).write_text('{"schema": ')
    with pytest.raises(ValueError, match=r"network\.json' describes no network: Expecting value"):
        read_network(tmp_path)
