"""Which engine judges candidates."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch

from cost_models import FLOAT_BITS, Precision
from hwsearch.evaluate import Engine, FakeQuantNetwork
from hwsearch.graph import Network
from hwsearch.quantize import ActivationRanges, LayerDatabase

log = logging.getLogger("hwsearch")

EngineName = Literal["auto", "torch", "integer"]

WORTHWHILE_MACS = 1e10
"""Of a judged candidate. Below, torch takes about 0.2 s: a search ends before the compilation has paid."""


def choose_engine(
    name: EngineName,
    network: Network,
    database: LayerDatabase,
    ranges: ActivationRanges,
    precisions: Iterable[Precision],
    *,
    images: int,
    batch_size: int,
    cache_dir: Path,
    device: str = "cpu",
    reuse_bytes: int = 0,
) -> Engine:
    """The engine that was asked for, or the one that judges sooner.

    Args:
        name: ``"torch"``: fake quantization; ``"integer"``: the compiled integer network; ``"auto"``: the latter where
            the network and the precisions have an integer form and it pays.
        network: The captured float network.
        database: Codes of every (layer, weight_bits, weight_format) that will be asked for.
        ranges: Grids of every (tensor, activation_bits) that will be asked for, and of 8 bits.
        precisions: Of any layer of any candidate.
        images: On which each candidate is judged.
        batch_size: Images of most batches.
        cache_dir: Folder of compiled kernels.
        device: Torch device.
        reuse_bytes: Memory for what candidates share, for all images together.

    Raises:
        ValueError: If the integer engine was asked for and can't run the network or the precisions.
    """
    per_image = reuse_bytes // max(images, 1)
    try:
        if name != "torch":
            _check_integer(precisions, device)
            macs = images * sum(layer.macs for layer in network.layers)
            if name == "integer" or macs >= WORTHWHILE_MACS:
                return _integer_engine(network, database, ranges, batch_size, cache_dir, per_image)
    except ValueError as error:
        if name == "integer":
            raise ValueError(f"engine=integer: {error} Set engine=torch.") from error
        log.info("Candidates are judged by fake quantization in torch: %s", error)
    return FakeQuantNetwork(network, database, ranges, device, reuse_bytes=per_image)


def _check_integer(precisions: Iterable[Precision], device: str) -> None:
    if torch.device(device).type != "cpu":
        raise ValueError(f"The integer engine runs on device=cpu, not {device}.")
    floats = sorted({str(p) for p in precisions if FLOAT_BITS in (p.weight_bits, p.activation_bits)})
    if floats:
        raise ValueError(f"The integer engine takes 1 to 8 bits; the space holds {floats}.")


def _integer_engine(
    network: Network,
    database: LayerDatabase,
    ranges: ActivationRanges,
    batch_size: int,
    cache_dir: Path,
    reuse_bytes: int,
) -> Engine:
    from hwsearch.lowering.engine import IntegerEngine  # imports tvm, which takes seconds

    return IntegerEngine(network, database, ranges, cache_dir=cache_dir, batch_size=batch_size, reuse_bytes=reuse_bytes)
