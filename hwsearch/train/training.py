"""Training that goes on where it was stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from hwsearch.data import Batches, Dataset, Preprocess
from hwsearch.evaluate import accuracy
from hwsearch.progress import track
from hwsearch.run_folder import write_csv
from hwsearch.train.recipe import Recipe, crop_and_flip

STATE, LOG, WEIGHTS = "training.pt", "training.csv", "weights.safetensors"
"""Files of a training's folder."""


def train(
    module: nn.Module,
    data: Dataset,
    preprocess: Preprocess,
    recipe: Recipe,
    folder: Path,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> pd.DataFrame:
    """Train a network on a data set's calibration images, or go on with a training of that folder.

    After every epoch the folder holds what the next one needs (``training.pt``) and the log so far (``training.csv``);
    at the end, the weights (``weights.safetensors``). On one device with one number of threads, they follow from the
    initial weights and ``seed`` alone, whether the training was stopped in between or not.

    Args:
        module: Maps inputs to logits ``[N, classes]``; it holds the trained weights afterwards, in evaluation mode.
        data: Its scored images are judged after every epoch and choose nothing.
        preprocess: Makes network input of the images.
        recipe: How to train.
        folder: An existing folder.
        seed: Of the order of images, augmentation and dropout.
        device: Torch device to train on.

    Returns:
        The log: ``epoch`` from 1, ``lr``, mean ``loss``, ``train_top1`` of the augmented images during the epoch,
        ``test_top1``.

    Raises:
        ValueError: If the images have no labels, the network has fewer classes than they, the folder holds another
            training, or the loss is no longer finite.
    """
    labels = _labels(module, data, preprocess)
    device = torch.device(device)
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types one or the other
    optimizer = recipe.optimizer(module.parameters())
    about = {
        "recipe": asdict(recipe) | {"decay_at": list(recipe.decay_at)},
        "seed": seed,
        "images": data.calibration_fingerprint,
        "labels": sha256(labels.numpy().tobytes()).hexdigest(),
        "preprocess": repr(preprocess),
        "network": repr(module),
    }
    log = _restore(folder / STATE, about, module, optimizer)
    images = torch.from_numpy(data.calibration)
    judged = Batches(data.inputs, data.labels, preprocess, recipe.batch_size)
    for epoch in range(len(log), recipe.epochs):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(epoch)
        with _seeded(seed, epoch, device) as generator:
            row = _epoch(module.train(), images, labels, preprocess, recipe, optimizer, generator, epoch)
        module.eval()
        with torch.inference_mode():
            row["test_top1"] = accuracy(lambda x: module(x.to(device)), judged).top1
        log.append(row)
        state = {"about": about, "log": log, "module": module.state_dict(), "optimizer": optimizer.state_dict()}
        _write(torch.save, state, folder / STATE)
        write_csv(pd.DataFrame(log), folder / LOG)
    module.to("cpu").eval()
    weights = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    _write(save_file, weights, folder / WEIGHTS)
    return pd.DataFrame(log)


def _labels(module: nn.Module, data: Dataset, preprocess: Preprocess) -> Tensor:
    if data.calibration_labels is None:
        raise ValueError(
            f"Data '{data.name}' has no labels of its training images; .npz files (an array 'labels' beside the "
            "calibration images), torchvision's data sets and the digits have them."
        )
    with torch.inference_mode():
        classes = module.eval()(preprocess(data.calibration[:2])).shape[-1]
    largest = int(max(data.calibration_labels.max(), data.labels.max()))
    if largest >= classes:
        raise ValueError(
            f"Data '{data.name}' has labels up to {largest}, but the network gives {classes} outputs per image; set "
            "model.network.classes or choose other data."
        )
    return torch.from_numpy(data.calibration_labels)


def _epoch(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    preprocess: Preprocess,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    epoch: int,
) -> dict[str, Any]:
    """One pass over the images in equal batches; the row of the log."""
    device = next(module.parameters()).device
    batches = torch.randperm(len(images), generator=generator).tensor_split(-(-len(images) // recipe.batch_size))
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    for batch in track(batches, f"epoch {epoch + 1} of {recipe.epochs}"):
        augmented = crop_and_flip(images[batch], generator, recipe.crop_padding, recipe.flip)
        inputs, target = preprocess(augmented.numpy()).to(device), labels[batch].to(device)
        logits = module(inputs)
        loss = F.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        loss_sum += loss.detach() * len(batch)
        correct += (logits.argmax(1) == target).sum()
    mean = float(loss_sum) / len(images)
    if not np.isfinite(mean):
        raise ValueError(f"The loss is {mean} in epoch {epoch + 1}; start again with a smaller recipe.lr.")
    top1 = 100 * float(correct) / len(images)
    return {"epoch": epoch + 1, "lr": recipe.lr_at(epoch), "loss": mean, "train_top1": top1}


@contextmanager
def _seeded(seed: int, epoch: int, device: torch.device) -> Iterator[torch.Generator]:
    """A generator for an epoch; torch's own, which dropout uses, is seeded beside it and then put back."""
    own, global_seed = (int(n) for n in np.random.SeedSequence([seed, epoch]).generate_state(2))
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.backends.cudnn.flags(enabled=True, deterministic=True),
    ):
        torch.manual_seed(global_seed)
        yield torch.Generator().manual_seed(own)


def _write(save: Callable[[dict[str, Any], Path], object], content: dict[str, Any], path: Path) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    save(content, temporary)
    temporary.replace(path)


def _restore(path: Path, about: dict[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    """The log of a training that was stopped, after its weights and momenta are put back; empty if there is none."""
    if not path.exists():
        return []
    state = torch.load(path, map_location="cpu", weights_only=True)
    differing = [name for name, value in about.items() if state["about"].get(name) != value]
    if differing:
        raise ValueError(
            f"Folder '{path.parent}' holds a training with another {differing[0]}: {state['about'].get(differing[0])}, "
            f"not {about[differing[0]]}. Choose another run_dir."
        )
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    log: list[Any] = state["log"]
    return log
