"""What sensitivities are computed from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import pandas as pd

from cost_models import Precision
from hwsearch.data import Batches
from hwsearch.data.split import evenly_spaced
from hwsearch.evaluate.engine import Engine
from hwsearch.graph import Network
from hwsearch.quantize import ActivationRanges, LayerDatabase

Choices: TypeAlias = Mapping[str, Sequence[Precision]]
"""Precisions that each layer may have."""


@dataclass(frozen=True)
class Quantized:
    """A network, quantized at every width.

    Attributes:
        network: The captured float network.
        database: Integer weights of every (layer, weight_bits, weight_format).
        ranges: Grids of every (tensor, activation_bits).
        engine: Runs it at any configuration.
        calibration: Images that are never scored; their labels are not used.
    """

    network: Network
    database: LayerDatabase
    ranges: ActivationRanges
    engine: Engine
    calibration: Batches

    def images(self, at_most: int) -> Batches:
        """Up to so many calibration images, evenly spaced."""
        chosen = evenly_spaced(len(self.calibration.inputs), at_most)
        return replace(self.calibration, inputs=self.calibration.inputs[chosen], labels=self.calibration.labels[chosen])


class Sensitivity(Protocol):
    """Predicts what each layer's weights and activations lose at each width."""

    def __call__(self, quantized: Quantized, choices: Choices) -> pd.DataFrame:
        """A table as :mod:`hwsearch.sensitivity_table` describes it."""
        ...


def operands(precisions: Sequence[Precision]) -> Iterator[tuple[str, int, str]]:
    """Operand, bits and weight_format of all that a layer's choices use, narrowest first."""
    for bits, weight_format in sorted({(p.weight_bits, p.weight_format) for p in precisions}):
        yield "weights", bits, weight_format
    for bits in sorted({p.activation_bits for p in precisions}):
        yield "activations", bits, ""
