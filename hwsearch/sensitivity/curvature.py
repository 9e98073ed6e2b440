"""Curvature of the loss per layer: traces of the Fisher information and of the Hessian."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Interpreter, Node

from hwsearch.data import Batches
from hwsearch.graph import Network
from hwsearch.progress import track


@dataclass(frozen=True)
class Traces:
    """Mean curvature per element, by layer; of activations for one image's input of the layer."""

    weights: Mapping[str, float]
    activations: Mapping[str, float]


def fisher_trace(network: Network, images: Batches, *, seed: int = 0) -> Traces:
    """Trace of the Fisher information, divided by the number of weights, or of values that the layer reads.

    Classes are drawn from the network's own predictions, so that labels are not needed.

    Args:
        network: The captured float network.
        images: Run one by one, since squares are taken of each image's gradient.
        seed: Of the classes.

    Reference: Zandonati et al. 2023, "FIT: A Metric for Model Sensitivity", arXiv:2210.08502.
    """
    generator = torch.Generator().manual_seed(seed)
    sums = dict.fromkeys(_keys(network), 0.0)
    counts = {}
    for batch in track(list(images.parts()), "estimating Fisher information"):
        for image in batch.inputs:
            logits, tensors = _differentiable(network, image.unsqueeze(0))
            drawn = torch.multinomial(logits.detach().softmax(dim=1), 1, generator=generator)[:, 0]
            gradients = torch.autograd.grad(F.cross_entropy(logits, drawn), list(tensors.values()))
            for key, gradient in zip(tensors, gradients, strict=True):
                sums[key] += float(gradient.square().sum())
                counts[key] = gradient.numel()
    return _traces({key: total / counts[key] / len(images.inputs) for key, total in sums.items()})


def hessian_trace(network: Network, images: Batches, *, probes: int = 4, seed: int = 0) -> Traces:
    """Trace of the Hessian of the loss by Hutchinson's estimator, divided as above.

    The loss is the cross-entropy to the network's own outputs, which needs no labels and is least where it is.

    Args:
        network: The captured float network.
        images: Batches to average over.
        probes: Random vectors per batch, of +1 and -1.
        seed: Of the vectors.

    Reference: Dong et al. 2020, "HAWQ-V2", arXiv:1911.03852; Hutchinson's estimator as there.
    """
    generator = torch.Generator().manual_seed(seed)
    sums = dict.fromkeys(_keys(network), 0.0)
    counts = {}
    for batch in track(list(images.parts()), "estimating Hessian traces"):
        logits, tensors = _differentiable(network, batch.inputs)
        # Summed over images: the Hessian by activations is then one image's block beside the other's.
        loss = F.cross_entropy(logits, logits.detach().softmax(dim=1), reduction="sum")
        gradients = torch.autograd.grad(loss, list(tensors.values()), create_graph=True)
        for _ in range(probes):
            signs = [_signs(gradient, generator) for gradient in gradients]
            products = torch.autograd.grad(gradients, list(tensors.values()), signs, retain_graph=True)
            for key, sign, product in zip(tensors, signs, products, strict=True):
                sums[key] += float((sign * product).sum()) / probes
                counts[key] = product.numel() if key[0] == "weights" else product[0].numel()
    return _traces({key: total / counts[key] / len(images.inputs) for key, total in sums.items()})


def _keys(network: Network) -> list[tuple[str, str]]:
    return [(operand, layer.name) for operand in ("weights", "activations") for layer in network.layers]


def _traces(means: Mapping[tuple[str, str], float]) -> Traces:
    weights, activations = (
        {layer: mean for (kind, layer), mean in means.items() if kind == operand}
        for operand in ("weights", "activations")
    )
    return Traces(weights, activations)


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, like.shape, generator=generator).mul_(2).sub_(1).to(like.dtype)


def _differentiable(network: Network, inputs: Tensor) -> tuple[Tensor, dict[tuple[str, str], Tensor]]:
    """Logits, and the tensors to differentiate by: every layer's weights and its input."""
    layers = {node: layer for layer, node in network.nodes.items()}
    tensors: dict[tuple[str, str], Tensor] = {}

    class Watched(Interpreter):
        def run_node(self, n: Node) -> Any:
            if n.name not in layers:
                return super().run_node(n)
            arguments, options = self.fetch_args_kwargs_from_env(n)
            x, weight, *rest = arguments
            assert isinstance(x, Tensor)
            assert isinstance(weight, Tensor)
            tensors["activations", layers[n.name]] = x = x.clone().requires_grad_()
            tensors["weights", layers[n.name]] = weight = weight.detach().clone().requires_grad_()
            return self.call_function(n.target, (x, weight, *rest), options)

    with torch.enable_grad():
        logits: Tensor = Watched(network.graph).run(inputs)
    return logits, tensors
