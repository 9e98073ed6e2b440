"""A network as a folder that runs without hwsearch: TVM's library, its constants, an example and a script."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models.tvm import driver
from cost_models.tvm.integer import Requantization
from cost_models.tvm.program import Program
from cost_models.tvm.runner import exported
from cost_models.tvm.target import Target, compiler_versions, host
from cost_models.tvm.tuner import isa_of
from hwsearch.data import Preprocess
from hwsearch.lowering import IntegerNetwork, input_codes, run
from hwsearch.lowering.program import Choose, program

SCHEMA = "hwsearch.export/1"
DESCRIPTION, SCRIPT = "network.json", "run.py"
CONSTANTS, EXAMPLE = "constants.npy", "example.npz"


@dataclass(frozen=True)
class Export:
    """What is exported, and for which machine.

    Attributes:
        network: The integer network.
        requantization: ``"float32"`` or ``"fixed_point"``.
        target: The machine's CPU.
        choose: Picks the kernel of each layer.
        preprocess: From stored images to the network's input.
        image: An example as stored, uint8 or float32 ``[H, W, C]``.
    """

    network: IntegerNetwork
    requantization: Requantization
    target: Target
    choose: Choose
    preprocess: Preprocess
    image: NDArray[Any]


def export_tvm(export: Export, out: Path, about: Mapping[str, Any]) -> None:
    """Compile a network and write the folder whole or not at all.

    Args:
        export: What to write.
        out: The folder; an earlier export there is replaced.
        about: Where the network is from; goes into ``network.json``.

    Raises:
        FileExistsError: If ``out`` holds something else than an export.
        OSError: If the folder cannot be written.
    """
    calls = program(export.network, export.requantization, export.choose, isa_of(export.target))
    executable = driver.compile(calls.build(), export.target.attributes)
    # A shared library needs a linker for the target; an archive of object files is linked by TVM where it is loaded.
    suffix = ".so" if export.target.architecture == host().architecture else ".tar"
    library = exported(executable, suffix)
    codes = input_codes(export.network, export.preprocess(export.image[np.newaxis]).numpy())
    logits = run(export.network, codes, export.requantization)[0]
    description = {"schema": SCHEMA, **about, "library": f"network{suffix}", **_description(export, calls)}
    files = {
        f"network{suffix}": library,
        CONSTANTS: _saved(np.save, calls.constants),
        EXAMPLE: _saved(np.savez, image=export.image, logits=logits),
        SCRIPT: resources.files("hwsearch.export").joinpath(SCRIPT).read_bytes(),
        DESCRIPTION: f"{json.dumps(description, indent=2)}\n".encode(),
    }
    _write_folder(out, files)


def _description(export: Export, calls: Program) -> dict[str, Any]:
    logits = export.network.tensors[export.network.logits]
    return {
        "constants": CONSTANTS,
        "example": EXAMPLE,
        "target": export.target.attributes,
        "compiler": dict(compiler_versions()),
        "requantization": export.requantization,
        "workspace_bytes": max(calls.workspace_bytes, 1),
        "input": _input(export.network, export.preprocess),
        "output": {
            "classes": logits.image.channels,
            "stored_classes": logits.image.stored_channels,
            "scale": logits.scale,
        },
    }


def _input(network: IntegerNetwork, preprocess: Preprocess) -> dict[str, Any]:
    channels, height, width = preprocess.shape
    tensors = [network.tensors[name] for name in network.inputs]
    return {
        "image": [height, width, channels],
        "divisor": preprocess.divisor,
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        # A network that takes NHWC sees the height as channels.
        "axes": [0, 1, 2] if preprocess.layout == "NCHW" else [1, 2, 0],
        "tensors": [
            {
                "scale": tensor.scale,
                "zero_point": tensor.zero_point,
                "qmin": tensor.bounds.qmin,
                "qmax": tensor.bounds.qmax,
                "layout": "NHWC",
                "ring": list(tensor.image.ring),
                "stored_channels": tensor.image.stored_channels,
            }
            for tensor in tensors
            if tensor.bounds is not None
        ],
    }


def _saved(save: Callable[..., None], *arrays: NDArray[Any], **named: NDArray[Any]) -> bytes:
    """A file of arrays in memory: numpy's errors of a full disk have no reason."""
    file = BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def require_writable(out: Path) -> None:
    """Refuse a folder that cannot be written, or that holds something else than an export.

    Raises:
        FileExistsError: If it holds something else.
        OSError: If the folder that it lies in cannot be made.
    """
    try:
        taken = out.exists() and not _is_export(out) and not (out.is_dir() and not any(out.iterdir()))
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_be_written(out, error) from error
    if taken:
        raise FileExistsError(f"'{out}' holds something else than an export; choose another --out.")


def _is_export(folder: Path) -> bool:
    """Whether its description is an export's: run folders have a file of that name, too."""
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("schema") == SCHEMA


def _cannot_be_written(out: Path, error: OSError) -> OSError:
    return OSError(f"'{out}' can't be written: {error.strerror}. Choose another --out.")


def _write_folder(out: Path, files: Mapping[str, bytes]) -> None:
    """Files in a folder that takes the place of ``out`` once it is complete."""
    require_writable(out)
    try:
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            folder = Path(temporary, out.name)
            folder.mkdir()
            for name, content in files.items():
                (folder / name).write_bytes(content)
            if out.exists():
                shutil.rmtree(out)
            folder.rename(out)
    except OSError as error:
        raise _cannot_be_written(out, error) from error
