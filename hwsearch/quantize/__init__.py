"""Ranges, integer grids, the layer database and activation calibration."""

from hwsearch.quantize.calibrate import ACTIVATION_BITS, ActivationRanges, calibrate, ranges_table
from hwsearch.quantize.database import WEIGHT_BITS, LayerDatabase, build_database
from hwsearch.quantize.grid import (
    ActivationGrid,
    QuantizedWeight,
    activation_grid,
    quantize_bias,
    quantize_weight,
    weight_qmax,
)
from hwsearch.quantize.mse import affine_mse, mse
from hwsearch.quantize.range import Range, RangeEstimator, minmax, percentile
from hwsearch.quantize.requant import mse_grid, requant, weight_mse

__all__ = [
    "ACTIVATION_BITS",
    "WEIGHT_BITS",
    "ActivationGrid",
    "ActivationRanges",
    "LayerDatabase",
    "QuantizedWeight",
    "Range",
    "RangeEstimator",
    "activation_grid",
    "affine_mse",
    "build_database",
    "calibrate",
    "minmax",
    "mse",
    "mse_grid",
    "percentile",
    "quantize_bias",
    "quantize_weight",
    "ranges_table",
    "requant",
    "weight_mse",
    "weight_qmax",
]
