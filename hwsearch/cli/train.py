"""``hwsearch train``."""

from pathlib import Path

from rich.console import Console

from hwsearch.cli.schema import TrainConfig
from hwsearch.cli.setup import check_device, load_data, load_module
from hwsearch.run_folder import write_yaml
from hwsearch.train import Recipe, train
from hwsearch.train.training import STATE, WEIGHTS


def train_command(config: TrainConfig, run_dir: Path) -> None:
    """Train a network on the training images of a data set, or go on with the training of the run folder."""
    check_device(config.device)
    recipe = Recipe(epochs=config.epochs, **config.recipe.model_dump())
    module, preprocess = load_module(config.model, config.seed)
    data = load_data(config.data, preprocess)
    if not (run_dir / STATE).exists():
        write_yaml(config.model_dump(), run_dir / "config.yaml")
    log = train(module, data, preprocess, recipe, run_dir, seed=config.seed, device=config.device)
    last = log.iloc[-1]
    Console().print(
        f"{config.model.name} after {len(log)} epochs on {len(data.calibration):,} images of {data.name}: "
        f"loss {last['loss']:.4f}, top-1 {last['test_top1']:.2f} % of {len(data.inputs):,} test images\n"
        f"model.checkpoint={run_dir / WEIGHTS}",
        highlight=False,
        soft_wrap=True,
    )
