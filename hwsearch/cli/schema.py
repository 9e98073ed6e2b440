"""What a composed configuration must look like; unknown keys and wrong types are refused before any work."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from cost_models import Precision

NonEmpty = Annotated[list[str], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Strict):
    """``conf/model``."""

    name: str
    network: dict[str, Any]
    checkpoint: str
    checkpoint_sha256: str | None
    input: dict[str, Any]


class DataConfig(_Strict):
    """``conf/data``; a loader's own arguments lie under ``loader``."""

    name: str
    loader: dict[str, Any]
    root: str | None
    split_seed: NonNegativeInt
    calibration_images: PositiveInt | None
    batch_size: PositiveInt


class QuantizerConfig(_Strict):
    """``conf/quantizer``."""

    name: str
    equalization: dict[str, Any] | None
    granularity: Literal["per_tensor", "per_channel", "per_group"]
    group_size: PositiveInt
    hessian_weighted: bool
    codebook_bits: list[int]
    weights: dict[str, Any]
    codebook: dict[str, Any]
    rounding: dict[str, Any]
    corrections: list[dict[str, Any]]
    reconstruction: dict[str, Any] | None
    activations: dict[str, Any]

    def method(self) -> dict[str, Any]:
        """What :func:`hwsearch.quantize.build_database` takes besides the range estimator; parts are to be built."""
        return self.model_dump(exclude={"name", "equalization", "weights", "reconstruction", "activations"})


class OverrideConfig(_Strict):
    """Widths of the layers that match a name or pattern."""

    layers: str
    weight_bits: list[int] | None = None
    activation_bits: list[int] | None = None


class SpaceConfig(_Strict):
    """``conf/space``."""

    weight_bits: list[int] | None
    activation_bits: list[int] | None
    weight_formats: list[Literal["uniform", "codebook"]] | None
    pinned: list[str]
    tied: list[list[str]]
    untied: list[str]
    overrides: list[OverrideConfig]

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of :func:`hwsearch.search.build_space`.

        Raises:
            ValueError: If a pin is not of the form LAYER:WxAy.
        """
        return {
            "weight_bits": self.weight_bits,
            "activation_bits": self.activation_bits,
            "weight_formats": self.weight_formats,
            "pinned": self.pins(),
            "tied": self.tied,
            "untied": self.untied,
            "overrides": {
                entry.layers: entry.model_dump(exclude={"layers"}, exclude_none=True) for entry in self.overrides
            },
        }

    def pins(self) -> dict[str, Precision]:
        """Fixed precisions by layer name or pattern."""
        for pin in self.pinned:
            if ":" not in pin:
                raise ValueError(f"space.pinned holds '{pin}'; write LAYER:PRECISION as in first:W8A8.")
        return {layer: Precision.parse(text) for layer, _, text in (pin.rpartition(":") for pin in self.pinned)}


class ConstraintsConfig(_Strict):
    """``constraints``: bounds by measure."""

    top1: float | None
    kl: float | None
    agreement: float | None
    latency_s: float | None
    energy_j: float | None
    size_bytes: float | None
    bops: float | None


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


class RacingConfig(_Strict):
    """``racing`` of ``conf/config.yaml``."""

    deviations: NonNegativeFloat
    least_gain: NonNegativeFloat


class SearchConfig(TaskConfig):
    """``conf/config.yaml``."""

    hardware: dict[str, Any]
    sampler: dict[str, Any]
    sensitivity: dict[str, Any]
    objective: ObjectiveConfig
    n_trials: PositiveInt
    seed: NonNegativeInt
    engine: Literal["auto", "torch", "integer"]
    racing: RacingConfig | None
    reuse_bytes: NonNegativeInt
    workers: PositiveInt
    storage: str | None
    constraints: ConstraintsConfig


class CostBoundsConfig(_Strict):
    """``constraints`` of ``conf/solve.yaml``: bounds on what is known without judging."""

    latency_s: float | None
    energy_j: float | None
    size_bytes: float | None
    bops: float | None


class SolveConfig(_Strict):
    """``conf/solve.yaml``."""

    hardware: dict[str, Any] | None = None  # a group that is null leaves no key
    constraints: CostBoundsConfig
    cost: str | None
    budgets: PositiveInt
    run_dir: str


class EvaluateConfig(TaskConfig):
    """``conf/evaluate.yaml``."""

    precisions: str | None
    trial: NonNegativeInt | None


class StudyConfig(_Strict):
    """``conf/study.yaml``."""

    models: NonEmpty
    data: DataConfig
    quantizers: NonEmpty
    granularities: list[Literal["per_tensor", "per_channel", "per_group"]] | None
    precisions: NonEmpty
    space: SpaceConfig
    device: str
    run_dir: str
    cache_dir: str | None


class RecipeConfig(_Strict):
    """``recipe`` of ``conf/train.yaml``: attributes of :class:`hwsearch.train.Recipe`."""

    batch_size: PositiveInt
    lr: float
    decay: float
    decay_at: list[float]
    momentum: float
    weight_decay: float
    crop_padding: NonNegativeInt
    flip: bool


class TrainConfig(_Strict):
    """``conf/train.yaml``."""

    model: ModelConfig
    data: DataConfig
    epochs: PositiveInt
    recipe: RecipeConfig
    seed: NonNegativeInt
    device: str
    run_dir: str


class ProfileConfig(_Strict):
    """``conf/profile.yaml``."""

    model: ModelConfig
    quantizer: QuantizerConfig
    hardware: dict[str, Any]
    shown: list[str]
    run_dir: str
