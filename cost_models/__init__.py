"""Latency and energy of quantized layers on target devices: shapes and bits in, seconds and joules out."""

from cost_models.analytic import Analytic
from cost_models.bit_fusion import BitFusion
from cost_models.cost import Cost, CostModel, Measuring, bops, size_bytes, total_cost
from cost_models.dataflow import Dataflow
from cost_models.device import load_device
from cost_models.layer import FLOAT, FLOAT_BITS, WEIGHT_FORMATS, BitConfig, LayerSpec, Precision, WeightFormat
from cost_models.lookup import Lookup
from cost_models.network import INPUT, NetworkSpec, Operator, OperatorSpec
from cost_models.support import require_supported

__all__ = [
    "FLOAT",
    "FLOAT_BITS",
    "INPUT",
    "WEIGHT_FORMATS",
    "Analytic",
    "BitConfig",
    "BitFusion",
    "Cost",
    "CostModel",
    "Dataflow",
    "LayerSpec",
    "Lookup",
    "Measuring",
    "NetworkSpec",
    "Operator",
    "OperatorSpec",
    "Precision",
    "WeightFormat",
    "bops",
    "load_device",
    "require_supported",
    "size_bytes",
    "total_cost",
]
