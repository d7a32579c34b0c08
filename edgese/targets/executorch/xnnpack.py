"""Lowers a quantized program to one graph of XNNPACK's, operator by operator.

ExecuTorch's own route takes half a minute for EfficientNet-B0, in some sixty passes that run the
whole graph again, and leaves what its partitioner does not know in int8 (sigmoid, padding, average
pools) in floats between two conversions. A quantized program has few kinds of operators, and tells
every shape and grid: it can be written down as it is.

An operator is an integer one where all that it reads comes off grids, and what it gives goes onto
one. Any other computes in floats.
"""

from typing import TYPE_CHECKING

from edgese.errors import ConfigError
from edgese.program.forms import held_tensors, input_grid, output_grid, pair_grid
from edgese.program.nodes import DEQUANTIZE, QUANTIZE, Constants, integer_grid, shape_of
from edgese.targets.executorch.graph import Graph, Value
from edgese.targets.executorch.operators import OPERATORS, Lowering, refused

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram


def lowered(program: "ExportedProgram", *, io_codes: bool) -> Graph:
    """The graph of a program, its weights folded or not.

    Args:
        io_codes: the caller gives and gets int8 codes; else floats, converted at either end.

    Raises:
        ConfigError: codes are asked for where the program reads or gives floats.
        ConversionError: an operator that XNNPACK does not have in this form.
    """
    if io_codes and None in (input_grid(program), output_grid(program)):
        raise ConfigError(
            "The artifact was to take and give int8 codes, but the program reads or gives floats.",
            hint="Leave out --io int8, or quantize the first and the last layer too.",
        )
    lowering = Lowering(Constants(held_tensors(program)))
    graph, values = lowering.graph, lowering.values
    (given,) = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.name == given:
            shape = shape_of(node)
            value = graph.value(shape, input_grid(program) if io_codes else None)
            graph.expose(value, is_input=True)
            # At once: XNNPACK's transposition of floats takes half the time of its one of codes.
            values[node] = graph.stored_as(value, channels_last=len(shape) == 4)
        elif node.op == "output":
            ((result,),) = node.args
            value = graph.stored_as(values[result], channels_last=False)
            graph.expose(value if io_codes else graph.on_grid(value, None), is_input=False)
        elif any(source in values for source in node.all_input_nodes):
            values[node] = _written(lowering, node)
    return graph


def _written(lowering: Lowering, node: "fx.Node") -> Value:
    operator = str(node.target)
    if operator == QUANTIZE:
        return lowering.graph.on_grid(lowering.values[node.all_input_nodes[0]], pair_grid(node))
    if operator == DEQUANTIZE:
        return lowering.values[node.all_input_nodes[0]]
    if operator not in OPERATORS:
        raise refused(node, "XNNPACK's delegate does not have it")
    return OPERATORS[operator](lowering, node, integer_grid(node, lowering.values))
