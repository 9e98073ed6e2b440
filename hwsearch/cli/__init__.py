"""The command line: ``hwsearch search | solve | evaluate | study | train | profile | compare | export | ...``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hwsearch.cli.devices import devices
from hwsearch.cli.listing import GROUPS, listing

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Find the bit-width of every layer's weights and activations for a trained network and a target device.",
)
app.add_typer(devices, name="devices")
HYDRA_COMMAND = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=HYDRA_COMMAND, add_help_option=False)
def search(context: typer.Context) -> None:
    """Search per-layer precisions, write a Pareto table. Takes Hydra overrides: [bold]hwsearch search --help[/]."""
    from hwsearch.cli.hydra_app import run_configured
    from hwsearch.cli.schema import SearchConfig
    from hwsearch.cli.search import search_command

    run_configured("search", "config", SearchConfig, search_command, context.args)


@app.command(context_settings=HYDRA_COMMAND, add_help_option=False)
def evaluate(context: typer.Context) -> None:
    """Judge one configuration (float by default) on all labelled images. See [bold]hwsearch evaluate --help[/]."""
    from hwsearch.cli.evaluate import evaluate_command
    from hwsearch.cli.hydra_app import run_configured
    from hwsearch.cli.schema import EvaluateConfig

    run_configured("evaluate", "evaluate", EvaluateConfig, evaluate_command, context.args)


@app.command(context_settings=HYDRA_COMMAND, add_help_option=False)
def study(context: typer.Context) -> None:
    """Judge several quantizers at several precisions, in one table. See [bold]hwsearch study --help[/]."""
    from hwsearch.cli.hydra_app import run_configured
    from hwsearch.cli.schema import StudyConfig
    from hwsearch.cli.study import study_command

    run_configured("study", "study", StudyConfig, study_command, context.args)


@app.command(context_settings=HYDRA_COMMAND, add_help_option=False)
def train(context: typer.Context) -> None:
    """Train a network, or go on with a training that was stopped. See [bold]hwsearch train --help[/]."""
    from hwsearch.cli.hydra_app import run_configured
    from hwsearch.cli.schema import TrainConfig
    from hwsearch.cli.train import train_command

    run_configured("train", "train", TrainConfig, train_command, context.args)


@app.command(context_settings=HYDRA_COMMAND, add_help_option=False)
def solve(context: typer.Context) -> None:
    """Re-solve a run for other bounds or another device, from its sensitivities. See [bold]hwsearch solve --help[/]."""
    from functools import partial

    from hwsearch.cli.hydra_app import run_configured
    from hwsearch.cli.schema import SolveConfig
    from hwsearch.cli.solve import solve_command

    named = [argument for argument in context.args[:1] if "=" not in argument and not argument.startswith("-")]
    run_configured("solve", "solve", SolveConfig, partial(solve_command, Path(*named)), context.args[len(named) :])


@app.command(context_settings=HYDRA_COMMAND, add_help_option=False)
def profile(context: typer.Context) -> None:
    """Cost of every layer at every precision, modelled or measured here. See [bold]hwsearch profile --help[/]."""
    from hwsearch.cli.hydra_app import run_configured
    from hwsearch.cli.profile import profile_command
    from hwsearch.cli.schema import ProfileConfig

    run_configured("profile", "profile", ProfileConfig, profile_command, context.args)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Run folders; run_dir=DIR among them is the same as --out DIR.")],
    x: Annotated[
        str, typer.Option(help="Cost on the horizontal axis: latency_s, energy_j, size_bytes or bops.")
    ] = "latency_s",
    y: Annotated[
        str | None, typer.Option(help="Accuracy: test_top1 or search_top1. Default: test_top1; search_top1 with --on.")
    ] = None,
    where: Annotated[str | None, typer.Option(help='Only rows that satisfy this, e.g. "latency_s < 0.012".')] = None,
    best: Annotated[str | None, typer.Option(help="Also name the best row by this column, e.g. energy_j.")] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Price every candidate of the runs on this device instead, without judging anything again: how each "
            "run's front fares there, and what is on the fronts of all devices. May be given several times.",
        ),
    ] = None,
    config_dir: Annotated[Path | None, typer.Option(help="A folder with devices of your own, for --on.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables and the figure.")] = None,
) -> None:
    """Compare the fronts of several runs: union front, hypervolume, shares, domination; or their worth elsewhere."""
    from hwsearch.cli.hydra_app import friendly_errors

    with friendly_errors():
        from hwsearch.cli.compare import compare_command

        compare_command(runs, x, y, where, best, on or [], config_dir, out)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder; the network and images that it names are read again.")],
    trial: Annotated[int, typer.Option(help="Which configuration: a trial of the run's pareto.csv or trials.csv.")],
    form: Annotated[str, typer.Option("--format", help="tvm: a compiled library with its constants.")] = "tvm",
    requantization: Annotated[
        str | None,
        typer.Option(help="float32 scales, or fixed_point: integers only. Default: what the run measured, or float32."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="host, or TVM's target, e.g. '{kind: llvm, mtriple: aarch64-linux-gnu, mcpu: cortex-a76}'. "
            "Default: what the run measured on, or this machine."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: in the run folder.")] = None,
) -> None:
    """Compile a trial's integer network into a folder that runs without hwsearch."""
    from hwsearch.cli.hydra_app import friendly_errors

    with friendly_errors():
        from hwsearch.cli.export import export_command

        export_command(run, trial, form, requantization, target, out)


@app.command(name="list")
def list_choices(
    group: Annotated[str, typer.Argument(help=f"One of {', '.join(GROUPS)}.")],
    config_dir: Annotated[Path | None, typer.Option(help="A folder with files of your own, as for search.")] = None,
) -> None:
    """Show the models, devices, samplers, experiments... that there are, with their sources."""
    from hwsearch.cli.hydra_app import friendly_errors

    with friendly_errors():
        Console().print(listing(group, config_dir))


def main() -> None:
    """Entry point of the ``hwsearch`` script."""
    app(prog_name="hwsearch")
