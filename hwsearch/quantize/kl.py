"""Weight ranges whose quantized histogram diverges least from the histogram."""

import torch
from torch import Tensor

from hwsearch.quantize.grid import weight_qmax
from hwsearch.quantize.range import Range, symmetric, weight_samples


def kl(x: Tensor, bits: int, counts: Tensor | None = None, *, bins: int = 2048, candidates: int = 128) -> Range:
    """Minimize the Kullback-Leibler divergence between clipped and quantized magnitudes over the clipping point.

    Candidates are upper edges of bins, evenly spaced. Magnitudes beyond one fall into its last bin;
    the quantized histogram spreads what a level takes in evenly over those bins that held something.

    Args:
        x: Weights ``[C, N]``.
        bits: 2 to 8.
        counts: Weight of each weight, ``[C, N]``; all 1 if None, or in rows where all are 0.
        bins: Of the histogram between 0 and the largest magnitude.
        candidates: Clipping points that are tried.

    Reference: Migacz 2017, "8-bit inference with TensorRT", GPU Technology Conference, as implemented in PPQ.
    """
    magnitudes, counts = weight_samples(x, counts)
    counts = torch.where(counts.sum(1, keepdim=True) > 0, counts, 1.0)
    levels = weight_qmax(bits) + 1
    largest = magnitudes.amax(1)
    width = torch.where(largest > 0, largest, torch.ones_like(largest)) / bins
    index = (magnitudes / width.unsqueeze(1)).long().clamp_(max=bins - 1)
    histogram = torch.zeros(len(x), bins, dtype=torch.float64).scatter_add_(1, index, counts)
    best, least = torch.full_like(largest, bins), torch.full_like(largest, torch.inf)
    for kept in range(bins // candidates, bins + 1, bins // candidates):
        divergence = _divergence(histogram, kept, levels)
        best, least = torch.where(divergence < least, kept, best), torch.minimum(divergence, least)
    return symmetric(torch.where(largest > 0, best * width, largest).to(x.dtype))


def _divergence(histogram: Tensor, kept: int, levels: int) -> Tensor:
    """Of the first ``kept`` bins of each row of ``[C, bins]``, in nats, ``[C]``."""
    clipped = histogram[:, :kept].clone()
    clipped[:, -1] += histogram[:, kept:].sum(1)
    position = (torch.arange(kept, dtype=torch.float64) + 0.5) / kept * (levels - 1)
    level = position.round().long().expand(len(histogram), -1)
    filled = (histogram[:, :kept] > 0).double()
    mass = torch.zeros(len(histogram), levels, dtype=torch.float64).scatter_add_(1, level, histogram[:, :kept])
    places = torch.zeros_like(mass).scatter_add_(1, level, filled)
    quantized = (mass / places.clamp(min=1)).gather(1, level) * filled
    tiny = torch.finfo(torch.float64).tiny
    p = clipped / clipped.sum(1, keepdim=True).clamp(min=tiny)
    q = (quantized / quantized.sum(1, keepdim=True).clamp(min=tiny)).clamp(min=1e-12)
    return torch.where(p > 0, p * (p / q).log(), 0.0).sum(1)
