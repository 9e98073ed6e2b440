"""From a search's configuration to what judges its candidates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from cost_models import FLOAT, BitConfig, CostModel
from hwsearch.cli.schema import SearchConfig
from hwsearch.cli.setup import Task, cache_dir
from hwsearch.cli.workers import end_with_parent
from hwsearch.data import Batches, stratified_halves
from hwsearch.evaluate import Accuracy, Engine, FakeQuantNetwork, accuracy
from hwsearch.judging import SplitJudge, choose_engine, growing_parts
from hwsearch.quantize import ActivationRanges, LayerDatabase
from hwsearch.search import Hopeless, Judgement, SearchSpace, never

if TYPE_CHECKING:
    from cost_models.tvm.integer import Requantization  # whose package imports tvm, which takes seconds


@dataclass(frozen=True)
class Judging:
    """The network at any precision, and the two halves of the labelled images.

    Attributes:
        engine: Runs candidates.
        float_network: Runs the float network.
        split_judge: Judges candidates on the search split.
        test_split: The other images.
        racing: Whether hopeless candidates are dropped; else all are judged on every image.
    """

    engine: Engine
    float_network: FakeQuantNetwork
    split_judge: SplitJudge
    test_split: Batches
    racing: bool

    def __call__(self, config: BitConfig, hopeless: Hopeless) -> Judgement:
        """Judge a candidate on the search split."""
        end_with_parent()
        return self.split_judge(config, hopeless if self.racing else never)

    @property
    def float_search(self) -> Accuracy:
        """Of the float network on the search split."""
        return Accuracy(self.split_judge.float_correct, self.split_judge.n)

    def test(self, config: BitConfig) -> Accuracy:
        """Accuracy on the test split."""
        if all(precision == FLOAT for precision in config.values()):
            return accuracy(self.float_network, self.test_split)
        self.engine.configure(config)
        return accuracy(self.engine, self.test_split)


def requantization(device: CostModel) -> "Requantization":
    """Of integer networks on the device; of one that is only modelled, as on most."""
    return cast("Requantization", getattr(device, "requantization", "float32"))


def prepare_judging(
    config: SearchConfig,
    task: Task,
    device: CostModel,
    space: SearchSpace,
    database: LayerDatabase,
    ranges: ActivationRanges,
) -> Judging:
    """Choose the engine and judge the float network."""
    search_split, test_split = stratified_halves(task.data.labels, config.data.split_seed)
    engine = choose_engine(
        config.engine,
        task.network,
        database,
        ranges,
        {precision for group in space.groups for precision in group.precisions},
        images=len(search_split),
        batch_size=task.batch_size,
        cache_dir=cache_dir(config) / "kernels",
        requantization=requantization(device),
        device=config.device,
        reuse_bytes=config.reuse_bytes,
    )
    float_network = FakeQuantNetwork(task.network, {}, {}, config.device)
    order = growing_parts(task.data.labels[search_split], config.data.split_seed)
    parts = [list(task.batches(search_split[part]).parts()) for part in order]
    race = {"deviations": config.racing.deviations} if config.racing else {}
    judge = SplitJudge(engine, float_network, parts, **race)
    return Judging(engine, float_network, judge, task.batches(test_split), config.racing is not None)
