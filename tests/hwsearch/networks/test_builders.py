"""What builders compute and refuse."""

import pytest
import torch
from torch import nn

from hwsearch.networks import (
    DSCNN,
    CifarResNet,
    InceptionV3,
    MobileNetV1,
    MobileNetV2,
    ResNet,
    ResNet8,
    VisionTransformer,
)
from hwsearch.networks.residual import PadShortcut


def sizes(network, shape):
    """Height of each convolution's output."""
    heights = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, y, name=name: heights.update({name: y.shape[2]}))
    with torch.inference_mode():
        network.eval()(torch.zeros(1, *shape))
    return heights


def test_pad_shortcut_puts_new_channels_on_both_sides():
    x = torch.arange(2 * 4 * 4.0).reshape(1, 2, 4, 4)
    y = PadShortcut(2, 4, 2)(x)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2]) and not y[:, [0, 3]].any()


def test_stems_downsample_as_much_as_their_sources_say():
    imagenet, cifar = sizes(ResNet(18), (3, 64, 64)), sizes(ResNet(18, "cifar", 10), (3, 32, 32))
    assert (imagenet["conv1"], imagenet["layer1.0.conv1"], imagenet["layer4.1.conv2"]) == (32, 16, 2)
    assert (cifar["conv1"], cifar["layer1.0.conv1"], cifar["layer4.1.conv2"]) == (32, 32, 4)
    cifar = sizes(MobileNetV2("cifar", 10), (3, 32, 32))
    assert (cifar["features.0.0"], cifar["features.3.conv.2"], cifar["features.18.0"]) == (32, 32, 4)
    cifar = sizes(InceptionV3("cifar", 10), (3, 32, 32))
    assert (cifar["Mixed_5b.branch1x1.conv"], cifar["Mixed_6b.branch1x1.conv"], cifar["Mixed_7c.branch1x1.conv"]) == (
        30,
        14,
        6,
    )


def test_tensorflow_networks_round_sizes_up():
    heights = sizes(DSCNN(), (1, 49, 10))
    assert set(heights.values()) == {25}
    heights = sizes(MobileNetV1(0.25, 10), (3, 33, 33))
    assert (heights["features.0.1"], heights["features.26.0"]) == (17, 2)
    assert sizes(ResNet8(), (3, 32, 32))["blocks.2.sc"] == 8


def test_bad_arguments_are_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"CifarResNet depth=18 is not 6n\+2; use 20, 32, 44, 56 or 110\."):
        CifarResNet(18)
    with pytest.raises(ValueError, match=r"shortcut='C' is unknown; use 'A' \(zero-padded\) or 'B' \(projected\)\."):
        CifarResNet(20, "C")
    with pytest.raises(ValueError, match=r"ResNet depth=20 is unknown; use one of \[18, 34, 50, 101\]\."):
        ResNet(20)
    with pytest.raises(ValueError, match=r"model\.network\.width=0\.01 must be at least 1/32"):
        MobileNetV1(0.01)
    with pytest.raises(ValueError, match=r"VisionTransformer width=192 is no multiple of heads=5\."):
        VisionTransformer(192, 5)
    with pytest.raises(ValueError, match=r"VisionTransformer size=32 is no multiple of patch=5\."):
        VisionTransformer(192, 3, patch=5, size=32)
    for build in (lambda stem: ResNet(18, stem), MobileNetV2, InceptionV3):
        with pytest.raises(ValueError, match=r"stem='svhn' is unknown; use 'cifar' \(32x32 inputs\) or 'imagenet'\."):
            build("svhn")


@pytest.mark.slow
def test_logits_equal_torchvisions_for_the_same_weights():
    models = pytest.importorskip("torchvision", reason="torchvision is no dependency of hwsearch").models
    pairs = [
        (lambda: ResNet(18), models.resnet18, 224),
        (lambda: ResNet(34), models.resnet34, 224),
        (lambda: ResNet(50), models.resnet50, 224),
        (lambda: ResNet(101), models.resnet101, 224),
        (MobileNetV2, models.mobilenet_v2, 224),
        (InceptionV3, lambda: models.inception_v3(aux_logits=False, init_weights=False), 299),
    ]
    for ours, theirs, size in pairs:
        reference, network = theirs().eval(), ours().eval()
        network.load_state_dict(reference.state_dict())
        x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected, found = reference(x), network(x)
        # torchvision pools with adaptive_avg_pool2d, whose sums are ordered otherwise
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
