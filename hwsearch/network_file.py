"""``network.json``: what a cost model must know of a network, so that stored runs can be priced on other devices."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cost_models import NetworkSpec

NETWORK_FILE = "network.json"
NETWORK_SCHEMA = "hwsearch.network/1"


def network_content(network: NetworkSpec) -> dict[str, Any]:
    """What ``network.json`` holds, as ``runs/README.md`` describes it."""
    return {"schema": NETWORK_SCHEMA, **asdict(network)}


def read_network(folder: Path) -> NetworkSpec:
    """Read the network of a folder that ``hwsearch search`` or ``hwsearch profile`` wrote.

    Raises:
        FileNotFoundError: If the folder has no ``network.json``.
        ValueError: If that file is not what it should be.
    """
    path = folder / NETWORK_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"'{folder}' has no {NETWORK_FILE}. A search adds it to its folder when its command is given again with "
            f"run_dir={folder}; 'hwsearch profile model=NAME run_dir={folder}' writes that of a network."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.pop("schema", None) != NETWORK_SCHEMA:
            raise ValueError(f"its schema is not '{NETWORK_SCHEMA}'")
        return TypeAdapter(NetworkSpec).validate_python(content)
    except ValidationError as error:
        places = ("'{}': {}".format(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors())
        raise ValueError(f"'{path}' describes no network: {'; '.join(places)}.") from error
    except ValueError as error:
        raise ValueError(f"'{path}' describes no network: {error}.") from error
