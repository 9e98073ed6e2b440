"""Latency of whole networks, measured where the hardware can."""

import logging
from collections.abc import Callable
from functools import partial
from math import nan

from cost_models import BitConfig, CostModel, Measuring
from hwsearch.graph import Network
from hwsearch.quantize import ActivationRanges, LayerDatabase

log = logging.getLogger("hwsearch")


def network_latency(
    hardware: CostModel, network: Network, database: LayerDatabase, ranges: ActivationRanges
) -> Callable[[BitConfig], float]:
    """What measures a configuration's whole network, in seconds per image.

    It gives NaN where the hardware does not measure, or images in batches, which networks are not compiled for; and
    where a configuration has no integer form or the device is not reached, the first reason of which is logged.
    """
    if not isinstance(hardware, Measuring):
        return lambda config: nan
    if hardware.batch != 1:
        log.warning("measured_latency_s stays unknown: whole networks run one image per call, not %d.", hardware.batch)
        return lambda config: nan
    from hwsearch.lowering import lower  # imports tvm, which takes seconds
    from hwsearch.lowering.compiled import compile_network

    warned = False

    def latency_s(config: BitConfig) -> float:
        nonlocal warned
        try:
            return hardware.network_latency_s(partial(compile_network, lower(network, config, database, ranges)))
        except (ValueError, ConnectionError, TimeoutError) as error:
            if not warned:
                log.warning("measured_latency_s stays unknown: %s", error)
            warned = True
            return nan

    return latency_s
