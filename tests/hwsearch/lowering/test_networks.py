"""Whole networks: the integers are those that fake quantization imitates."""

import numpy as np
import pytest
import torch

from cost_models import Precision
from hwsearch.lowering.integer_network import Add, AveragePool, Convolution, Copy, MaxPool
from hwsearch.networks import (
    DSCNN,
    CifarResNet,
    DigitsResNet,
    InceptionV3,
    MobileNetV1,
    MobileNetV2,
    ResNet,
    ResNet8,
    VisualWakeWords,
    load_checkpoint,
)

NETWORKS = {
    "digits": (DigitsResNet, (1, 8, 8)),
    "cifar_resnet20": (lambda: CifarResNet(20), (3, 32, 32)),
    "cifar_resnet20_projected": (lambda: CifarResNet(20, "B"), (3, 32, 32)),
    "resnet18_cifar": (lambda: ResNet(18, "cifar", 10), (3, 32, 32)),
    "resnet18": (lambda: ResNet(18), (3, 64, 64)),
    "resnet50_cifar": (lambda: ResNet(50, "cifar", 10), (3, 32, 32)),
    "mobilenet_v1": (lambda: MobileNetV1(0.25), (3, 96, 96)),
    "mobilenet_v2_cifar": (lambda: MobileNetV2("cifar", 10), (3, 32, 32)),
    "mlperf_tiny_resnet8": (ResNet8, (3, 32, 32)),
    "mlperf_tiny_vww": (VisualWakeWords, (3, 96, 96)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_exactly_what_fake_quantization_computes(check, name):
    build, shape = NETWORKS[name]
    check(build(), shape)
