"""Judges configurations by running the integer network itself: compiled once, handed other integers each time."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cost_models import BitConfig, Precision
from cost_models.tvm.integer import Int32, Requantization
from hwsearch.data import Batch
from hwsearch.evaluate.fake_quantization import OTHER_BITS
from hwsearch.evaluate.reuse import Memories, Memory, StepKeys, run_steps
from hwsearch.graph import Network
from hwsearch.lowering.lower import Lowering
from hwsearch.lowering.steps import CompiledSteps, Constant, Stored
from hwsearch.quantize import ActivationRanges, LayerDatabase

PLANS = 1024
"""Configurations whose integers are kept, so that a sweep can go over several batches."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """A configuration's integers.

    Attributes:
        constants: Of each step but the first, which the host takes.
        keys: Of each step.
        logit_scale: Real value of one step of the logits.
    """

    constants: Sequence[Constant]
    keys: Sequence[Hashable]
    logit_scale: float


class IntegerEngine:
    """Logits of the integer network at any configuration of 1 to 8 bits: those of the compiled one, bit for bit.

    It uses as many threads as torch does at each call.

    Args:
        network: The captured float network.
        database: Codes of every (layer, weight_bits, weight_format) that will be asked for.
        ranges: Grids of every (tensor, activation_bits) that will be asked for, and of 8 bits.
        cache_dir: Folder of compiled kernels.
        requantization: ``"float32"`` or ``"fixed_point"``.
        batch_size: Images of most batches: calls divide them evenly.
        reuse_bytes: Memory for what configurations share, for all batches in use together.

    Attributes:
        requantization: As given.

    Raises:
        ValueError: If an operator has no integer form.
    """

    def __init__(
        self,
        network: Network,
        database: LayerDatabase,
        ranges: ActivationRanges,
        *,
        cache_dir: Path,
        requantization: Requantization = "float32",
        batch_size: int = 64,
        reuse_bytes: int = 0,
    ) -> None:
        self._lowering = Lowering(network)
        self._database, self._ranges = database, ranges
        self.requantization = requantization
        widest = _widest(network, database, ranges)
        example = self._lowering(widest, database, ranges, dedupe=False)
        self._steps = CompiledSteps(example, requantization, batch_size, cache_dir)
        self._name, self._classes = example.logits, example.tensors[example.logits].image.channels
        self._pool = lru_cache(1)(ThreadPoolExecutor)  # of as many threads as were last asked for
        self._keys = StepKeys(self._steps.sources)
        self._planned = lru_cache(PLANS)(self._make_plan)
        self._memories: Memories[Stored] = Memories(reuse_bytes)
        self.configure(widest)

    def configure(self, config: BitConfig) -> None:
        """Set every layer's precision.

        Raises:
            ValueError: If ``config`` names other layers than the network's, asks for floats, or for what the database
                or the ranges do not hold; if an accumulator could overflow.
        """
        self._plan = self._planned(tuple(sorted(config.items())))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, classes]`` of inputs ``[N, ...]``, float64, which holds the integers exactly."""
        return self._run(len(x), lambda: x, [Memory(0)] * self._chunks(len(x)))

    def logits(self, batch: Batch) -> torch.Tensor:
        """The same of a batch, for which it is remembered what other configurations may share."""
        memories = self._memories.of(batch, self._chunks(len(batch)))
        return self._run(len(batch), lambda: batch.inputs, memories)

    def _chunks(self, images: int) -> int:
        return -(-images // self._steps.images)

    def _run(self, images: int, load: Callable[[], torch.Tensor], memories: Sequence[Memory[Stored]]) -> torch.Tensor:
        loaded = cache(lambda: load().numpy())  # not before something is missing in a memory
        with_memories = list(enumerate(memories))
        threads = torch.get_num_threads()
        spread = self._pool(threads).map if threads > 1 else map
        chunks = list(spread(partial(self._run_chunk, loaded), with_memories))
        return torch.from_numpy(np.concatenate(chunks)[:images])

    def _run_chunk(
        self, loaded: Callable[[], NDArray[np.float32]], chunk: tuple[int, Memory[Stored]]
    ) -> NDArray[np.float64]:
        """Logits of the images of one call; of the last one, with those that fill it up."""
        (number, memory), plan, steps = chunk, self._plan, self._steps

        def execute(step: int, sources: list[Stored]) -> Stored:
            if step == 0:
                return steps.start(loaded()[number * steps.images : (number + 1) * steps.images])
            return steps.execute(step, plan.constants[step - 1], sources)

        written = run_steps(steps.sources, plan.keys, execute, lambda step, _: steps.size_bytes[step], memory)
        codes: Int32 = written[self._name].numpy().reshape(steps.images, -1)[:, : self._classes]
        return codes * np.float64(plan.logit_scale)

    def _make_plan(self, config: tuple[tuple[str, Precision], ...]) -> _Plan:
        network = self._lowering(dict(config), self._database, self._ranges, dedupe=False)
        constants = self._steps.constants(network)
        keys = self._keys([None, *(constant.content for constant in constants)])
        return _Plan(constants, keys, network.logit_scale)


def _widest(network: Network, database: LayerDatabase, ranges: ActivationRanges) -> dict[str, Precision]:
    """Any configuration that can be lowered: each layer at the most bits that are at hand."""
    weight_bits = {layer: bits for layer, bits, weight_format in sorted(database) if weight_format == "uniform"}
    activation_bits = max((bits for _, bits in ranges), default=OTHER_BITS)
    return {layer.name: Precision(weight_bits.get(layer.name, 8), activation_bits) for layer in network.layers}
