"""Which engine judges candidates."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from cost_models import FLOAT_BITS, Precision
from hwsearch.evaluate import Engine, FakeQuantNetwork
from hwsearch.graph import Network
from hwsearch.quantize import ActivationRanges, LayerDatabase

if TYPE_CHECKING:
    from cost_models.tvm.integer import Requantization  # whose package imports tvm, which takes seconds

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
    requantization: "Requantization" = "float32",
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
        requantization: Of the integer network, as the device has it.
        device: Torch device.
        reuse_bytes: Memory for what candidates share.

    Raises:
        ValueError: If the integer engine was asked for and can't run the network or the precisions.
    """
    try:
        if name != "torch":
            _check_integer(precisions, device)
            macs = images * sum(layer.macs for layer in network.layers)
            if name == "integer" or macs >= WORTHWHILE_MACS:
                from hwsearch.lowering.engine import IntegerEngine  # imports tvm

                return IntegerEngine(
                    network,
                    database,
                    ranges,
                    cache_dir=cache_dir,
                    requantization=requantization,
                    batch_size=batch_size,
                    reuse_bytes=reuse_bytes,
                )
    except ValueError as error:
        if name == "integer":
            raise ValueError(f"engine=integer: {error} Set engine=torch.") from error
        log.info("Candidates are judged by fake quantization in torch: %s", error)
    return FakeQuantNetwork(network, database, ranges, device, reuse_bytes=reuse_bytes)


def _check_integer(precisions: Iterable[Precision], device: str) -> None:
    if torch.device(device).type != "cpu":
        raise ValueError(f"The integer engine runs on device=cpu, not {device}.")
    floats = sorted({str(p) for p in precisions if FLOAT_BITS in (p.weight_bits, p.activation_bits)})
    if floats:
        raise ValueError(f"The integer engine takes 1 to 8 bits; the space holds {floats}.")
