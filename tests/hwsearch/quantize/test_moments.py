"""Moments of layer inputs, against what the layers themselves compute."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwsearch.graph import Network, capture
from hwsearch.quantize import input_moments
from hwsearch.quantize.moments import InputMoments, lazy_moments


def captured(*layers: nn.Module, shape: tuple[int, ...] = (4, 7, 6)) -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    images = torch.rand(5, *shape) + 0.2
    return capture(nn.Sequential(*layers, nn.Flatten()), images), images


def outputs_of(network: Network, layer: str, images: Tensor, weight: Tensor) -> Tensor:
    """What the first layer gives with other weights and no bias, ``[O, samples]``."""
    spec = next(spec for spec in network.layers if spec.name == layer)
    if spec.op == "linear":
        return F.linear(images.flatten(1), weight).T
    padding = (spec.padding[1], spec.padding[1], spec.padding[0], spec.padding[0])
    found = F.conv2d(F.pad(images, padding), weight, None, spec.stride, 0, spec.dilation, spec.groups)
    return found.transpose(0, 1).flatten(1)


CONVOLUTIONS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1),
    "strided": nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0)),
    "dilated": nn.Conv2d(4, 6, 3, dilation=2, padding=2),
    "grouped": nn.Conv2d(4, 6, 3, groups=2, padding=1),
    "depthwise": nn.Conv2d(4, 4, 3, groups=4),
    "pointwise": nn.Conv2d(4, 6, 1),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_mean_and_variance_of_any_output_follow_from_the_moments(kind):
    network, images = captured(CONVOLUTIONS[kind])
    moments = input_moments(network, [images[:2], images[2:]], positions=1000)["0"]
    change = torch.randn(network.weight("0").shape, generator=torch.Generator().manual_seed(1))
    found = outputs_of(network, "0", images, change).double()
    rows = change.reshape(len(moments.mean), -1, moments.mean.shape[1]).double()
    mean = torch.einsum("grn,gn->gr", rows, moments.mean.double()).flatten()
    variance = torch.einsum("grn,gnm,grm->gr", rows, moments.covariance.double(), rows).flatten()
    # float32 sums and differences of squares
    torch.testing.assert_close(mean, found.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(variance, found.var(1, correction=0), rtol=1e-3, atol=1e-4)


def test_even_kernels_with_same_padding_have_one_more_zero_after():
    network, images = captured(nn.Conv2d(4, 3, (2, 4), padding="same"))
    moments = input_moments(network, [images], positions=1000)["0"]
    found = F.conv2d(F.pad(images, (1, 2, 0, 1)), network.weight("0")).mean((0, 2, 3))
    torch.testing.assert_close(network.weight("0").flatten(1) @ moments.mean[0], found, rtol=1e-4, atol=1e-5)


def test_linear_layers_read_their_features_at_every_token():
    network, images = captured(nn.Linear(6, 3), shape=(5, 6))
    moments = input_moments(network, [images])["0"]
    tokens = images.reshape(-1, 6).double()
    torch.testing.assert_close(moments.mean[0].double(), tokens.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(moments.covariance[0].double(), tokens.T.cov(correction=0), rtol=1e-4, atol=1e-6)


def test_a_layer_without_bias_keeps_the_second_moment():
    network, images = captured(nn.Flatten(), nn.Linear(12, 3, bias=False), shape=(3, 2, 2))
    moments = input_moments(network, [images])["1"]
    rows = images.flatten(1)
    assert not moments.mean.any()
    torch.testing.assert_close(moments.covariance[0], rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)


def test_later_layers_read_what_earlier_ones_computed():
    network, images = captured(nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1))
    moments = input_moments(network, [images], positions=1000)["2"]
    with torch.inference_mode():
        between = F.relu(
            F.conv2d(images, network.weight("0"), network.graph.get_buffer(str(network.node("0").args[2].target)))
        )
    torch.testing.assert_close(moments.mean[0], between.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_fewer_positions_estimate_the_same_and_repeat():
    network, images = captured(nn.Conv2d(4, 6, 3, padding=1), shape=(4, 24, 24))
    some, again, all_of_them = (
        input_moments(network, [images], positions=positions)["0"] for positions in (200, 200, 10_000)
    )
    assert torch.equal(some.covariance, again.covariance)
    torch.testing.assert_close(some.mean, all_of_them.mean, rtol=0.1, atol=0.02)
    assert not torch.equal(some.mean, all_of_them.mean)


def test_damping_makes_any_covariance_positive_definite():
    flat = InputMoments(torch.zeros(2, 3), torch.stack([torch.zeros(3, 3), torch.ones(3, 3)]))
    assert torch.linalg.cholesky(flat.damped(0.01)).isfinite().all()
    assert torch.equal(flat.damped(0.5)[1], torch.ones(3, 3) + 0.5 * torch.eye(3))


def test_a_covariance_of_few_samples_is_shrunk_towards_the_true_one():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 60, generator=generator)
    found = x.T.cov(correction=0)
    known, few = (InputMoments(torch.zeros(1, 60), found.unsqueeze(0), samples) for samples in (float("inf"), 40))
    assert torch.equal(known.damped(0.0)[0].triu(1), found.triu(1))
    errors = [(moments.damped(0.0)[0] - torch.eye(60)).norm() for moments in (known, few)]
    assert errors[1] < errors[0] / 4
    assert torch.linalg.eigvalsh(few.damped(0.0)[0]).min() > 0.1  # 20 of the found ones are 0


def test_the_shrinkage_is_that_of_chen_et_al_by_hand():
    found = InputMoments(torch.zeros(1, 2), torch.diag(torch.tensor([3.0, 1.0])).unsqueeze(0), samples=20)
    # p = 2, n = 20, tr(S^2) = 10, tr(S)^2 = 16: ((1 - 1) 10 + 16) / ((20 + 1 - 1) (10 - 8)) = 0.4 towards tr(S) / 2 = 2
    torch.testing.assert_close(found.damped(0.0)[0].diagonal(), torch.tensor([2.6, 1.4]))


def test_one_calibration_image_gives_finite_moments():
    network, images = captured(nn.Conv2d(4, 6, 3))
    moments = input_moments(network, [images[:1]])["0"]
    assert moments.covariance.isfinite().all()
    assert torch.linalg.cholesky(moments.damped(0.001).double()).isfinite().all()


def test_moments_are_computed_once_and_need_inputs():
    network, images = captured(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 2, 1))
    moments = lazy_moments(network, [images])
    assert moments("0") is moments("0")
    with pytest.raises(
        ValueError, match=r"^This quantizer needs calibration inputs: pass calibration=, batches of inputs\.$"
    ):
        lazy_moments(network, None)("0")
    with pytest.raises(
        ValueError, match=r"^Calibration needs at least one batch of inputs; the calibration set is empty\.$"
    ):
        lazy_moments(network, [])("0")
