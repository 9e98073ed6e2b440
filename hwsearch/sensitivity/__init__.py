"""Sensitivity of every (layer, precision), by what it does to the outputs or by curvature times perturbation."""

from hwsearch.sensitivity.curvature import Traces, fisher_trace, hessian_trace
from hwsearch.sensitivity.outputs import kl_divergence, noise_to_signal, output_change, prediction_change
from hwsearch.sensitivity.perturbation import perturbation
from hwsearch.sensitivity.quantized import Choices, Quantized, Sensitivity

__all__ = [
    "Choices",
    "Quantized",
    "Sensitivity",
    "Traces",
    "fisher_trace",
    "hessian_trace",
    "kl_divergence",
    "noise_to_signal",
    "output_change",
    "perturbation",
    "prediction_change",
]
