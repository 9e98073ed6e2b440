"""Integer kernels as functions of TVM's tensor IR, each a frozen description that builds it."""

from cost_models.tvm.kernels.add import AddKernel
from cost_models.tvm.kernels.average_pool import AveragePoolKernel
from cost_models.tvm.kernels.bit_serial import BitSerialKernel
from cost_models.tvm.kernels.convolution import ConvolutionKernel
from cost_models.tvm.kernels.copying import CopiedPart, CopyKernel
from cost_models.tvm.kernels.depthwise import DepthwiseKernel, DepthwiseTiling
from cost_models.tvm.kernels.epilogue import Epilogue, Output, Residual
from cost_models.tvm.kernels.isa import ISAS, Isa
from cost_models.tvm.kernels.lookup import LookupKernel
from cost_models.tvm.kernels.max_pool import MaxPoolKernel
from cost_models.tvm.kernels.multiply import MultiplyKernel
from cost_models.tvm.kernels.quantize import QuantizeKernel
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.tiling import Tiling
from cost_models.tvm.kernels.weights import WeightStorage
from cost_models.tvm.kernels.winograd import WinogradKernel, WinogradTiling

__all__ = [
    "ISAS",
    "AddKernel",
    "AveragePoolKernel",
    "BitSerialKernel",
    "Convolution",
    "ConvolutionKernel",
    "CopiedPart",
    "CopyKernel",
    "DepthwiseKernel",
    "DepthwiseTiling",
    "Epilogue",
    "Isa",
    "LookupKernel",
    "MaxPoolKernel",
    "MultiplyKernel",
    "Output",
    "QuantizeKernel",
    "Residual",
    "Tiling",
    "WeightStorage",
    "WinogradKernel",
    "WinogradTiling",
]
