"""Integer kernels that TVM compiles, their measurement, and the devices whose costs are measured."""

from cost_models.tvm.cost_model import TvmCpu, TvmRpc

__all__ = ["TvmCpu", "TvmRpc"]
