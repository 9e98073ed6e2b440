"""Reads a device file: the YAML of conf/hardware, without Hydra."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cost_models.cost import CostModel

TARGET = "_target_"


def load_device(source: str | Path | Mapping[str, Any]) -> CostModel:
    """Build the cost model that a device file, or a mapping with the same keys, describes.

    Args:
        source: Path of a YAML file, or a mapping: ``_target_`` is the dotted path of a class, e.g.
            ``cost_models.Roofline``; all other keys are its arguments.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the target cannot be imported or is no cost model, or if a field is unknown, missing or out of
            range; the message names the file and the path of the field, e.g. ``rates.0.macs_per_s``.
    """
    if isinstance(source, Mapping):
        place, content = "hardware", source
    else:
        place, content = str(source), _read(Path(source))
    arguments = {key: value for key, value in content.items() if key != TARGET}
    build = _target(content.get(TARGET), place)
    try:
        device = build(**arguments)
    except ValidationError as error:
        raise ValueError(f"{place}: {'; '.join(_explain(e) for e in error.errors())}") from error
    except TypeError as error:
        raise ValueError(f"{place}: {error}") from error
    if not isinstance(device, CostModel):
        raise ValueError(f"{place}: {TARGET}: '{content[TARGET]}' is no cost model; see cost_models.CostModel")
    return device


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        here = sorted(p.name for p in path.parent.glob("*.yaml"))
        raise FileNotFoundError(f"No device file '{path}'; its folder holds {here}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: a device file is a mapping of fields, not {type(content).__name__}")
    return content


def _target(target: object, place: str) -> Any:
    if not isinstance(target, str) or "." not in target:
        raise ValueError(
            f"{place}: {TARGET} must be the dotted path of a class, e.g. cost_models.Roofline; got {target!r}"
        )
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{place}: {TARGET}: cannot import '{target}' ({error})") from error


def _explain(error: Any) -> str:
    """``rates.0.macs_per_s: Input should be greater than 0 (got -1)``."""
    path = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{path}: missing"
    if error["type"] == "unexpected_keyword_argument":
        return f"{path}: unknown field"
    if error["type"] == "value_error":
        return f"{path}: {message}" if path else message
    return f"{path}: {message} (got {error['input']!r})"
