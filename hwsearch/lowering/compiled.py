"""An integer network as machine code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from cost_models.tvm import driver
from cost_models.tvm.integer import Int32, Requantization
from cost_models.tvm.measure import Measurement, Procedure, Subject, measure
from cost_models.tvm.program import Program
from cost_models.tvm.runner import Runner
from cost_models.tvm.tuner import isa_of
from hwsearch.lowering.integer_network import IntegerNetwork
from hwsearch.lowering.program import Choose, program


@dataclass(frozen=True, eq=False)
class CompiledNetwork:
    """One function, ``main(*inputs, constants, workspace, logits)`` of flat byte arrays, and its constants.

    Attributes:
        network: What it computes.
        program: Its kernel calls.
        executable: Compiled for the runner's target.
        runner: Where it runs.
    """

    network: IntegerNetwork
    program: Program
    executable: Any
    runner: Runner

    def loaded(self) -> Callable[[Mapping[str, NDArray[np.uint8]]], Int32]:
        """A function from stored inputs, as :func:`hwsearch.lowering.input_codes` gives them, to logits.

        It takes any number of images, one after the other, and returns int32 ``[N, classes]``.
        """
        main = self.runner.load(self.executable)["main"]
        constants, workspace, logits = map(self._tensor, [*self._fixed(), self._logits()])
        stored_classes = self.network.tensors[self.network.logits].image.stored_channels
        classes = self.network.tensors[self.network.logits].image.channels

        def run(inputs: Mapping[str, NDArray[np.uint8]]) -> Int32:
            images = len(next(iter(inputs.values())))
            found = np.empty((images, classes), np.int32)
            for i in range(images):
                codes = [self._tensor(inputs[name][i].reshape(-1)) for name in self.network.inputs]
                main(*codes, constants, workspace, logits)
                found[i] = logits.numpy().view(np.int32).reshape(stored_classes)[:classes]
            return found

        return run

    def measured(self, procedure: Procedure) -> Measurement:
        """Latency of one call, warm: what a loop over images sees."""
        return measure([self.subject()], self.runner, procedure)[0]

    def subject(self) -> Subject:
        """What is timed."""
        inputs = [np.zeros(self.program.sizes[name], np.uint8) for name in self.network.inputs]
        return Subject(self.runner.load(self.executable), [*inputs, *self._fixed(), self._logits()], ())

    def _tensor(self, array: NDArray[np.uint8]) -> Any:
        return tvm.runtime.tensor(array, device=self.runner.device)

    def _fixed(self) -> list[NDArray[np.uint8]]:
        return [self.program.constants, np.zeros(max(self.program.workspace_bytes, 1), np.uint8)]

    def _logits(self) -> NDArray[np.uint8]:
        return np.zeros(self.program.sizes[self.network.logits], np.uint8)


def compile_network(
    network: IntegerNetwork, requantization: Requantization, choose: Choose, runner: Runner
) -> CompiledNetwork:
    """Compile an integer network of batch 1 for a machine.

    Args:
        network: The integer network.
        requantization: ``"float32"`` or ``"fixed_point"``.
        choose: Picks the kernel of each layer, e.g. ``Tuner.choose``.
        runner: The machine.
    """
    calls = program(network, requantization, choose, isa_of(runner.target))
    return CompiledNetwork(network, calls, driver.compile(calls.build(), runner.target.attributes), runner)
