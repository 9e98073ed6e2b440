"""Exported folders: complete, exact, and never half-written."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds
from cost_models.tvm.target import Target
from hwsearch.data import Preprocess
from hwsearch.export import export_tvm, require_writable
from hwsearch.export.folder import _input
from hwsearch.export.run import Classifier, main, stored_inputs
from hwsearch.lowering import input_codes, run
from hwsearch.lowering.integer_network import Tensor

AARCH64 = (b"\x7fELF", 0xB7)
"""First bytes of an object file, and the machine that its header names at byte 18."""


@pytest.mark.parametrize("requantization", ["float32", "fixed_point"])
def test_an_exported_network_gives_the_logits_of_the_integer_reference(make, digits, tmp_path, requantization):
    export = make(requantization)
    export_tvm(export, tmp_path / "out", {"model": "digits"})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "constants.npy",
        "example.npz",
        "network.json",
        "network.so",
        "run.py",
    ]
    classifier = Classifier(tmp_path / "out")
    codes = input_codes(export.network, export.preprocess(digits).numpy())
    expected = run(export.network, codes, requantization)
    np.testing.assert_array_equal([classifier.logits(image) for image in digits], expected)
    about = json.loads((tmp_path / "out" / "network.json").read_text())
    assert (about["schema"], about["model"], about["requantization"]) == ("hwsearch.export/1", "digits", requantization)
    assert about["output"]["scale"] == export.network.logit_scale


def test_the_script_checks_itself_and_notices_a_change(make, tmp_path, capsys):
    export_tvm(make(), tmp_path / "out", {})
    main(tmp_path / "out", [])
    assert capsys.readouterr().out.startswith("The logits of the example are those expected, bit for bit.\nclass 0, ")
    constants = np.load(tmp_path / "out" / "constants.npy")
    np.save(tmp_path / "out" / "constants.npy", np.roll(constants, 64))
    with pytest.raises(SystemExit, match="The logits of the example are"):
        main(tmp_path / "out", [])


def test_an_image_of_another_shape_is_refused(make, digits, tmp_path):
    export_tvm(make(), tmp_path / "out", {})
    np.save(tmp_path / "image.npy", digits[0][:7])
    with pytest.raises(ValueError, match=r"An image is uint8 or float32 of shape \(8, 8, 1\), not \w+ of \(7, 8, 1\)"):
        main(tmp_path / "out", [str(tmp_path / "image.npy")])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_inputs_are_rounded_as_by_hwsearch(make, layout, dtype):
    """Also with a zero point, a ring, unused channels, and scales that are no powers of two."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    preprocess = Preprocess((3, 9, 7), divisor=255.0, mean=mean, std=std, layout=layout)
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3)).astype(dtype)
    network = signed_input(make().network, (9, 7, 3) if layout == "NCHW" else (7, 3, 9))
    expected = input_codes(network, preprocess(images).numpy())
    about = json.loads(json.dumps(_input(network, preprocess)))
    for i, image in enumerate(images):
        (found,) = stored_inputs(image, about)
        np.testing.assert_array_equal(found, expected[network.inputs[0]][i])


def signed_input(network, size):
    """A network that reads signed images of another size."""
    height, width, channels = size
    tensor = Tensor(Image(height, width, channels, ring=(1, 2, 0, 1)), 0.018, Bounds(117, 0, 255))
    return replace(network, tensors={network.inputs[0]: tensor})


def test_another_machine_gets_an_archive_of_its_object_files(make, tmp_path):
    target = Target("aarch64-linux-gnu", "cortex-a76")
    export_tvm(make("fixed_point", target), tmp_path / "out", {})
    with tarfile.open(tmp_path / "out" / "network.tar") as archive:
        objects = [archive.extractfile(name).read() for name in archive.getnames() if name.endswith(".o")]
    assert objects
    assert {(code[:4], code[18]) for code in objects} == {AARCH64}
    assert json.loads((tmp_path / "out" / "network.json").read_text())["target"]["mcpu"] == "cortex-a76"


def test_an_export_replaces_an_earlier_one_and_nothing_else(make, tmp_path):
    for name in ("first", "second"):
        export_tvm(make(), tmp_path / "out", {"model": name})
    assert json.loads((tmp_path / "out" / "network.json").read_text())["model"] == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_only_an_export_or_an_empty_folder_is_replaced(tmp_path):
    require_writable(tmp_path / "new" / "out")
    require_writable(tmp_path / "new")  # empty
    for name, content in (("notes.txt", "mine"), ("network.json", '{"schema": "hwsearch.network/1"}')):
        own = tmp_path / name.replace(".", "_")
        own.mkdir()
        (own / name).write_text(content)  # the second is a file of run folders
        with pytest.raises(FileExistsError, match=r"' holds something else than an export; choose another --out"):
            require_writable(own)


def test_a_full_disk_leaves_nothing(make, tiny_disk):
    with pytest.raises(OSError, match=r"out' can't be written: No space left on device\. Choose another --out\."):
        export_tvm(make(), tiny_disk / "out", {})
    assert list(tiny_disk.iterdir()) == []
