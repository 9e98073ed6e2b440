"""The device, as it runs what the quantizer stores."""

from collections.abc import Iterable, Mapping
from typing import Any

from cost_models import CostModel, Precision, load_device
from hwsearch.cli.schema import QuantizerConfig
from hwsearch.codebooks import codebook_notes, storing


def load_hardware(config: Mapping[str, Any], quantizer: QuantizerConfig) -> CostModel:
    """The device; one that measures runs kernels for the formats that the quantizer stores.

    Raises:
        ValueError: If the description of the device is wrong; it names the field.
    """
    return storing(load_device(config), quantizer.codebook_bits)


def notes(device: CostModel, quantizer: QuantizerConfig, precisions: Iterable[Precision]) -> list[str]:
    """What a reader of the costs at some precisions must know."""
    return [*device.warnings, *codebook_notes(device, quantizer.codebook_bits, precisions)]
