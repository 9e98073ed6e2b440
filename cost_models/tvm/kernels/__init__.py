"""Integer kernels as functions of TVM's tensor IR, each a frozen description that builds it."""

from cost_models.tvm.kernels.convolution import Convolution, ConvolutionKernel, Tiling
from cost_models.tvm.kernels.copying import CopiedPart, CopyKernel
from cost_models.tvm.kernels.depthwise import DepthwiseKernel, DepthwiseTiling
from cost_models.tvm.kernels.epilogue import Epilogue, Output, Residual
from cost_models.tvm.kernels.isa import ISAS, Isa
from cost_models.tvm.kernels.lookup import LookupKernel
from cost_models.tvm.kernels.weights import WeightStorage

__all__ = [
    "ISAS",
    "Convolution",
    "ConvolutionKernel",
    "CopiedPart",
    "CopyKernel",
    "DepthwiseKernel",
    "DepthwiseTiling",
    "Epilogue",
    "Isa",
    "LookupKernel",
    "Output",
    "Residual",
    "Tiling",
    "WeightStorage",
]
