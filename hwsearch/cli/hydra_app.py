"""Commands that Hydra configures: overrides, ``-m``, ``--config-dir`` and ``--cfg`` are Hydra's own."""

import difflib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from rich.markup import escape

from hwsearch.progress import STDERR
from hwsearch.run_folder import make_run_dir

C = TypeVar("C", bound=BaseModel)

MISSING_HINTS = {
    "model.checkpoint": "give model.checkpoint=FILE (.safetensors or .pth), "
    "or model.checkpoint=random for random weights",
    "data.root": "give data.root=DIR, the folder that holds the files",
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
    with friendly_errors():
        _check_keys(args, schema)
        for override in args:
            if override.startswith("run_dir="):
                make_run_dir(Path(override.removeprefix("run_dir=").strip("'\"")))
        os.environ.setdefault("HYDRA_FULL_ERROR", "0")
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


class friendly_errors:
    """Print errors of the user's input as one message without a stack, and exit with status 2."""

    def __init__(self, resume: Path | None = None) -> None:
        self.resume = resume

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, stack: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            again = f" Repeat the command with run_dir={self.resume} to go on." if self.resume else ""
            STDERR.print(f"Interrupted.{again}", style="yellow", highlight=False, soft_wrap=True)
            raise SystemExit(130) from error
        if isinstance(error, (ValueError, OSError, HydraException, OmegaConfBaseException, ImportError)):
            STDERR.print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise SystemExit(2) from error
