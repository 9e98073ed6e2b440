"""Weight ranges by Newton's method on a smooth model of the error."""

import torch
from torch import Tensor

from hwsearch.quantize.grid import weight_qmax
from hwsearch.quantize.range import Range, symmetric, weight_samples


def octav(x: Tensor, bits: int, counts: Tensor | None = None, *, iterations: int = 10) -> Range:
    """Minimize ``P(|w| <= clip) step^2 / 12 + E[(|w| - clip)^2; |w| > clip]`` over the clipping point.

    The step is that of the narrow grid, ``clip / qmax``; the paper writes ``2^(1 - bits) clip``, which is smaller and
    clips too little at few bits.

    Args:
        x: Weights ``[C, N]``.
        bits: 2 to 8.
        counts: Weight of each squared error, ``[C, N]``; all 1 if None.
        iterations: Newton steps.

    Reference: Sakr et al. 2022, "Optimal Clipping and Magnitude-aware Differentiation for Improved Quantization-aware
    Training", arXiv:2206.06501, as implemented in google-ai-edge/ai-edge-quantizer.
    """
    magnitudes, counts = weight_samples(x, counts)
    noise = 1 / (12 * weight_qmax(bits) ** 2)
    clip = torch.zeros(len(x), 1, dtype=torch.float64)
    for _ in range(iterations):
        beyond = counts * (magnitudes > clip)
        kept = counts * (magnitudes > 0) - beyond
        denominator = noise * kept.sum(1, keepdim=True) + beyond.sum(1, keepdim=True)
        total = (beyond * magnitudes).sum(1, keepdim=True)
        clip = torch.where(total > 0, total / denominator, clip)  # the model has no slope where nothing is clipped
    return symmetric(clip.squeeze(1).to(x.dtype))
