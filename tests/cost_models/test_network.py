"""Shapes of operators, and chains of layers."""

import pytest

from cost_models import INPUT, LayerSpec, NetworkSpec, OperatorSpec

LAYERS = [LayerSpec("a", "conv2d", 3, 8), LayerSpec("b", "linear", 8, 4)]


def test_each_layer_of_a_chain_reads_the_one_before_it() -> None:
    network = NetworkSpec.chain(LAYERS)
    assert network.inputs == {"a": (INPUT,), "b": ("a",)}
    assert list(network.nodes.values()) == LAYERS


def test_nodes_are_in_the_order_they_run() -> None:
    total = OperatorSpec("sum", "add", 8, (5, 5), (5, 5), (200, 200))
    network = NetworkSpec(tuple(LAYERS), (total,), {"a": (INPUT,), "sum": ("a", INPUT), "b": ("sum",)})
    assert list(network.nodes) == ["a", "sum", "b"]


@pytest.mark.parametrize("op", ["add", "max_pool2d", "lookup"])
def test_only_a_matmul_has_macs(op) -> None:
    assert OperatorSpec("x", op, 8, (5, 5), (5, 5), (200,)).macs == 0


def test_counts_of_a_matmul_are_those_of_its_matrices() -> None:
    # three heads: [7, 8] x [8, 5] -> [7, 5]
    matmul = OperatorSpec("scores", "matmul", 5, (3, 7), (3, 7), (3 * 7 * 8, 3 * 8 * 5))
    assert matmul.macs == 3 * 7 * 8 * 5
    assert (matmul.in_count, matmul.out_count) == (3 * (7 * 8 + 8 * 5), 3 * 7 * 5)
