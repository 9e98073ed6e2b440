"""Commands that Hydra configures: overrides, ``-m``, ``--config-dir`` and ``--cfg`` are Hydra's own."""

import difflib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from rich.markup import escape

from hwsearch.progress import STDERR
from hwsearch.run_folder import make_run_dir

C = TypeVar("C", bound=BaseModel)

FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"
os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes every error on; friendly_errors shows it

MISSING_HINTS = {
    "model.checkpoint": "give model.checkpoint=FILE (.safetensors or .pth), "
    "or model.checkpoint=random for random weights",
    "data.root": "give data.root=DIR, the folder that holds the files",
    "hardware.tracker": "give hardware.tracker=HOST:PORT, where python -m tvm.exec.rpc_tracker runs",
    "hardware.key": "give hardware.key=KEY, the name under which the device is registered at the tracker",
}


def conf_dir() -> Path:
    """The configuration folder: inside the installed package, or at the top of a source tree."""
    packaged = Path(str(resources.files("hwsearch"))) / "conf"
    return packaged if packaged.is_dir() else packaged.parents[1] / "conf"


def run_configured(
    command: str, config_name: str, schema: type[C], task: Callable[[C, Path], None], args: Sequence[str]
) -> None:
    """Compose the configuration, check it, and run ``task`` with it and the run folder.

    Args:
        command: Name of the subcommand, as users type it.
        config_name: Primary configuration, a file of ``conf/``.
        schema: What the composed configuration must look like.
        task: The command.
        args: Its arguments.
    """

    def checked(cfg: DictConfig) -> None:
        run_dir = Path(HydraConfig.get().runtime.output_dir)
        with friendly_errors(resume=run_dir):
            task(_validated(cfg, schema), run_dir)

    sys.argv = [f"hwsearch {command}", *args]
    sys.path.insert(0, str(Path.cwd()))  # so that a `_target_` may name a module of the user's
    with friendly_errors():
        _check_keys(args, schema)
        for override in args:
            folder = override.removeprefix("run_dir=").strip("'\"")
            if override.startswith("run_dir=") and "$" not in folder and "--cfg" not in args:
                make_run_dir(Path(folder))
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(checked)()


def _check_keys(args: Sequence[str], schema: type[BaseModel]) -> None:
    """Refuse an override of an unknown key and name the nearest; Hydra would advise to add it with a ``+``."""
    for arg in args:
        if arg.startswith("-") or "=" not in arg:
            continue
        key = OverridesParser.create().parse_override(arg).key_or_group
        parts = key.split("@")[0].replace("/", ".").split(".")
        known = [*schema.model_fields, *(path.name for path in conf_dir().iterdir() if path.is_dir()), "hydra"]
        level: Any = schema
        for part in parts:
            if part not in known:
                close = difflib.get_close_matches(part, known, n=1)
                hint = f" Did you mean '{close[0]}'?" if close else f" Known keys: {', '.join(sorted(known))}."
                raise ValueError(f"Unknown key '{key}' in '{arg}'.{hint}")
            field = level.model_fields.get(part)
            level = field.annotation if field else None
            if (
                not (isinstance(level, type) and issubclass(level, BaseModel))
                or level.model_config.get("extra") != "forbid"
            ):
                break  # below here any key may be added, e.g. an argument of a network's builder
            known = list(level.model_fields)


def _validated(cfg: DictConfig, schema: type[C]) -> C:
    for key in _missing_keys(OmegaConf.to_container(cfg, resolve=False)):
        raise ValueError(f"{key} is not set; {MISSING_HINTS.get(key, f'give {key}=VALUE')}.")
    content: Any = OmegaConf.to_container(cfg, resolve=True)
    content.pop("experiment", None)
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
        raise ValueError("The configuration does not fit: " + "; ".join(problems) + ".") from error


def _missing_keys(content: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Dotted keys whose value is ``???``; OmegaConf's own function fails on interpolations of such keys."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _missing_keys(value, (*path, str(key)))
    elif content == "???":
        yield ".".join(path)


@contextmanager
def friendly_errors(resume: Path | None = None) -> Iterator[None]:
    """Print errors of the user's input as one message without a stack, and exit with status 2.

    With ``HYDRA_FULL_ERROR=1`` in the environment the stack is shown.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        again = f" Repeat the command with run_dir={resume} to go on." if resume else ""
        STDERR.print(f"Interrupted.{again}", style="yellow", highlight=False, soft_wrap=True)
        raise SystemExit(130) from error
    except (ValueError, OSError, HydraException, OmegaConfBaseException, ImportError) as error:
        if FULL_ERROR:
            raise
        STDERR.print(f"[bold red]Error:[/] {escape(_message(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from error


def _message(error: BaseException) -> str:
    """The error itself; of what Hydra could not instantiate, the reason too, and what its advice would hide."""
    text = (
        str(error).removesuffix("Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.").strip()
    )
    cause = error.__cause__
    if not isinstance(error, InstantiationException) or cause is None:
        return text
    return str(cause) if isinstance(cause, (ValueError, OSError)) else f"{text}\n{type(cause).__name__}: {cause}"
