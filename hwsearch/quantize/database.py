"""The layer database: every (layer, weight_bits) quantized once, looked up by the search.

The name follows OBC (Frantar and Alistarh 2022, arXiv:2208.11580), which stitches networks from such a database.
"""

import functools
import hashlib
import inspect
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hwsearch.graph import Network
from hwsearch.progress import track
from hwsearch.quantize.grid import QuantizedWeight, quantize_weight
from hwsearch.quantize.range import RangeEstimator

log = logging.getLogger(__name__)

VERSION = 1
"""Part of the cache key; raised when the arithmetic of this package changes."""

WEIGHT_BITS = (2, 3, 4, 5, 6, 7, 8)

Granularity = Literal["per_channel", "per_tensor"]
LayerDatabase = Mapping[tuple[str, int], QuantizedWeight]
"""Integer codes and scales of every (layer, weight_bits)."""


def build_database(
    network: Network,
    estimator: RangeEstimator,
    bits: Sequence[int] = WEIGHT_BITS,
    *,
    granularity: Granularity = "per_channel",
    cache_dir: Path | None = None,
) -> dict[tuple[str, int], QuantizedWeight]:
    """Quantize every layer at every width.

    Args:
        network: The captured float network.
        estimator: Range estimator; it sees ``[O, N]`` per channel, ``[1, O N]`` per tensor.
        bits: Widths, each 2 to 8.
        granularity: One range per output channel, or one per layer.
        cache_dir: Folder of results from earlier runs, keyed by weights, estimator and version; None keeps nothing. A
            file that is damaged or does not fit is rebuilt. Only module-level functions and partials of them are kept:
            what a closure or an object will do can't be told from a key.

    Returns:
        Codes and scales of each (layer, bits).

    Raises:
        ValueError: If ``granularity`` is unknown or a width is outside 2..8.
    """
    if granularity not in ("per_channel", "per_tensor"):
        raise ValueError(f"granularity is 'per_channel' or 'per_tensor', not '{granularity}'.")
    widths = tuple(sorted(set(bits)))
    identity = _identity(estimator) if cache_dir else None
    writable = True
    rebuilt = 0
    database = {}
    for layer in track(network.layers, "quantizing weights"):
        weight = network.weight(layer.name)
        path = (
            cache_dir / f"{_key(weight, identity, widths, granularity)}.safetensors" if cache_dir and identity else None
        )
        entries = _read(path, weight, widths) if path else None
        if not entries:
            rebuilt += entries is not None
            rows = weight.reshape(len(weight), -1) if granularity == "per_channel" else weight.reshape(1, -1)
            entries = {width: quantize_weight(weight, estimator(rows, width).clip, width) for width in widths}
            writable = writable and (path is None or _write(path, entries))
        database.update({(layer.name, width): entry for width, entry in entries.items()})
    if rebuilt:
        log.warning("%d damaged files of the layer database in %s were rebuilt.", rebuilt, cache_dir)
    return database


def _key(weight: Tensor, identity: str, bits: tuple[int, ...], granularity: Granularity) -> str:
    digest = hashlib.sha256(f"{VERSION} {granularity} {bits} {identity} {tuple(weight.shape)}".encode())
    digest.update(weight.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _identity(estimator: RangeEstimator) -> str | None:
    """Name, arguments and source file of an estimator, so that an edited one is another; None where they can't tell."""
    function: Any = estimator
    bound: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        bound = {**function.keywords, **bound}
        function = function.func
    if not inspect.isfunction(function) or function.__closure__ or function.__name__ == "<lambda>":
        return None
    try:
        source = inspect.getsource(inspect.getmodule(function) or function)  # with what the function calls
    except (OSError, TypeError):
        return None
    defaults = (function.__defaults__, function.__kwdefaults__)
    return f"{function.__module__}.{function.__qualname__} {sorted(bound.items())} {defaults} {source}"


def _checksum(tensors: Mapping[str, Tensor]) -> Tensor:
    """SHA-256 of named tensors, uint8 ``[32]``."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def _write(path: Path, entries: Mapping[int, QuantizedWeight]) -> bool:
    """Write whole or not at all: readers never see a part, and a full disk only costs the cache."""
    tensors = {f"codes.{bits}": entry.codes for bits, entry in entries.items()}
    tensors |= {f"scale.{bits}": entry.scale for bits, entry in entries.items()}
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


def _read(path: Path, weight: Tensor, bits: Sequence[int]) -> dict[int, QuantizedWeight] | None:
    """Entries from disk; none of them where the file can't be trusted, and None where there is no file."""
    try:
        tensors = safetensors.torch.load(path.read_bytes())
        if tensors.pop("checksum").tolist() != _checksum(tensors).tolist():
            raise ValueError("checksum mismatch")
        entries = {width: QuantizedWeight(tensors[f"codes.{width}"], tensors[f"scale.{width}"]) for width in bits}
        if any(entry.codes.shape != weight.shape or entry.codes.dtype != torch.int8 for entry in entries.values()):
            raise ValueError("shape mismatch")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (SafetensorError, OSError, ValueError, KeyError):
        return {}
    return entries
