"""A captured network: what its layers sum up to, and its fingerprint."""

import pytest
import torch
from torch import nn

from hwsearch.graph import capture
from hwsearch.networks import CifarResNet, DigitsResNet, InceptionV3, MobileNetV1, MobileNetV2, ResNet


def macs(module: nn.Module, *shape: int) -> int:
    return sum(layer.macs for layer in capture(module, torch.zeros(1, *shape)).layers)


@pytest.mark.parametrize("n", [1, 3])
def test_cifar_resnets_have_the_macs_of_their_closed_form(n):
    # He et al. 2016, section 4.2: 3x3 convolutions of 16, 32, 64 channels on 32, 16, 8 pixels, 2n of each, and the stem.
    halving = 9 * 16 * 16 * 32 * 32 // 2  # half the input channels and the same product otherwise, in both stages
    stages = 9 * 16 * 16 * 32 * 32  # equal in all stages: channels double where pixels halve
    expected = 9 * 3 * 16 * 32 * 32 + 2 * n * stages + 2 * ((2 * n - 1) * stages + halving) + 64 * 10
    assert macs(CifarResNet(6 * n + 2), 3, 32, 32) == expected
    if n == 3:
        assert expected == 40_551_040  # "40.55 MMACs"


# Million multiply-adds: tensorflow.org/api_docs/python/tf/keras/applications/mobilenet for width 0.25 and 0.75;
# tensorflow/models, research/slim/nets/mobilenet_v1.md for 1.0 (its 317 for 0.75 is another count than Keras' 325).
@pytest.mark.parametrize(
    ("width", "millions"),
    [
        (0.25, 41),
        pytest.param(0.75, 325, marks=pytest.mark.slow),
        pytest.param(1.0, 569, marks=pytest.mark.slow),
    ],
)
def test_mobilenet_v1_has_its_published_macs(width, millions):
    assert round(macs(MobileNetV1(width), 3, 224, 224) / 1e6) == millions


# torchvision's ``_ops``, in billions of multiply-adds.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "size", "billions"),
    [
        pytest.param(ResNet(18), 224, 1.814, id="ResNet-18"),
        pytest.param(ResNet(50), 224, 4.089, id="ResNet-50"),
        pytest.param(MobileNetV2(), 224, 0.301, id="MobileNetV2"),
        pytest.param(InceptionV3(), 299, 5.713, id="Inception-v3"),
    ],
)
def test_imagenet_networks_have_the_macs_that_torchvision_states(module, size, billions):
    assert round(macs(module, 3, size, size) / 1e9, 3) == billions


def test_depthwise_layers_are_seen_as_such():
    layers = capture(nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 8, 1)), torch.zeros(1, 4, 5, 5)).layers
    assert [layer.depthwise for layer in layers] == [True, False]
    assert layers[0].macs == 8 * 9 * 9


def test_fingerprints_tell_weights_and_structure_apart_and_nothing_else():
    torch.manual_seed(0)
    module, inputs = DigitsResNet(), torch.zeros(2, 1, 8, 8)
    fingerprint = capture(module, inputs).fingerprint
    assert capture(module.train(), torch.randn(7, 1, 8, 8)).fingerprint == fingerprint
    with torch.no_grad():
        module.fc.bias[3] += 1
    changed = capture(module, inputs).fingerprint
    torch.manual_seed(0)
    module = DigitsResNet()
    module.block1 = nn.Sequential(module.block1, nn.Hardtanh())
    wrapped = capture(module, inputs).fingerprint
    assert len({fingerprint, changed, wrapped}) == 3
