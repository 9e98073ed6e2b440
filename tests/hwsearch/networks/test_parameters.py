"""Sizes of the networks against published ones."""

import pytest
import torch
from torch import nn

from hwsearch.networks import (
    DSCNN,
    CifarResNet,
    DigitsResNet,
    InceptionV3,
    MobileNetV1,
    MobileNetV2,
    ResNet,
    ResNet8,
    VisionTransformer,
    VisualWakeWords,
)


def parameters(build, *args, **kwargs):
    with torch.device("meta"):
        return sum(p.numel() for p in build(*args, **kwargs).parameters())


@pytest.mark.parametrize(
    ("depth", "expected"),
    # `num_params` of the weights in torchvision.models.resnet
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160)],
)
def test_resnets_have_torchvisions_parameters(depth, expected):
    assert parameters(ResNet, depth) == expected


def test_mobilenet_v2_has_torchvisions_parameters():
    assert parameters(MobileNetV2) == 3_504_872  # `num_params` in torchvision.models.mobilenetv2


def test_inception_v3_has_torchvisions_parameters_without_auxiliary_head():
    # `num_params` in torchvision.models.inception, less AuxLogits: a 768 -> 128 and a 5x5 128 -> 768 convolution, each
    # with batch norm, and a linear layer.
    auxiliary = 768 * 128 + 2 * 128 + 25 * 128 * 768 + 2 * 768 + 768 * 1000 + 1000
    assert parameters(InceptionV3) == 27_161_264 - auxiliary == 23_834_568


@pytest.mark.parametrize(
    ("width", "heads", "millions"),
    [(192, 3, 5), (384, 6, 22), (768, 12, 86)],  # Touvron et al. 2021, table 1, which rounds down
)
def test_vision_transformers_have_the_papers_parameters(width, heads, millions):
    assert int(parameters(VisionTransformer, width, heads) / 1e6) == millions


def test_the_base_transformer_has_torchvisions_parameters():
    assert parameters(VisionTransformer, 768, 12) == 86_567_656  # `num_params` of vit_b_16 in torchvision.models


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_cifar_resnets_have_the_papers_parameters(depth, millions):
    # He et al. 2016, table 6
    assert round(parameters(CifarResNet, depth) / 1e6, 1 if depth == 110 else 2) == millions


def test_projections_add_their_own_parameters():
    added = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)  # 1x1 convolutions and batch norms
    assert parameters(CifarResNet, 20, "B") == 269_722 + added


def test_networks_of_the_shared_weights_have_their_parameters():
    # Counted in the published state dicts: akamaster/pytorch_resnet_cifar10, mlcommons/tiny, Keras applications
    assert parameters(CifarResNet, 20) == 269_722
    assert parameters(CifarResNet, 32) == 464_154
    assert parameters(ResNet8) == 78_186
    assert parameters(MobileNetV1, 0.75) == 2_585_560


@pytest.mark.parametrize(
    ("build", "layers"),
    [(DigitsResNet, 9), (ResNet8, 10), (DSCNN, 10), (VisualWakeWords, 28), (MobileNetV1, 28), (MobileNetV2, 53)],
)
def test_number_of_quantizable_layers(build, layers):
    with torch.device("meta"):
        assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in build().modules()) == layers


def test_digits_network_is_smaller_than_400_kb():
    assert parameters(DigitsResNet) == 38_266
    assert 4 * parameters(DigitsResNet) < 400_000


def test_cifar_stems_change_no_parameter_but_those_of_resnets_first_convolution_and_the_head():
    for build, features in ((MobileNetV2, 1280), (InceptionV3, 2048)):
        assert parameters(build, "cifar", 10) == parameters(build) - 990 * (features + 1)
    resnets = {18: (11_689_512, 512), 34: (21_797_672, 512), 50: (25_557_032, 2048), 101: (44_549_160, 2048)}
    for depth, (count, features) in resnets.items():
        assert parameters(ResNet, depth, "cifar", 10) == count - 990 * (features + 1) - 64 * 3 * (49 - 9)
