"""The layer database: every (layer, weight_bits, weight_format) quantized once, looked up by the search.

The name follows OBC (Frantar and Alistarh 2022, arXiv:2208.11580), which stitches networks from such a database.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cost_models import WEIGHT_FORMATS, Precision, WeightFormat
from hwsearch.graph import Network
from hwsearch.progress import track
from hwsearch.quantize.cache import LayerCache, fingerprint_batches
from hwsearch.quantize.grid import QuantizedWeight
from hwsearch.quantize.layer import LayerQuantizer
from hwsearch.quantize.moments import lazy_moments
from hwsearch.quantize.range import RangeEstimator
from hwsearch.quantize.requant import mse_grid, requant

WEIGHT_BITS = (2, 3, 4, 5, 6, 7, 8)

UNWEIGHTED: tuple[RangeEstimator, ...] = (requant, mse_grid)
"""Range estimators for which every weight counts the same."""

LayerDatabase = Mapping[tuple[str, int, str], QuantizedWeight]
"""Integer codes and scales of every (layer, weight_bits, weight_format)."""


def build_database(
    network: Network,
    estimator: RangeEstimator,
    bits: Sequence[int] = WEIGHT_BITS,
    *,
    formats: Sequence[WeightFormat] = ("uniform",),
    calibration: Iterable[Any] | None = None,
    cache_dir: Path | None = None,
    **method: Any,
) -> dict[tuple[str, int, str], QuantizedWeight]:
    """Quantize every layer at every width.

    Args:
        network: The captured float network.
        estimator: Range estimator.
        bits: Widths, each 2 to 8.
        formats: Uniform grids, codebooks, or both.
        calibration: Inputs ``[N, ...]``, or (inputs, labels) pairs whose labels are ignored, for methods that need
            some; iterated more than once.
        cache_dir: Folder of results from earlier runs, see :class:`hwsearch.quantize.cache.LayerCache`; None keeps
            nothing.
        method: Granularity, rounding and corrections: attributes of :class:`hwsearch.quantize.LayerQuantizer`.

    Returns:
        Codes and scales of each (layer, bits, format).

    Raises:
        ValueError: If a width is outside 2..8, a format or granularity is unknown, weights are not finite, the
            method needs a calibration set and there is none, or is ``hessian_weighted`` with an estimator that is not.
    """
    quantizer = LayerQuantizer(estimator, **method)
    check_importances(estimator, quantizer.hessian_weighted)
    for weight_format in formats:
        if weight_format not in WEIGHT_FORMATS:
            raise ValueError(f"weight_format is one of {list(WEIGHT_FORMATS)}, not '{weight_format}'.")
    keys = [(width, weight_format) for width in sorted(set(bits)) for weight_format in formats]
    moments = lazy_moments(network, calibration)
    images = "" if quantizer.data_free or not cache_dir else fingerprint_batches(network, calibration)
    cache = LayerCache(cache_dir, [quantizer], images)
    database: dict[tuple[str, int, str], QuantizedWeight] = {}
    for layer in track(network.layers, "quantizing weights"):
        weight = network.weight(layer.name)
        if not weight.isfinite().all():
            raise ValueError(
                f"Layer '{layer.name}' has weights that are NaN or infinite, and so no range. Check the checkpoint."
            )
        for width, weight_format in keys:
            make = partial(quantizer, weight, width, weight_format, partial(moments, layer.name))
            database[layer.name, width, weight_format] = cache.get([weight, layer.name, width, weight_format], make)
    cache.report()
    return database


def check_importances(estimator: RangeEstimator, hessian_weighted: bool) -> None:
    """Refuse to weigh weights for an estimator that can't.

    Raises:
        ValueError: If it is one of ``UNWEIGHTED``.
    """
    chosen: Any = estimator.func if isinstance(estimator, partial) else estimator
    if hessian_weighted and chosen in UNWEIGHTED:
        raise ValueError(
            f"hessian_weighted=true weighs squared errors, but for {chosen.__name__} every weight counts the same; set "
            "hessian_weighted=false, or weights to requant_global, lp, octav, aciq, kl or percentile."
        )


def look_up(database: LayerDatabase, layer: str, precision: Precision) -> QuantizedWeight:
    """The entry of a layer at a precision.

    Raises:
        ValueError: If there is none; it names the layer and what the database holds of it.
    """
    key = (layer, precision.weight_bits, precision.weight_format)
    if key not in database:
        known = {
            form: sorted(width for name, width, of in database if (name, of) == (layer, form))
            for form in WEIGHT_FORMATS
        }
        held = " and ".join(f"{form} ones of {widths}" for form, widths in known.items() if widths)
        raise ValueError(
            f"The layer database holds no {precision.weight_format} weights of {precision.weight_bits} bits for layer "
            f"'{layer}'; it holds {held or 'none'}."
        )
    return database[key]
