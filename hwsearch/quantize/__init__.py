"""Ranges, integer grids, the layer database and activation calibration."""

from hwsearch.quantize.aciq import aciq
from hwsearch.quantize.adaround import adaround
from hwsearch.quantize.calibrate import ACTIVATION_BITS, OTHER_BITS, ActivationRanges, calibrate, ranges_table
from hwsearch.quantize.codebook import Codebook, lloyd_max, power_codebook
from hwsearch.quantize.correction import Correction, least_squares, match_deviation, output_mean
from hwsearch.quantize.database import WEIGHT_BITS, LayerDatabase, build_database, check_importances, look_up
from hwsearch.quantize.equalization import equalize
from hwsearch.quantize.gptq import coordinate_descent, gptq
from hwsearch.quantize.grid import (
    ActivationGrid,
    QuantizedWeight,
    activation_grid,
    nearest_level,
    quantize_bias,
    quantize_weight,
    uniform_levels,
    weight_qmax,
)
from hwsearch.quantize.kl import kl
from hwsearch.quantize.layer import LayerQuantizer
from hwsearch.quantize.lp import lp
from hwsearch.quantize.moments import InputMoments, Moments, input_moments
from hwsearch.quantize.mse import affine_mse, mse
from hwsearch.quantize.octav import octav
from hwsearch.quantize.range import Range, RangeEstimator, minmax, percentile
from hwsearch.quantize.reconstruction import Reconstruction
from hwsearch.quantize.requant import mse_grid, requant, weight_mse
from hwsearch.quantize.requant_global import global_ranges, requant_global
from hwsearch.quantize.rounding import Rounding, nearest
from hwsearch.quantize.squant import squant

__all__ = [
    "ACTIVATION_BITS",
    "OTHER_BITS",
    "WEIGHT_BITS",
    "ActivationGrid",
    "ActivationRanges",
    "Codebook",
    "Correction",
    "InputMoments",
    "LayerDatabase",
    "LayerQuantizer",
    "Moments",
    "QuantizedWeight",
    "Range",
    "RangeEstimator",
    "Reconstruction",
    "Rounding",
    "aciq",
    "activation_grid",
    "adaround",
    "affine_mse",
    "build_database",
    "calibrate",
    "check_importances",
    "coordinate_descent",
    "equalize",
    "global_ranges",
    "gptq",
    "input_moments",
    "kl",
    "least_squares",
    "lloyd_max",
    "look_up",
    "lp",
    "match_deviation",
    "minmax",
    "mse",
    "mse_grid",
    "nearest",
    "nearest_level",
    "octav",
    "output_mean",
    "percentile",
    "power_codebook",
    "quantize_bias",
    "quantize_weight",
    "ranges_table",
    "requant",
    "requant_global",
    "squant",
    "uniform_levels",
    "weight_mse",
    "weight_qmax",
]
