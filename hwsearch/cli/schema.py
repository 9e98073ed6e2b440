"""What a composed configuration must look like; unknown keys and wrong types are refused before any work."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Strict):
    """``conf/model``."""

    name: str
    network: dict[str, Any]
    checkpoint: str
    checkpoint_sha256: str | None
    input: dict[str, Any]


class DataConfig(BaseModel):
    """``conf/data``; loaders may add keys of their own beside these."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    loader: dict[str, Any]
    split_seed: NonNegativeInt
    calibration_images: PositiveInt
    batch_size: PositiveInt


class QuantizerConfig(_Strict):
    """``conf/quantizer``."""

    name: str
    granularity: Literal["per_channel", "per_tensor"]
    weights: dict[str, Any]
    activations: dict[str, Any]


class SpaceConfig(_Strict):
    """``conf/space``."""

    weight_bits: list[int] | None
    activation_bits: list[int] | None
    pinned: dict[str, str]
    tied: list[list[str]]
    overrides: dict[str, dict[str, list[int]]]


class ObjectiveConfig(_Strict):
    """``conf/objective``."""

    objectives: list[str]


class TaskConfig(_Strict):
    """``conf/task.yaml``: what every command on a network and its images shares."""

    model: ModelConfig
    data: DataConfig
    quantizer: QuantizerConfig
    space: SpaceConfig
    device: str
    run_dir: str
    cache_dir: str | None


class SearchConfig(TaskConfig):
    """``conf/config.yaml``."""

    hardware: dict[str, Any]
    sampler: dict[str, Any]
    objective: ObjectiveConfig
    n_trials: PositiveInt
    seed: NonNegativeInt
    storage: str | None
    constraints: dict[str, float | None] = Field(default_factory=dict)


class EvaluateConfig(TaskConfig):
    """``conf/evaluate.yaml``."""

    precisions: str | None
    trial: NonNegativeInt | None
