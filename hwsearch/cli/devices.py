"""``hwsearch devices show | check | calibrate``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hwsearch.progress import STDERR

devices = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Show a device, check a device file of your own, fit its constants to measurements.",
)
Device = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="A device of [bold]hwsearch list devices[/], or a YAML file.")
]
ConfigDir = Annotated[Path | None, typer.Option(help="A folder with files of your own, as for search.")]

CALIBRATE = "\n\n".join(
    [
        "Fit the constants that a device file leaves open, and judge the fit on held-out networks.",
        'The file names them: [bold]calibration: {fitted: ["compute\\[0].efficiency", overhead.layer_s]}[/]; each of '
        "these fields holds a first guess. Every network is predicted once from constants that are fitted to all "
        "others. The fitted constants, the data and the errors are written into the file; its comments stay.",
        "Columns of the CSV, one row per measured latency (lines from # on are comments):",
        "[bold]network[/]: folder with the network.json that [bold]hwsearch profile model=NAME run_dir=FOLDER[/] or a "
        "search wrote, from the CSV's folder; the same networks are held out together",
        "[bold]latency_s[/]: seconds per image, at the batch of the device file",
        "[bold]weight_bits[/], [bold]activation_bits[/], optionally [bold]weight_format[/] (uniform or codebook): of "
        "every layer, or of the one that was measured",
        "[bold]trial[/]: instead of bits, the trial of the folder's precisions.csv that was measured",
        "[bold]layer[/]: optional, the layer whose kernel was measured alone; empty for a whole network",
    ]
)


@devices.command()
def show(device: Device, config_dir: ConfigDir = None) -> None:
    """Rates, memories, overheads, sources with their uncertainty, and agreement with published figures."""
    from hwsearch.cli.hydra_app import friendly_errors

    with friendly_errors():
        from cost_models import load_device
        from hwsearch.device_sheet import render_device

        Console().print(render_device(load_device(device_path(device, config_dir))), highlight=False)


@devices.command()
def check(file: Annotated[Path, typer.Argument(help="A device file.")]) -> None:
    """Find every mistake in a device file, and whether its costs make sense. Exit status 0 if it is sound, else 2."""
    from hwsearch.cli.hydra_app import friendly_errors

    with friendly_errors():
        from cost_models import Measuring, load_device
        from cost_models.contract import LAYERS, breaches
        from cost_models.device import DeviceError

        try:
            device = load_device(file)
            mistakes = [] if isinstance(device, Measuring) else breaches(device)
        except DeviceError as error:
            mistakes = list(error.mistakes)
        for mistake in mistakes:
            STDERR.print(f"{file}: {mistake}", style="red", highlight=False, markup=False, soft_wrap=True)
        if mistakes:
            raise SystemExit(2)
        pairs = sorted({precision for layer in LAYERS for precision in device.precisions(layer)})
        console = Console()
        shown = f"{', '.join(map(str, pairs[:12]))}{', ...' if len(pairs) > 12 else ''}"
        text = f"{file} is sound: '{device.name}' runs {shown} at batch {device.batch}."
        console.print(text, highlight=False, markup=False, soft_wrap=True)
        for warning in device.warnings:
            console.print(f"Note: {warning}", style="yellow", highlight=False, markup=False)


@devices.command(help=CALIBRATE)
def calibrate(
    file: Annotated[Path, typer.Argument(help="A device file.")],
    measurements: Annotated[Path, typer.Option(metavar="CSV", help="Measured latencies, as described above.")],
    out: Annotated[Path | None, typer.Option(help="Write the fitted file here instead.")] = None,
) -> None:
    from hwsearch.cli.hydra_app import friendly_errors

    with friendly_errors():
        from hwsearch.calibration import calibrate_file, read_measurements, render_calibration

        with STDERR.status(f"fitting {file}"):
            calibration = calibrate_file(file, read_measurements(measurements), measurements.name, out or file)
        console = Console()
        console.print(render_calibration(calibration), highlight=False)
        console.print(f"Written: {out or file}", highlight=False, soft_wrap=True)


def device_path(device: str, config_dir: Path | None = None) -> Path:
    """The file of a device.

    Args:
        device: Its name in ``conf/hardware`` or in the same folder of ``config_dir``, or the path of a YAML file.
        config_dir: A folder with files of the user's own.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If only Hydra can compose it.
    """
    from hwsearch.cli.hydra_app import conf_dir

    folders = [root / "hardware" for root in (config_dir, conf_dir()) if root is not None]
    places = [Path(device)] if device.endswith((".yaml", ".yml")) else [root / f"{device}.yaml" for root in folders]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        names = sorted(path.stem for root in folders for path in root.glob("*.yaml"))
        raise FileNotFoundError(f"There is no device '{device}'; give a YAML file, or choose from {', '.join(names)}.")
    if any(line.startswith("defaults:") for line in found.read_text(encoding="utf-8").splitlines()):
        raise ValueError(
            f"'{found}' completes another file (defaults:), which only a search or a profile does: hardware={device}."
        )
    return found
