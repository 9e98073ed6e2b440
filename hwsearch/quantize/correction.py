"""What is set right once a layer's codes are chosen: scale and bias."""

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from hwsearch.quantize.grid import QuantizedWeight
from hwsearch.quantize.moments import Moments


class Correction(Protocol):
    """How scale or bias follow from the codes."""

    def __call__(self, weight: Tensor, quantized: QuantizedWeight, moments: Moments) -> QuantizedWeight:
        """Correct the quantized form of float weights ``[O, ...]``."""
        ...


def match_deviation(weight: Tensor, quantized: QuantizedWeight, moments: Moments) -> QuantizedWeight:
    """Give the weights that share a scale the standard deviation they had.

    Args:
        weight: Float weights ``[O, ...]``.
        quantized: Their codes.
        moments: Not used.

    Reference: Banner et al. 2019, arXiv:1810.05723, section 4.3. Their shift of the mean has no integer form (it would
    multiply every input); ``squant`` keeps the mean by rounding instead.
    """
    real, found = (_sharing(values, quantized.scale) for values in (weight, quantized.dequantize()))
    before, after = (values.std(-1, correction=0) for values in (real, found))
    factor = torch.where((before > 0) & (after > 0), before / after.clamp(min=torch.finfo(after.dtype).tiny), 1.0)
    return replace(quantized, scale=quantized.scale * factor)


def least_squares(weight: Tensor, quantized: QuantizedWeight, moments: Moments) -> QuantizedWeight:
    """Choose each channel's scale for the least squared error of its outputs, ``(w C q) / (q C q)``.

    Args:
        weight: Float weights ``[O, ...]``.
        quantized: Their codes, scaled per channel or per tensor; other scales stay.
        moments: Of the layer's inputs, with the covariance C.
    """
    if quantized.scale.dim() > 1:
        return quantized
    covariance = moments().covariance
    rows = weight.reshape(len(covariance), -1, covariance.shape[1])
    codes = quantized.codes.float().view(rows.shape)
    through = torch.bmm(codes, covariance)
    both, own = ((through * values).sum(2).view(-1) for values in (rows, codes))  # [O]
    if len(quantized.scale) == 1:
        both, own = both.sum().view(1), own.sum().view(1)
    fitted = both / own.clamp(min=torch.finfo(own.dtype).tiny)
    return replace(quantized, scale=torch.where((own > 0) & (both > 0), fitted, quantized.scale))


def output_mean(weight: Tensor, quantized: QuantizedWeight, moments: Moments) -> QuantizedWeight:
    """Take the mean error of each output over the calibration set back by the bias.

    Args:
        weight: Float weights ``[O, ...]``.
        quantized: Their codes.
        moments: Of the layer's inputs in the float network.

    Reference: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
    arXiv:1906.04721, section 4.2, with the expected input from data.
    """
    mean = moments().mean
    errors = (weight - quantized.dequantize()).reshape(len(mean), -1, mean.shape[1])
    return replace(quantized, bias_correction=torch.bmm(errors, mean.unsqueeze(2)).view(-1))


def _sharing(values: Tensor, scale: Tensor) -> Tensor:
    """Weights in the shape of their scales, and a last dimension of those that share one."""
    return values.reshape(*scale.shape, -1)
