"""The nodes of a graph as steps whose results configurations share."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Interpreter

from hwsearch.evaluate.reuse import Memory, StepKeys, run_steps


class GraphSteps:
    """Runs a graph from where its configuration parts from earlier ones.

    Args:
        graph: Of one input and one output, a tensor.
        kept: Names of the nodes whose results are worth keeping.
    """

    def __init__(self, graph: GraphModule, kept: Collection[str]) -> None:
        self._interpreter = Interpreter(graph)
        *nodes, output = graph.graph.nodes
        (result,) = output.all_input_nodes
        self._nodes = nodes[: nodes.index(result) + 1]
        self._kept = [node.name in kept for node in self._nodes]
        positions = {node: i for i, node in enumerate(self._nodes)}
        self._sources = [tuple(positions[source] for source in node.all_input_nodes) for node in self._nodes]
        self._keys = StepKeys(self._sources)

    def keys(self, contents: Mapping[str, Hashable]) -> list[int]:
        """Keys of the nodes.

        Args:
            contents: What a configuration gives to nodes, by name; to the others it gives nothing.
        """
        return self._keys([contents.get(node.name) for node in self._nodes])

    def run(self, keys: Sequence[Hashable], inputs: Callable[[], Tensor], memory: Memory[Any]) -> Tensor:
        """The graph's output.

        Args:
            keys: Of the nodes.
            inputs: Makes what the graph takes.
            memory: Of these inputs.
        """

        def execute(step: int, sources: list[Any]) -> Any:
            node = self._nodes[step]
            if node.op == "placeholder":
                return inputs()
            self._interpreter.env = {
                self._nodes[i]: value for i, value in zip(self._sources[step], sources, strict=True)
            }
            return self._interpreter.run_node(node)

        def size_bytes(step: int, value: Any) -> int:
            return value.nbytes if self._kept[step] else 0

        logits: Tensor = run_steps(self._sources, keys, execute, size_bytes, memory)
        return logits
