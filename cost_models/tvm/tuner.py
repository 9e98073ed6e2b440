"""Finds and measures, for the shape of a layer, the best kernel of every variant; a cache keeps what was found."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from cost_models.layer import Precision
from cost_models.tvm import driver
from cost_models.tvm.cache import Cache, Key, Record, sources_digest
from cost_models.tvm.kernels.epilogue import Epilogue
from cost_models.tvm.kernels.isa import ISAS, Isa
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.measure import Measurement, Procedure, Subject, measure
from cost_models.tvm.program import Kernel
from cost_models.tvm.runner import Runner
from cost_models.tvm.search import fastest
from cost_models.tvm.shapes import canonical, flattened
from cost_models.tvm.target import Target
from cost_models.tvm.variants import BYTE, LayerKernel, Variant, candidates, kernel, variants

FEW = 2
"""Tiles that packed weights try, of those that keep unpacking rare."""


def isa_of(target: Target) -> Isa:
    """The instructions that kernels for a target are written in."""
    features = target.features
    if {"avx512vnni", "avx512bw"} <= features:
        return ISAS["avx512_vbmi" if "avx512vbmi" in features else "avx512_vnni"]
    for feature, name in (("avx2", "avx2"), ("i8mm", "i8mm"), ("dotprod", "dotprod")):
        if feature in features:
            return ISAS[name]
    return ISAS["portable"]


@dataclass(frozen=True)
class Timed:
    """The best kernel of a variant and its time."""

    kernel: LayerKernel
    measurement: Measurement


@dataclass(frozen=True)
class Tuner:
    """Searches and measures kernels on a machine.

    Attributes:
        runner: The machine.
        cache: What was measured before.
        procedure: How the kernels found are measured.
        budget_s: Seconds of search per kernel.
        tiles: Tiles to choose from for bytes; packed weights try the best few.
        excluded_methods: Methods of variants that are not used.
    """

    runner: Runner
    cache: Cache
    procedure: Procedure
    budget_s: float
    tiles: int
    excluded_methods: frozenset[str] = frozenset()

    def tune(
        self, shape: Convolution, epilogue: Epilogue, precisions: Collection[Precision] | None = None
    ) -> dict[Variant, Timed]:
        """The best kernel of every variant that computes a shape; those not cached are measured in the same rounds.

        Args:
            shape: Of the layer.
            epilogue: Of the layer.
            precisions: Leave out variants that compute none of these.
        """
        every = [
            variant for variant in variants(shape, epilogue, self.isa) if variant.method not in self.excluded_methods
        ]
        if precisions is not None:
            every = [variant for variant in every if any(map(variant.computes, precisions))]
        found = self._cached(every, shape, epilogue)
        if len(found) < len(every):
            with self.cache.exclusive():
                found = self._cached(every, shape, epilogue)
                found |= self._measured([v for v in every if v not in found], shape, epilogue)
        return found

    def time(self, other: Kernel) -> Measurement:
        """Time of a kernel without knobs: a pooling, a sum."""
        key = Key.on(
            self.runner,
            self.procedure,
            kernel=type(other).__name__,
            template=_template(),
            shape=asdict(other),
            precision={},
            knobs={},
        )
        record = self.cache.find(key)
        if record is None:
            with self.cache.exclusive():
                record = self.cache.find(key) or self._added(key, {}, other, *self._timings([other]))
        return record.measurement

    def choose(self, shape: Convolution, epilogue: Epilogue, precision: Precision) -> LayerKernel:
        """The fastest kernel that computes a layer exactly, whatever else its epilogue does."""
        flat_shape, flat_epilogue = flattened(shape, epilogue)
        alike = canonical(shape, epilogue.requantization)
        timed = self.tune(*(flattened(*alike) if flat_shape != shape else alike), [precision])
        best = fastest_of(timed, precision)
        return replace(timed[best].kernel, shape=flat_shape, epilogue=flat_epilogue)

    @property
    def isa(self) -> Isa:
        """Instructions of the machine."""
        return isa_of(self.runner.target)

    def _cached(self, every: list[Variant], shape: Convolution, epilogue: Epilogue) -> dict[Variant, Timed]:
        records = {variant: self.cache.find(self._key(variant, shape, epilogue)) for variant in every}
        return {
            variant: Timed(kernel(variant, shape, epilogue, self.isa, record.knobs), record.measurement)
            for variant, record in records.items()
            if record is not None
        }

    def _measured(self, missing: list[Variant], shape: Convolution, epilogue: Epilogue) -> dict[Variant, Timed]:
        found: dict[Variant, LayerKernel] = {}
        for variant in missing:
            limit = min(self.tiles, FEW) if variant.method == "dot" and variant.weight_bits < BYTE else self.tiles
            choices = candidates(variant, shape, epilogue, self.isa, limit)
            found[variant] = fastest(choices, self.subject, self.runner, self.budget_s).knobs
        timings = self._timings(list(found.values()))
        for (variant, best), timing in zip(found.items(), timings, strict=True):
            self._added(self._key(variant, shape, epilogue), asdict(best.tiling), best, timing)
        return {v: Timed(best, timing) for (v, best), timing in zip(found.items(), timings, strict=True)}

    def _key(self, variant: Variant, shape: Convolution, epilogue: Epilogue) -> Key:
        return Key.on(
            self.runner,
            self.procedure,
            kernel=variant.method,
            template=_template(),
            shape={"shape": asdict(shape), "epilogue": asdict(epilogue)},
            precision=asdict(variant),
            knobs={"tiles": self.tiles, "search_s": self.budget_s},
        )

    def _timings(self, kernels: Sequence[Kernel]) -> list[Measurement]:
        return measure([self.subject(kernel) for kernel in kernels], self.runner, self.procedure)

    def _added(self, key: Key, knobs: Mapping[str, JsonValue], best: Kernel, timing: Measurement) -> Record:
        try:
            library = self.runner.export(self._compiled(best))
        except FileNotFoundError:  # nothing links it; its time is known all the same
            library = None
        return self.cache.add(key, knobs, timing, library, self.runner.library_suffix)

    def subject(self, best: Kernel) -> Subject:
        """A kernel compiled and given arguments; its weights lie in many places."""
        return Subject(
            self.runner.load(self._compiled(best)), arguments(best), _rotated(best), reads_weights_once(best)
        )

    def _compiled(self, best: Kernel) -> object:
        return driver.compile(driver.rotating(best.build("kernel"), _rotated(best)), self.runner.target.attributes)


def fastest_of(timed: Mapping[Variant, Timed], precision: Precision) -> Variant:
    """The variant that computes a precision in the least time; of equals, the one that stores least."""
    return min(
        (variant for variant in timed if variant.computes(precision)),
        key=lambda variant: (timed[variant].measurement.latency_s, variant),
    )


def reads_weights_once(best: Kernel) -> bool:
    """Whether a call uses each weight for one output pixel, so that reading weights may take longest."""
    shape = getattr(best, "shape", None)
    return isinstance(shape, Convolution) and shape.image.batch * prod(shape.out_size) == 1


def _rotated(best: Kernel) -> list[int]:
    return [i for i, (name, _, _) in enumerate(best.pointers()) if name == "weights"]


@cache
def _template() -> str:
    return sources_digest(Path(__file__).parent / "kernels")


def arguments(best: Kernel) -> list[NDArray[np.generic]]:
    """Random bytes to compute with; parameters are zero, so that no float is a NaN or denormal."""
    rng = np.random.default_rng(0)
    return [
        np.zeros(size, dtype)
        if name == "parameters"
        else rng.integers(0, 256, size * np.dtype(dtype).itemsize, np.uint8).view(dtype)
        for name, dtype, size in best.pointers()
    ]
