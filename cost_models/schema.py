"""JSON Schema of device files, by which editors complete and check them.

``python -m cost_models.schema`` prints it; ``conf/hardware/device.schema.json`` holds it.
"""

import json
from typing import Any

from pydantic import TypeAdapter

from cost_models.analytic import Analytic
from cost_models.bit_fusion import BitFusion
from cost_models.dataflow import Dataflow
from cost_models.device import TARGET
from cost_models.device_file import SCHEMA
from cost_models.lookup import Lookup

KINDS: tuple[type, ...] = (Analytic, BitFusion, Dataflow, Lookup)
"""Kinds of devices that a file can describe without code."""


def device_schema() -> dict[str, Any]:
    """The schema of every kind, chosen by the file's ``_target_``; a file of another target is not checked."""
    targets = {kind: f"cost_models.{kind.__name__}" for kind in KINDS}
    by_key, shared = TypeAdapter.json_schemas([(kind, "validation", TypeAdapter(kind)) for kind in KINDS])
    definitions = shared["$defs"]
    for kind in KINDS:
        definitions[kind.__name__]["properties"][TARGET] = {"const": targets[kind]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "type": "object",
        "required": [TARGET],
        "properties": {
            TARGET: {"type": "string", "description": "Class of the device.", "examples": list(targets.values())}
        },
        "allOf": [
            {
                "if": {"properties": {TARGET: {"const": targets[kind]}}},
                "then": {"$ref": by_key[kind, "validation"]["$ref"]},
            }
            for kind in KINDS
        ],
        "$defs": definitions,
    }


if __name__ == "__main__":
    print(json.dumps(device_schema(), indent=2))
