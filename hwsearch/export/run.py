"""Runs the integer network of this folder. Needs numpy and TVM (pip install apache-tvm), not hwsearch.

python run.py               compares the logits of the example with those that are expected, bit for bit
python run.py IMAGE.npy     prints the class of an image: uint8 or float32 [height, width, channels], as the data
                            set stores it, before any scaling
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray


def stored_inputs(image: NDArray[Any], about: Mapping[str, Any]) -> list[NDArray[np.uint8]]:
    """Scale an image as in training, and round it to the integers of each tensor that the network reads.

    Args:
        image: ``[height, width, channels]``.
        about: ``input`` of ``network.json``.
    """
    divisor, mean, std = (np.asarray(about[name], np.float32) for name in ("divisor", "mean", "std"))
    x = ((image.astype(np.float32) / divisor - mean) / std).transpose(about["axes"])
    stored = []
    for tensor in about["tensors"]:
        zero_point = tensor["zero_point"]
        codes = np.clip(np.rint(x / np.float32(tensor["scale"])) + zero_point, tensor["qmin"], tensor["qmax"])
        top, left, bottom, right = tensor["ring"]
        ringed = np.pad(codes, ((top, bottom), (left, right), (0, 0)), constant_values=zero_point)
        surplus = tensor["stored_channels"] - ringed.shape[2]
        stored.append(np.pad(ringed, ((0, 0), (0, 0), (0, surplus))).astype(np.uint8))
    return stored


class Classifier:
    """The compiled network with its constants and memory.

    Args:
        folder: Holds ``network.json`` and the files that it names.
    """

    def __init__(self, folder: Path) -> None:
        self.about = json.loads((folder / "network.json").read_text())
        self._main = tvm.runtime.load_module(str(folder / self.about["library"]))["main"]
        self._constants = tvm.runtime.tensor(np.load(folder / self.about["constants"]))
        self._workspace = tvm.runtime.tensor(np.zeros(self.about["workspace_bytes"], np.uint8))
        self._logits = tvm.runtime.tensor(np.zeros(4 * self.about["output"]["stored_classes"], np.uint8))

    def logits(self, image: NDArray[Any]) -> NDArray[np.int32]:
        """Int32 ``[classes]`` in steps of ``output.scale``, of an image ``[height, width, channels]``."""
        expected = tuple(self.about["input"]["image"])
        if image.shape != expected or image.dtype not in (np.uint8, np.float32):
            raise ValueError(f"An image is uint8 or float32 of shape {expected}, not {image.dtype} of {image.shape}.")
        inputs = [tvm.runtime.tensor(codes.reshape(-1)) for codes in stored_inputs(image, self.about["input"])]
        self._main(*inputs, self._constants, self._workspace, self._logits)
        found: NDArray[np.int32] = self._logits.numpy().view(np.int32)[: self.about["output"]["classes"]]
        return found


def main(folder: Path, arguments: list[str]) -> None:
    """Classify an image, or check the example."""
    classifier = Classifier(folder)
    example = np.load(folder / classifier.about["example"])
    logits = classifier.logits(np.load(arguments[0]) if arguments else example["image"])
    if not arguments and not np.array_equal(logits, example["logits"]):
        raise SystemExit(f"The logits of the example are {logits.tolist()}; expected {example['logits'].tolist()}.")
    if not arguments:
        print("The logits of the example are those expected, bit for bit.")
    print(f"class {logits.argmax()}, logits {(logits * classifier.about['output']['scale']).round(3).tolist()}")


if __name__ == "__main__":
    main(Path(__file__).parent, sys.argv[1:])
