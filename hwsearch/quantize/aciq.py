"""Weight ranges in closed form, from a distribution that is fitted to the weights."""

from collections.abc import Callable
from math import erfc, exp, pi, sqrt
from typing import Literal

import torch
from torch import Tensor

from hwsearch.quantize.grid import weight_qmax
from hwsearch.quantize.range import Range, symmetric, weight_samples


def aciq(
    x: Tensor, bits: int, counts: Tensor | None = None, *, prior: Literal["laplace", "gauss"] = "laplace"
) -> Range:
    """The clipping point of least expected error under a Laplace or Gauss distribution around 0.

    The step is that of the narrow grid, ``2 clip / (2^bits - 2)``; the paper's ``2 clip / 2^bits`` is smaller.

    Args:
        x: Weights ``[C, N]``.
        bits: 2 to 8.
        counts: Weight of each weight in the fit, ``[C, N]``; all 1 if None, or in rows where all are 0.
        prior: Distribution; its scale is fitted to each row.

    Raises:
        ValueError: If ``prior`` is neither.

    Reference: Banner et al. 2019, "Post training 4-bit quantization of convolutional networks for rapid-deployment",
    arXiv:1810.05723, as implemented in submission2019/cnn-quantization.
    """
    if prior not in PRIORS:
        raise ValueError(f"aciq knows the priors {list(PRIORS)}, not '{prior}'.")
    magnitudes, counts = weight_samples(x, counts)
    counts = torch.where(counts.sum(1, keepdim=True) > 0, counts, 1.0)
    power = 1 if prior == "laplace" else 2
    moment = (counts * magnitudes**power).sum(1) / counts.sum(1)
    clip = _root(lambda t: PRIORS[prior](t, 2 * weight_qmax(bits))) * moment ** (1 / power)
    return symmetric(clip.to(x.dtype).minimum(x.abs().amax(1)))


def _laplace(t: float, steps: int) -> float:
    """Derivative of the expected error at ``clip = t b``, over 2 b^2: ``t / (3 steps^2) - exp(-t)``."""
    return t / (3 * steps**2) - exp(-t)


def _gauss(t: float, steps: int) -> float:
    """Derivative of the expected error at ``clip = t sigma``, over 2 sigma^2."""
    return t * erfc(t / sqrt(2)) + t / (3 * steps**2) - sqrt(2 / pi) * exp(-t * t / 2)


PRIORS: dict[str, Callable[[float, int], float]] = {"laplace": _laplace, "gauss": _gauss}


def _root(increasing: Callable[[float], float]) -> float:
    """Where a function changes its sign between 0 and 64 deviations, to float64 precision."""
    low, high = 0.0, 64.0
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (low, middle) if increasing(middle) > 0 else (middle, high)
    return high
