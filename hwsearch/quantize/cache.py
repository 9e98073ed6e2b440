"""Quantized layers on disk, keyed by everything that they depend on."""

import functools
import hashlib
import inspect
import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hwsearch.graph import Network
from hwsearch.quantize.grid import QuantizedWeight

log = logging.getLogger(__name__)

VERSION = 2
"""Part of every key; raised when the arithmetic of this package changes."""


class LayerCache:
    """A folder of quantized layers.

    A file that is damaged or does not fit is made anew. What a closure or an object will do can't be told from a key,
    so only methods made of module-level functions, partials and dataclasses of them are kept; an edited source file is
    another method.

    Args:
        folder: Where the files lie; None keeps nothing.
        methods: What makes a layer of its parts.
        context: What they depend on besides, e.g. the calibration set.
    """

    def __init__(self, folder: Path | None, methods: Sequence[Any], context: str) -> None:
        made_by = identity(methods) if folder else None
        self._folder = folder if made_by else None
        self._prefix = f"{VERSION} {made_by} {context}"
        self._damaged = 0
        self._writable = True

    def get(self, parts: Sequence[Any], make: Callable[[], QuantizedWeight]) -> QuantizedWeight:
        """The entry of some parts (text, numbers, tensors; the first is the float weights), made if it is not there."""
        if not self._folder:
            return make()
        path = self._folder / f"{digest(self._prefix, parts)}.safetensors"
        entry = None
        try:
            entry = _read(path, parts[0])
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (SafetensorError, OSError, ValueError, KeyError):
            self._damaged += 1
        if entry is None:
            entry = make()
            self._writable = self._writable and _write(path, entry)
        return entry

    def report(self) -> None:
        """Log what was wrong with the folder, if anything."""
        if self._damaged:
            log.warning("%d damaged files of the layer database in %s were rebuilt.", self._damaged, self._folder)


def fingerprint_batches(network: Network, batches: Iterable[Any] | None) -> str:
    """SHA-256 of a network and of the inputs it is calibrated on, in hexadecimal; empty without any."""
    if batches is None:
        return ""
    return digest(network.fingerprint, (batch if isinstance(batch, Tensor) else batch[0] for batch in batches))


def digest(prefix: str, parts: Iterable[Any]) -> str:
    """SHA-256 of text, numbers and tensors, in hexadecimal."""
    found = hashlib.sha256(prefix.encode())
    for part in parts:
        if isinstance(part, Tensor):
            found.update(f"{part.dtype} {tuple(part.shape)}".encode())
            found.update(part.detach().cpu().contiguous().numpy().tobytes())
        else:
            found.update(f"{part!r} ".encode())
    return found.hexdigest()


def identity(method: Any) -> str | None:
    """Names, arguments and source files of what makes a method up; None where they can't tell."""
    if method is None or isinstance(method, str | int | float | bool):
        return repr(method)
    if isinstance(method, Sequence):
        return _joined("sequence", method)
    if isinstance(method, functools.partial):
        return _joined("partial", [method.func, *method.args, *sorted(method.keywords), *_sorted(method.keywords)])
    if is_dataclass(method) and not isinstance(method, type):
        return _joined(_source(type(method)), [getattr(method, field.name) for field in fields(method)])
    if inspect.isfunction(method) and not method.__closure__ and method.__name__ != "<lambda>":
        defaults = [*(method.__defaults__ or ()), *_sorted(method.__kwdefaults__ or {})]
        return _joined(_source(method), defaults)
    return None


def _joined(name: str | None, parts: Iterable[Any]) -> str | None:
    found = [name, *map(identity, parts)]
    return None if None in found else f"({' '.join(map(str, found))})"


def _sorted(arguments: Mapping[str, Any]) -> list[Any]:
    return [value for _, value in sorted(arguments.items())]


def _source(code: Any) -> str | None:
    """Name and source file of a function or class, with what it calls there; None where there is no file."""
    try:
        return f"{code.__module__}.{code.__qualname__} {inspect.getsource(inspect.getmodule(code) or code)}"
    except (OSError, TypeError):
        return None


def _checksum(tensors: Mapping[str, Tensor]) -> Tensor:
    """SHA-256 of named tensors, uint8 ``[32]``."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def _write(path: Path, entry: QuantizedWeight) -> bool:
    """Write whole or not at all: readers never see a part, and a full disk only costs the cache."""
    tensors = {name: tensor for name, tensor in vars(entry).items() if tensor is not None}
    data = safetensors.torch.save({**tensors, "checksum": _checksum(tensors)})
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
        temporary.replace(path)
    except OSError as error:
        log.warning("The layer database is not cached in %s: %s", path.parent, error)
        if temporary:
            temporary.unlink(missing_ok=True)
        return False
    return True


def _read(path: Path, weight: Tensor) -> QuantizedWeight:
    """An entry from disk.

    Raises:
        ValueError, KeyError, SafetensorError: If the file can't be trusted.
    """
    tensors = safetensors.torch.load(path.read_bytes())
    if tensors.pop("checksum").tolist() != _checksum(tensors).tolist():
        raise ValueError("checksum mismatch")
    if tensors["codes"].shape != weight.shape or tensors["codes"].dtype != torch.int8:
        raise ValueError("shape mismatch")
    try:
        return QuantizedWeight(**tensors)
    except TypeError as error:
        raise ValueError("unknown fields") from error
