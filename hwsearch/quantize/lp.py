"""Weight ranges of least error in another norm than the second."""

import torch
from torch import Tensor

from hwsearch.quantize.grid import weight_qmax
from hwsearch.quantize.range import Range, symmetric, weight_samples


def lp(x: Tensor, bits: int, counts: Tensor | None = None, *, p: float = 2.4, points: int = 100) -> Range:
    """Best of ``points`` equally spaced clipping points up to the largest weight by ``sum |error|^p``.

    Args:
        x: Weights ``[C, N]``.
        bits: 2 to 8.
        counts: Weight of each error, ``[C, N]``; all 1 if None.
        p: Norm; 2.4 is what GPTQ, BRECQ and QDrop use.
        points: Candidates; unlike there they go down to ``1 / points`` of the largest weight, which 2 bits need.

    Reference: ``Quantizer.find_params`` of IST-DASLab/gptq.
    """
    magnitudes, counts = weight_samples(x, counts)
    qmax = weight_qmax(bits)
    largest = magnitudes.amax(1, keepdim=True)
    best, least = largest, torch.full_like(largest, torch.inf)
    for step in range(1, points + 1):
        clip = largest * step / points
        scale = (clip / qmax).clamp(min=torch.finfo(torch.float64).tiny)
        error = (magnitudes / scale).round_().clamp_(max=qmax).mul_(scale).sub_(magnitudes).abs_().pow_(p)
        error = (error * counts).sum(1, keepdim=True)
        best, least = torch.where(error < least, clip, best), torch.minimum(error, least)
    return symmetric(best.squeeze(1).to(x.dtype))
