"""Builders of the networks in ``conf/model`` and loading of their weights."""

from hwsearch.networks.checkpoint import load_checkpoint
from hwsearch.networks.cifar_resnet import CifarResNet
from hwsearch.networks.digits import DigitsResNet
from hwsearch.networks.inception_v3 import InceptionV3
from hwsearch.networks.mlperf_tiny import DSCNN, ResNet8
from hwsearch.networks.mobilenet_v1 import MobileNetV1, VisualWakeWords
from hwsearch.networks.mobilenet_v2 import MobileNetV2
from hwsearch.networks.resnet import ResNet
from hwsearch.networks.vit import VisionTransformer

__all__ = [
    "DSCNN",
    "CifarResNet",
    "DigitsResNet",
    "InceptionV3",
    "MobileNetV1",
    "MobileNetV2",
    "ResNet",
    "ResNet8",
    "VisionTransformer",
    "VisualWakeWords",
    "load_checkpoint",
]
