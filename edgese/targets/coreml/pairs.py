"""Leaves a quantized program the pairs of quantize and dequantize that Core ML's backend fuses.

The Neural Engine of an A17 Pro or M4 multiplies int8 by int8, and gains where a network runs on it
as a whole [1]. What is fused are patterns between two pairs: a convolution or linear layer, a sum
of two tensors, or a pool, each with or without an activation; the longer pattern goes first [2, 3].
A sigmoid is such an activation; a ReLU is the saturation of the pair behind it. SiLU is an operator
of its own, which coremltools makes of a product with a sigmoid where no pair stands between the two
[4]. All else computes in fp16, and a pair there costs its own time and gains none.

Sources: [1] https://apple.github.io/coremltools/docs-guides/source/opt-quantization-perf.html; the
passes of coremltools 9 [2] insert_prefix_quantize_dequantize_pair in
optimize/coreml/_quantization_passes.py, [3] insert_suffix_quantize_dequantize_pair in
converters/mil/mil/passes/defs/optimize_activation_quantization.py, and [4] fuse_activation_silu in
converters/mil/backend/mil/passes.
"""

from typing import TYPE_CHECKING, Final

from edgese.program.forms import pair_grid
from edgese.program.nodes import DEQUANTIZE, QUANTIZE, WEIGHTED

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

_SIGMOID: Final = "aten.sigmoid.default"
_PRODUCT: Final = "aten.mul.Tensor"
_SUM: Final = "aten.add.Tensor"
_PAD: Final = "aten.constant_pad_nd.default"
_CONVOLUTION: Final = "aten.conv2d.default"
_POOLS: Final = ("aten.max_pool2d.default", "aten.avg_pool2d.default")
# What needs a pair before it; padding, because it becomes a part of the convolution behind it.
_NEEDS: Final = (*WEIGHTED, _SUM, *_POOLS, _PAD)
_LOWEST: Final = -128


def fusable(program: "ExportedProgram") -> "ExportedProgram":
    """The same program without the pairs that are in the way; the given one stays as it is.

    Dropped are:

    - the pair of a constant, whose values lie on its grid already;
    - a pair between padding and convolutions, which all have one grid;
    - a pair between a convolution, a linear layer or a sum and the sigmoid that alone reads it;
    - the pair of a sigmoid, but for one that ends such a pattern or that a pattern begins with;
    - the pair of a product with a sigmoid that no pattern begins with.

    What may stand for a ReLU stays: a pair whose lowest code is 0, but behind a sigmoid.
    """
    from torch import fx
    from torch.export import ExportedProgram

    graph = fx.Graph()
    graph.output(graph.graph_copy(program.graph, {}))
    given = program.graph_signature.user_inputs

    def holds_a_constant(pair: fx.Node) -> bool:
        return _source(pair).op == "placeholder" and _source(pair).name not in given

    for is_in_the_way in (
        holds_a_constant,
        _pads,
        _enters_a_sigmoid,
        _leaves_a_sigmoid,
        _leaves_a_product,
    ):
        for pair in [node for node in graph.nodes if _is_pair(node) and is_in_the_way(node)]:
            codes, source = pair.all_input_nodes[0], _source(pair)
            pair.replace_all_uses_with(source)
            graph.erase_node(pair)
            if not codes.users:
                graph.erase_node(codes)
    return ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=program.graph_signature,
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=program.verifiers,
    )


def _pads(pair: "fx.Node") -> bool:
    source = _source(pair)
    return (
        str(source.target) == _PAD
        and pair_grid(source.all_input_nodes[0]) == pair_grid(pair)
        and _readers(pair) == {_CONVOLUTION}
    )


def _enters_a_sigmoid(pair: "fx.Node") -> bool:
    return (
        str(_source(pair).target) in (*WEIGHTED, _SUM)
        and _readers(pair) == {_SIGMOID}
        and len(pair.users) == 1
        and not _may_be_a_relu(pair)
    )


def _leaves_a_sigmoid(pair: "fx.Node") -> bool:
    source = _source(pair)
    return (
        str(source.target) == _SIGMOID
        and _is_pair(source.all_input_nodes[0])
        and _readers(pair).isdisjoint((*_NEEDS, "output"))
    )


def _leaves_a_product(pair: "fx.Node") -> bool:
    source = _source(pair)
    if str(source.target) != _PRODUCT or _may_be_a_relu(pair):
        return False
    factors = [_source(node) if _is_pair(node) else node for node in source.all_input_nodes]
    return any(str(factor.target) == _SIGMOID for factor in factors) and _readers(pair).isdisjoint(
        (*_NEEDS, "output")
    )


def _is_pair(node: "fx.Node") -> bool:
    """Whether a node dequantizes what one before it has quantized."""
    return str(node.target) == DEQUANTIZE and str(node.all_input_nodes[0].target) == QUANTIZE


def _source(pair: "fx.Node") -> "fx.Node":
    """What goes into a pair."""
    return pair.all_input_nodes[0].all_input_nodes[0]


def _readers(pair: "fx.Node") -> set[str]:
    return {str(reader.target) for reader in pair.users}


def _may_be_a_relu(pair: "fx.Node") -> bool:
    grid = pair_grid(pair)
    return grid is None or grid.zero_point == _LOWEST
