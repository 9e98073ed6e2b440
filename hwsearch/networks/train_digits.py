"""Trains the network of the digits example: ``python -m hwsearch.networks.train_digits OUT.safetensors --seed 0``."""

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Generator, Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hwsearch.data import Preprocess, digits_training_set
from hwsearch.networks.digits import DigitsResNet
from hwsearch.progress import track

PREPROCESS = Preprocess(shape=(1, 8, 8), divisor=16.0)


def train(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    seed: int,
    *,
    epochs: int = 150,
    batch_size: int = 64,
    lr: float = 0.01,
    weight_decay: float = 0.05,
    label_smoothing: float = 0.1,
    ema_decay: float = 0.995,
    rotation_deg: float = 5.0,
    shift_pixels: float = 0.3,
    zoom: float = 0.05,
) -> DigitsResNet:
    """Train on augmented digits; the result averages weights and batch-norm statistics over the last steps.

    Args:
        images: uint8, ``[N, 8, 8, 1]``, values 0..16.
        labels: Classes, int64, ``[N]``.
        seed: Seeds initial weights, order of images and augmentation.
        epochs: Passes over the images, under a one-cycle learning rate.
        batch_size: Images per step; an incomplete last batch is left out of its epoch.
        lr: Largest learning rate of AdamW.
        weight_decay: Of AdamW.
        label_smoothing: Share of the target spread over all classes.
        ema_decay: Share of the running average that one step keeps.
        rotation_deg: Largest rotation to either side, in degrees.
        shift_pixels: Largest shift per axis, in pixels.
        zoom: Largest change of size, as a share.

    Returns:
        The averaged network, in evaluation mode.
    """
    generator = Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # torch's initializers take no generator
        torch.manual_seed(seed)
        model = DigitsResNet()
    average: Any = get_ema_multi_avg_fn  # torch leaves it untyped
    averaged = AveragedModel(model, multi_avg_fn=average(ema_decay), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    steps = len(images) // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * steps)
    x, y = PREPROCESS(images), torch.from_numpy(labels)
    bar = track(range(epochs), "Training")
    for _ in bar:
        order = torch.randperm(len(x), generator=generator)
        for batch in order[: steps * batch_size].reshape(steps, batch_size):
            inputs = augment(x[batch], generator, rotation_deg, shift_pixels, zoom)
            loss = F.cross_entropy(model(inputs), y[batch], label_smoothing=label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
            averaged.update_parameters(model)
    trained: Any = averaged.module
    return trained.eval()  # type: ignore[no-any-return]  # torch types any attribute as a module or tensor


def augment(x: Tensor, generator: Generator, rotation_deg: float, shift_pixels: float, zoom: float) -> Tensor:
    """Rotate, zoom and shift each image by its own random amounts, bilinearly, with zeros outside.

    Args:
        x: Images, ``[N, C, H, W]``.
        generator: Source of the amounts, uniform on both sides of none.
        rotation_deg: Largest rotation in degrees.
        shift_pixels: Largest shift per axis in pixels.
        zoom: Largest change of size, as a share.

    Returns:
        Images of the same shape.
    """
    angle, size, dx, dy = 2 * torch.rand(4, len(x), generator=generator) - 1
    angle, size = torch.deg2rad(angle * rotation_deg), 1 + size * zoom
    dx, dy = dx * 2 * shift_pixels / x.shape[3], dy * 2 * shift_pixels / x.shape[2]  # the image spans [-1, 1]
    cos, sin = angle.cos() * size, angle.sin() * size
    theta = torch.stack([torch.stack([cos, -sin, dx], dim=1), torch.stack([sin, cos, dy], dim=1)], dim=1)  # [N, 2, 3]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def main(out: Path, seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0) -> None:
    """Train DigitsResNet on the 797 training digits and write its state dict to OUT (.safetensors)."""
    torch.set_num_threads(1)  # sums, and so weights, would depend on the number of cores
    model = train(*digits_training_set(), seed)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, out)
    typer.echo(f"{out}: {out.stat().st_size} bytes, sha256 {sha256(out.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    typer.run(main)
