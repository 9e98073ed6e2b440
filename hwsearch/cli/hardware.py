"""The device, as it runs what the quantizer stores."""

from collections.abc import Mapping
from typing import Any

from cost_models import CostModel, Measuring, load_device
from hwsearch.cli.schema import QuantizerConfig
from hwsearch.search import SearchSpace


def load_hardware(config: Mapping[str, Any], quantizer: QuantizerConfig) -> CostModel:
    """The device; one that measures runs kernels for the formats that the quantizer stores.

    Raises:
        ValueError: If the description of the device is wrong; it names the field.
    """
    device = load_device(config)
    return device.storing(quantizer.codebook_bits) if isinstance(device, Measuring) else device


def notes(device: CostModel, quantizer: QuantizerConfig, space: SearchSpace) -> list[str]:
    """What a reader of the costs must know."""
    uniform = {precision.weight_bits for precision in space.precisions if precision.weight_format == "uniform"}
    coded = sorted(uniform.intersection(quantizer.codebook_bits))
    if not coded or isinstance(device, Measuring):
        return list(device.warnings)
    widths = " and ".join(map(str, coded))
    return [
        *device.warnings,
        f"Quantizer '{quantizer.name}' stores weights of {widths} bits as codebooks, whose levels need not be evenly "
        "spaced; they are priced as the device's own weights of that width (quantizer.codebook_bits=[] avoids them).",
    ]
