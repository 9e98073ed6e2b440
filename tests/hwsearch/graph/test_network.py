"""A captured network: what its layers sum up to, and its fingerprint."""

import pytest
import torch
from torch import nn

from hwsearch.graph import capture
from hwsearch.networks import InceptionV3, MobileNetV1, MobileNetV2, ResNet


def macs(module: nn.Module, *shape: int) -> int:
    return sum(layer.macs for layer in capture(module, torch.zeros(1, *shape)).layers)


# Million multiply-adds: tensorflow.org/api_docs/python/tf/keras/applications/mobilenet for widths below 1;
# tensorflow/models, research/slim/nets/mobilenet_v1.md for 1.0 (which says 317 and 150 for 0.75 and 0.5).
@pytest.mark.slow
@pytest.mark.parametrize(("width", "millions"), [(0.25, 41), (0.5, 149), (0.75, 325), (1.0, 569)])
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
    module, inputs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()), torch.zeros(2, 3, 4, 4)
    fingerprint = capture(module, inputs).fingerprint
    assert capture(module.train(), torch.randn(7, 3, 4, 4)).fingerprint == fingerprint
    other = capture(nn.Sequential(module[0], nn.ReLU6(), nn.Flatten()), inputs).fingerprint
    with torch.no_grad():
        module[0].bias[3] += 1
    assert len({fingerprint, other, capture(module, inputs).fingerprint}) == 3
