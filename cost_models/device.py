"""Reads a device file: the YAML of conf/hardware, without Hydra."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from cost_models.cost import CostModel

TARGET = "_target_"


class DeviceError(ValueError):
    """A device file that is wrong.

    Attributes:
        place: The file.
        mistakes: A line for each, beginning with the path of the field: ``compute[0].macs_per_s: ...``.
    """

    def __init__(self, place: str, mistakes: Sequence[str]) -> None:
        """Join the mistakes behind the place."""
        super().__init__(f"{place}: {'; '.join(mistakes)}")
        self.place = place
        self.mistakes = tuple(mistakes)


def load_device(source: str | Path | Mapping[str, Any]) -> CostModel:
    """Build the cost model that a device file, or a mapping with the same keys, describes.

    Args:
        source: Path of a YAML file, or a mapping: ``_target_`` is the dotted path of a class, e.g.
            ``cost_models.Analytic``; all other keys are its arguments.

    Raises:
        FileNotFoundError: If there is no such file.
        DeviceError: If the target cannot be imported or is no cost model, or if a field is unknown, missing or out of
            range; the message names the file and the path of every such field, e.g. ``compute[0].macs_per_s``.
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
        raise DeviceError(place, _explanations(error, build)) from error
    except TypeError as error:
        raise DeviceError(place, [str(error)]) from error
    if not isinstance(device, CostModel):
        raise DeviceError(place, [f"{TARGET}: '{content[TARGET]}' is no cost model; see cost_models.CostModel"])
    return device


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        here = sorted(p.name for p in path.parent.glob("*.yaml"))
        raise FileNotFoundError(f"No device file '{path}'; its folder holds {here}.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise DeviceError(str(path), [f"not valid YAML: {error}"]) from error
    if not isinstance(content, Mapping):
        raise DeviceError(str(path), [f"a device file is a mapping of fields, not {type(content).__name__}"])
    return content


class _Loader(yaml.SafeLoader):
    """Refuses keys that are given twice, of which PyYAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _target(target: object, place: str) -> Any:
    if not isinstance(target, str) or "." not in target:
        raise DeviceError(
            place, [f"{TARGET} must be the dotted path of a class, e.g. cost_models.Analytic; got {target!r}"]
        )
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise DeviceError(place, [f"{TARGET}: cannot import '{target}' ({error})"]) from error


def _explanations(error: ValidationError, target: Any) -> list[str]:
    """A line for each mistake, without those that only follow from a mistake further inside."""
    found = [detail["loc"] for detail in error.errors()]
    inner = [
        d for d in error.errors() if not any(loc != d["loc"] and loc[: len(d["loc"])] == d["loc"] for loc in found)
    ]
    return [_explain(detail, target) for detail in inner]


def _explain(error: Any, target: Any) -> str:
    """``compute[0].macs_per_s: Input should be greater than 0 (got -1)``."""
    loc = error["loc"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{path}: missing"
    if error["type"] == "unexpected_keyword_argument":
        return f"{path}: unknown field; choose from {_fields(target, loc[:-1])}"
    if error["type"] == "value_error":
        return f"{path}: {message}" if path else message
    return f"{path}: {message} (got {error['input']!r})"


def _fields(target: Any, loc: Sequence[str | int]) -> list[str]:
    """Fields of the section at ``loc``."""
    schema = TypeAdapter(target).json_schema()
    section = schema
    for part in loc:
        if isinstance(part, int):
            section = section["items"]
        else:
            section = section["properties"][part] if "properties" in section else section["additionalProperties"]
        options = [section, *section.get("anyOf", ())]
        reference = next((option["$ref"] for option in options if "$ref" in option), None)
        section = schema["$defs"][reference.rpartition("/")[2]] if reference else section
    return sorted(section["properties"])
