"""Weights from a file into a network, without ever running code that the file holds."""

import pickle
import re
from collections.abc import Callable, Mapping
from hashlib import sha256 as hash_sha256
from importlib import resources
from io import BytesIO
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

RANDOM = "random"
"""In place of a path: keep the weights that the network was built with (cost tables only)."""

WRAPPERS = ("state_dict", "model")
SHOWN = 3
"""Keys of a kind that an error lists."""


def load_checkpoint(module: nn.Module, path: str | PathLike[str], sha256: str | None = None) -> nn.Module:
    """Load a state dict into ``module``; on failure the module is left as it was.

    The state dict may lie under "state_dict" or "model", and its keys may all start with "module.". It may lack
    ``num_batches_tracked`` and hold keys that start with one of ``module.training_only``.

    Args:
        module: Network to fill; it keeps its training or evaluation mode.
        path: A .safetensors, .pth, .pt, .th or .tar file; ``package.name:file`` for one inside a Python package;
            "random" to change nothing.
        sha256: Expected SHA-256 of the file, in hex; None accepts any.

    Returns:
        ``module``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has another hash, is damaged, needs code to be unpickled, or does not fit the network.
    """
    name = fspath(path)
    if name == RANDOM:
        return module
    content = _read(name)
    found = hash_sha256(content).hexdigest()
    if sha256 is not None and sha256.lower() != found:
        raise ValueError(f"Checkpoint '{name}' has SHA-256 {found}; expected {sha256} (model.checkpoint_sha256).")
    state = _state_dict(_parse(name, content), name)
    state = _fit(state, module, name)
    module.load_state_dict(state)
    return module


def _read(name: str) -> bytes:
    expected = "expected a .safetensors file or a state dict saved by torch.save, or 'random' for random weights"
    package, colon, file = name.rpartition(":")
    if colon and len(package) > 1 and all(part.isidentifier() for part in package.split(".")):  # not a drive: C:x.pth
        try:
            return resources.files(package).joinpath(file).read_bytes()
        except (ModuleNotFoundError, OSError, TypeError) as error:
            raise FileNotFoundError(f"Checkpoint '{file}' is not in package '{package}'; {expected}.") from error
    full = Path(name).expanduser()
    if not full.is_file():
        raise FileNotFoundError(f"Checkpoint '{full.absolute()}' (model.checkpoint) is not a file; {expected}.")
    return full.read_bytes()


def _parse(name: str, content: bytes) -> Any:
    suffix = Path(name).suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"Checkpoint '{name}' has the unknown suffix '{suffix}'; use one of {sorted(READERS)}.")
    try:
        return READERS[suffix](content)
    except pickle.UnpicklingError as error:
        needed = re.search(r"nsupported (?:global: )?GLOBAL (\S+)", str(error))
        what = f"objects of '{needed[1]}'" if needed else "something else than tensors, or is damaged"
        raise ValueError(
            f"Checkpoint '{name}' holds {what}; unpickling could run any code, so only tensors are read. In the "
            "project that made the file, save the state dict alone: torch.save(model.state_dict(), 'weights.pth')."
        ) from error
    except Exception as error:  # of a damaged file torch raises RuntimeError, KeyError, EOFError, ...
        reason = str(error).split(". ")[0] or type(error).__name__
        raise ValueError(
            f"Checkpoint '{name}' cannot be read as {suffix}: {reason}. It must be a state dict: "
            "torch.save(model.state_dict(), 'weights.pth') or safetensors.torch.save_file."
        ) from error


def _load_pickle(content: bytes) -> Any:
    return torch.load(BytesIO(content), map_location="cpu", weights_only=True)


READERS: dict[str, Callable[[bytes], Any]] = {
    ".safetensors": safetensors.torch.load,
    **dict.fromkeys((".pth", ".pt", ".th", ".tar"), _load_pickle),
}


def _state_dict(loaded: Any, name: str) -> dict[str, Tensor]:
    """Unwrapped, without the prefix that DataParallel adds."""
    for wrapper in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping):
        raise ValueError(f"Checkpoint '{name}' holds a {type(loaded).__name__}; expected a state dict.")
    others = [key for key, value in loaded.items() if not isinstance(value, Tensor)]
    if others or not loaded:
        raise ValueError(
            f"Checkpoint '{name}' holds no state dict: {_some(others) or 'nothing in it'} is not a tensor. "
            f"A state dict may lie at the top or under one of {list(WRAPPERS)}."
        )
    prefixed = all(key.startswith("module.") for key in loaded)
    return {key.removeprefix("module.") if prefixed else key: value for key, value in loaded.items()}


def _fit(state: dict[str, Tensor], module: nn.Module, name: str) -> dict[str, Tensor]:
    """The entries of ``state`` for ``module``, counters of batches filled in, after a check of keys and shapes."""
    own = module.state_dict()
    skipped = tuple(getattr(module, "training_only", ()))
    state = {key: value for key, value in state.items() if not key.startswith(skipped)}
    state = {key: value for key, value in own.items() if key.endswith(".num_batches_tracked")} | state
    shared = [(key, state[key], value) for key, value in own.items() if key in state]
    problems = {
        "missing": [key for key in own if key not in state],
        "unexpected": sorted(key for key in state if key not in own),  # safetensors has no order
        "other shapes": [_differ(key, list(a.shape), list(b.shape)) for key, a, b in shared if a.shape != b.shape],
        "other types": [_differ(key, a.dtype, b.dtype) for key, a, b in shared if _kind(a) != _kind(b)],
    }
    if any(problems.values()):
        listed = "; ".join(f"{problem}: {_some(keys)}" for problem, keys in problems.items() if keys)
        raise ValueError(
            f"Checkpoint '{name}' does not fit network {type(module).__name__}: {listed}. Check the arguments of "
            "model.network (depth, width, shortcut, classes, stem)."
        )
    return state


def _kind(tensor: Tensor) -> tuple[bool, torch.layout]:
    """What copying cannot convert: sparse and integer (or quantized) tensors are no weights."""
    return tensor.is_floating_point(), tensor.layout


def _differ(key: str, in_file: object, in_network: object) -> str:
    return f"{key} is {in_file} in the file and {in_network} in the network"


def _some(items: list[str]) -> str:
    rest = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + rest
