"""From any exportable ``nn.Module`` to a :class:`Network`."""

import inspect
import re
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from cost_models import LayerSpec
from hwsearch.graph.fold import fold_batch_norms
from hwsearch.graph.network import Network, find_reads
from hwsearch.graph.operators import EXAMPLE_BATCH
from hwsearch.graph.ops import ASSERTIONS, COPIES, LAYERS, VIEWS, is_understood

WEIGHT_NAME = re.compile(r"(^|[._])weight(_orig|_mask|_[gv])?$|[.]parametrizations[.]weight[.]original\d?$")
"""What follows a layer's name in that of its weights: also after pruning, weight norm and spectral norm."""


class CaptureError(ValueError):
    """The network holds something that hwsearch can't capture."""


def capture(module: nn.Module, example: Tensor) -> Network:
    """Capture a trained network once, in evaluation mode, with a dynamic batch and batch norm folded.

    Args:
        module: Any module that ``torch.export`` takes, mapping ``[N, ...]`` to logits ``[N, classes]``.
        example: An input of the right shape, ``[N, ...]`` with any N; its values don't matter.

    Returns:
        The network with its quantizable layers, named by their module's qualified name. A module that is called
        several times gives several layers: ``head``, ``head__2``...

    Raises:
        CaptureError: If the module takes several inputs or does not return one tensor, export fails, an operator is not
            understood, or there is no quantizable layer; it says which operator and where.
    """
    _check_inputs(module, example)
    example = example[:1].repeat(EXAMPLE_BATCH, *[1] * (example.dim() - 1)).float().cpu()
    graph = _export(module, example)
    _check_operators(graph)
    constants, shapes = _trace_values(graph, example)
    names = _name_layers(graph, constants)
    if not names:
        raise CaptureError(f"{type(module).__name__} has no conv2d or linear layer, so there is nothing to quantize.")
    _freeze_constants(graph, constants)
    fold_batch_norms(graph, shapes)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    _drop_unused_attributes(graph)
    graph.recompile()
    layers = tuple(
        _layer_spec(graph, node, names[node.name], shapes) for node in graph.graph.nodes if node.name in names
    )
    nodes = {name: node for node, name in names.items()}
    return Network(graph, layers, nodes, find_reads(graph, nodes))


def _check_inputs(module: nn.Module, example: Tensor) -> None:
    signature = inspect.signature(module.forward)
    try:
        signature.bind(example)
    except TypeError as error:
        raise CaptureError(
            f"hwsearch captures networks with one input; {type(module).__name__}.forward{signature} takes others: "
            f"{error}."
        ) from error


def _export(module: nn.Module, example: Tensor) -> GraphModule:
    """Functional ATen graph of the module in evaluation mode; the module itself is left as it was."""
    was_training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
            # An empty table functionalizes (no in-place operators) and keeps conv2d and linear whole.
            graph: GraphModule = program.run_decompositions({}).module()
    except Exception as error:  # torch.export raises many unrelated types for what it can't trace
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if "You marked batch as dynamic" in str(error):
            reason = (
                "its code works for one batch size only; take that from x.shape[0], not len(x), or write -1 in a view."
            )
        raise CaptureError(
            f"torch.export can't capture {type(module).__name__}: {reason}{_user_line(error)}"
        ) from error
    finally:
        for part, training in was_training.items():
            part.training = training
    for node in list(graph.graph.nodes):
        if node.op == "call_module":  # the shape guards that export adds
            graph.graph.erase_node(node)
    _forget_strides(graph)
    return graph


def _forget_strides(graph: GraphModule) -> None:
    """Let the graph run in any memory layout: a view is a reshape, and a copy (of a dropout, say) is its source."""
    for node in list(graph.graph.nodes):
        if node.target in VIEWS:
            node.target = torch.ops.aten.reshape.default
        elif node.target in ASSERTIONS:
            graph.graph.erase_node(node)
        elif node.target in COPIES:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)


def _user_line(error: Exception) -> str:
    """The last line of the network's own code that the export ran, as ``' At file:line: code'``."""
    own = (str(Path(torch.__file__).parent), __file__, "<")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(own)]
    return f" At {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""


def _check_operators(graph: GraphModule) -> None:
    varying: set[Node] = {node for node in graph.graph.nodes if node.op == "placeholder"}
    for node in graph.graph.nodes:
        if not varying.intersection(node.all_input_nodes):
            continue
        varying.add(node)
        if node.op == "call_function" and not is_understood(node.target):
            raise CaptureError(
                f"Operator '{node.target}' in {_where(node)} is not understood: hwsearch quantizes conv2d and linear "
                "layers and knows additions, concatenation, pooling, normalization, attention and the usual "
                "non-linearities. Rewrite that part of the network with those."
            )


def _where(node: Node) -> str:
    """Module and line of the network's own code of a node, for error messages."""
    module = _module_of(node) or "the top level"
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines() if line.strip()]
    torch_file = f'File "{Path(torch.__file__).parent}'
    own = [line for line in lines if line.startswith("File") and not line.startswith(torch_file)]
    place = own[-1] if own else ""
    return f"'{module}'" + (f" ({place})" if place else "")


