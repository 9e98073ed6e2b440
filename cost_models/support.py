"""The refusal that every cost model gives for a precision that its device does not run."""

from collections.abc import Sequence

from cost_models.layer import LayerSpec, Precision


def require_supported(hardware: str, layer: LayerSpec, precision: Precision, choices: Sequence[Precision]) -> None:
    """Do nothing if ``precision`` is one of ``choices``, what ``hardware`` runs ``layer`` at.

    Raises:
        ValueError: Otherwise, naming the hardware, the layer, the setting at fault and its choices.
    """
    if precision in choices:
        return
    if not choices:
        kind = "depthwise convolutions" if layer.depthwise else f"{layer.op} layers"
        raise ValueError(f"Hardware '{hardware}' has no kernels for {kind}, such as layer '{layer.name}'.")
    formats = sorted({choice.weight_format for choice in choices})
    weight_bits = sorted({choice.weight_bits for choice in choices if choice.weight_format == precision.weight_format})
    given = ""
    if not weight_bits:
        setting, value, supported = "weight_format", f"'{precision.weight_format}'", str(formats)
    elif precision.weight_bits not in weight_bits:
        setting, value, supported = "weight_bits", f"[{precision.weight_bits}]", str(weight_bits)
    else:
        partners = sorted({c.activation_bits for c in choices if c.weight_bits == precision.weight_bits})
        setting, value, supported = "activation_bits", f"[{precision.activation_bits}]", str(partners)
        given = f" with weight_bits={precision.weight_bits}"
    raise ValueError(
        f"Hardware '{hardware}' has no kernels for {setting}={value}{given} in layer '{layer.name}'; "
        f"it supports {supported}. Set space.{setting} to a subset."
    )
