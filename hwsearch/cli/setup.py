"""From a checked configuration to the objects that a command works on."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from platformdirs import user_cache_path
from torch import nn

from cost_models import FLOAT_BITS, Precision
from hwsearch.cli.schema import DataConfig, ModelConfig, QuantizerConfig, TaskConfig
from hwsearch.data import Batches, Dataset, Preprocess
from hwsearch.graph import Network, capture
from hwsearch.networks import load_checkpoint
from hwsearch.progress import STDERR
from hwsearch.quantize import (
    ActivationRanges,
    LayerDatabase,
    Reconstruction,
    build_database,
    calibrate,
    check_importances,
)


@dataclass(frozen=True)
class Task:
    """A captured network and the images to judge it on; activation ranges are kept once they are computed."""

    network: Network
    preprocess: Preprocess
    data: Dataset
    batch_size: int
    ranges: dict[str, ActivationRanges] = field(default_factory=dict, init=False, repr=False)

    def batches(self, indices: Any = slice(None)) -> Batches:
        """Labelled images, all or those at ``indices``."""
        return Batches(self.data.inputs[indices], self.data.labels[indices], self.preprocess, self.batch_size)

    @property
    def calibration(self) -> Batches:
        """Calibration images; their labels, which nobody knows, are 0."""
        images = self.data.calibration
        return Batches(images, np.zeros(len(images), dtype=np.int64), self.preprocess, self.batch_size)


def build(target: dict[str, Any], **arguments: Any) -> Any:
    """Instantiate a ``_target_`` with plain Python containers."""
    return instantiate(target, _convert_="all", **arguments)


def load_task(config: TaskConfig) -> Task:
    """Load weights and images, check that they fit each other, and capture the network as it is to be quantized."""
    return equalized(load_float(config), config.quantizer)


def load_float(config: TaskConfig) -> Task:
    """As :func:`load_task`, before channels are scaled for the quantizer's sake."""
    check_device(config.device)
    check_quantizer(config.quantizer)
    module, preprocess = load_module(config.model)
    data = load_data(config.data, preprocess)  # before the capture, which takes longer
    task = Task(_captured(config.model, module, preprocess), preprocess, data, config.data.batch_size)
    _check_classes(task, config.model)
    return task


def equalized(task: Task, quantizer: QuantizerConfig) -> Task:
    """The task with its network's channels scaled, if the quantizer asks for it."""
    return replace(task, network=build(quantizer.equalization)(task.network)) if quantizer.equalization else task


def check_quantizer(config: QuantizerConfig) -> None:
    """Refuse parts that contradict each other."""
    check_importances(build(config.weights), config.hessian_weighted)


def check_device(name: str) -> None:
    """Refuse a torch device that there is not."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name} is no torch device; set device=cpu or device=cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name}: torch sees no CUDA device here; set device=cpu.")


def load_network(config: ModelConfig) -> Network:
    """Load weights and capture the network."""
    return _captured(config, *load_module(config))


def load_module(config: ModelConfig, seed: int = 0) -> tuple[nn.Module, Preprocess]:
    """Build a network, load its weights, or leave the random ones of ``seed``, and what makes its input."""
    preprocess: Preprocess = build(config.input)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # checkpoint=random builds the same weights each time
        module = build(config.network).eval()
    return load_checkpoint(module, config.checkpoint, config.checkpoint_sha256), preprocess


def _captured(config: ModelConfig, module: nn.Module, preprocess: Preprocess) -> Network:
    channels, height, width = preprocess.shape
    example = preprocess(np.zeros((1, height, width, channels), np.float32))
    with STDERR.status(f"capturing {config.name}"):
        return capture(module, example)


def load_data(config: DataConfig, preprocess: Preprocess) -> Dataset:
    """Load a data set and check that its images are what the network takes."""
    data: Dataset = build(config.loader)(preprocess=preprocess)
    data.check_fits(preprocess)
    return data


def _check_classes(task: Task, model: ModelConfig) -> None:
    with torch.inference_mode():
        logits = task.network.graph(task.preprocess(task.data.inputs[:2]))
    classes, largest = logits.shape[-1], int(np.max(task.data.labels))
    if logits.dim() != 2 or largest >= classes:
        raise ValueError(
            f"Data '{task.data.name}' has labels up to {largest}, but model '{model.name}' gives outputs of shape "
            f"{list(logits.shape[1:])} per image; set model.network.classes or choose other data."
        )


def cache_dir(config: TaskConfig) -> Path:
    """Folder of what is computed once."""
    return Path(config.cache_dir).expanduser() if config.cache_dir else user_cache_path("hwsearch")


def layer_database(config: TaskConfig, task: Task, precisions: Collection[Precision]) -> LayerDatabase:
    """Every layer quantized at every width and in every format of ``precisions``; floats need nothing."""
    bits = sorted({precision.weight_bits for precision in precisions} - {FLOAT_BITS})
    if not bits:
        return {}
    quantizer = config.quantizer
    layers = cache_dir(config) / "layers"
    database = build_database(
        task.network,
        build(quantizer.weights),
        bits,
        formats=sorted({precision.weight_format for precision in precisions}),
        calibration=task.calibration,
        cache_dir=layers,
        **build(quantizer.method()),
    )
    if quantizer.reconstruction is None:
        return database
    reconstruct: Reconstruction = build(quantizer.reconstruction)
    return reconstruct(task.network, database, activation_ranges(config, task), task.calibration, layers)


def activation_ranges(config: TaskConfig, task: Task) -> ActivationRanges:
    """The range of every tensor at every width, estimated on the calibration images once for a task."""
    key = repr((config.quantizer.activations, config.device))
    if key not in task.ranges:
        task.ranges[key] = calibrate(
            task.network, task.calibration, build(config.quantizer.activations), device=config.device
        )
    return task.ranges[key]