def _module_of(node: Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def _trace_values(graph: GraphModule, example: Tensor) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """Run once: values of the nodes that don't depend on the input, and the shape of every tensor."""
    constants: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, ...]] = {}

    varying: set[Node] = set()

    class Recorder(Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n.op == "placeholder" or varying.intersection(n.all_input_nodes):
                varying.add(n)
            elif isinstance(value, Tensor):
                constants[n.name] = value.detach().clone()
            if isinstance(value, Tensor):
                shapes[n.name] = tuple(value.shape)
                n.meta["dtype"], n.meta["shape"] = value.dtype, tuple(value.shape)
            return value

    with torch.no_grad():
        logits = Recorder(graph).run(example)
    if not isinstance(logits, Tensor):
        raise CaptureError(f"The network returns a {type(logits).__name__}; return the logits alone, [N, classes].")
    return constants, shapes


def _name_layers(graph: GraphModule, constants: Mapping[str, Tensor]) -> dict[str, str]:
    """Layer name by node name: the qualified name of the module that is called.

    A weight that a module's own code hands to a functional operator, such as a packed attention projection, gives the
    name instead.
    """
    seen: Counter[str] = Counter()
    names = {}
    for node in graph.graph.nodes:
        if node.target not in LAYERS or node.name in constants:
            continue
        weight = node.args[1]
        if weight.name not in constants:
            raise CaptureError(
                f"The weights of '{node.target}' in {_where(node)} are computed from the network's input."
            )
        while weight.op != "get_attr":  # e.g. one third of a packed attention projection
            weight = weight.all_input_nodes[0]
        module, owner = _module_of(node), str(weight.target)
        borrowed = module and not owner.startswith(f"{module}.")  # a weight tied to that of another module
        name = module if borrowed else WEIGHT_NAME.sub("", owner) or "layer"
        seen[name] += 1
        names[node.name] = name if seen[name] == 1 else f"{name}__{seen[name]}"
    return names


def _freeze_constants(graph: GraphModule, constants: Mapping[str, Tensor]) -> None:
    """Give every use of a constant a buffer of its own, so that folding one layer leaves the others alone."""
    for node in list(graph.graph.nodes):
        if node.op not in ("call_function", "output") or node.name in constants:
            continue
        for source in node.all_input_nodes:
            if source.name not in constants:
                continue
            name = f"{node.name}__{source.name}"
            graph.register_buffer(name, constants[source.name].clone())
            with graph.graph.inserting_before(node):
                node.replace_input_with(source, graph.graph.get_attr(name))


def _drop_unused_attributes(graph: GraphModule) -> None:
    used = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for owner_name, owner in graph.named_modules():
        prefix = f"{owner_name}." if owner_name else ""
        for table in (owner._parameters, owner._buffers):
            for name in [name for name in table if f"{prefix}{name}" not in used]:
                del table[name]


def _layer_spec(graph: GraphModule, node: Node, name: str, shapes: Mapping[str, Sequence[int]]) -> LayerSpec:
    source, weight = node.args[0], node.args[1]
    assert isinstance(source, Node)
    assert isinstance(weight, Node)
    bias = len(node.args) > 2 and node.args[2] is not None
    weight_shape, in_shape, out_shape = (
        graph.get_buffer(str(weight.target)).shape,
        shapes[source.name],
        shapes[node.name],
    )
    if node.target == torch.ops.aten.linear.default:
        size = (prod(out_shape[:-1]) // EXAMPLE_BATCH, 1)
        return LayerSpec(name, "linear", weight_shape[1], weight_shape[0], in_size=size, out_size=size, bias=bias)
    stride, padding, dilation, groups = _convolution_arguments(node)
    kernel = (weight_shape[2], weight_shape[3])
    if isinstance(padding, str):  # 'valid' or 'same'
        padding = [d * (k - 1) // 2 if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
    return LayerSpec(
        name,
        "conv2d",
        in_channels=in_shape[1],
        out_channels=weight_shape[0],
        kernel=kernel,
        stride=_pair(stride),
        padding=_pair(padding),
        dilation=_pair(dilation),
        groups=groups,
        in_size=_pair(in_shape[2:]),
        out_size=_pair(out_shape[2:]),
        bias=bias,
    )


def _convolution_arguments(node: Node) -> tuple[Any, Any, Any, int]:
    """Stride, padding, dilation and groups with ATen's defaults filled in."""
    defaults: list[Any] = [[1, 1], [0, 0], [1, 1], 1]
    given = list(node.args[3:])
    names = ("stride", "padding", "dilation", "groups")
    values = (
        given + [node.kwargs.get(name, default) for name, default in zip(names, defaults, strict=True)][len(given) :]
    )
    return values[0], values[1], values[2], values[3]


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return int(values[0]), int(values[-1])
