"""The configuration that a run folder holds."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from hwsearch.cli.schema import SearchConfig


def read_run_config(folder: Path) -> SearchConfig:
    """What the search was configured with.

    Raises:
        FileNotFoundError: If the folder has no ``config.yaml``.
        ValueError: If that is not the configuration of a search by this version.
    """
    path = folder / "config.yaml"
    try:
        return SearchConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Run folder '{folder}' has no config.yaml, which names network and data.") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"'{path}' is not the configuration of a search by this version: {error}") from error
