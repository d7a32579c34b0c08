"""Writes a quantized program as a TFLite model, operator by operator.

litert-torch takes such a program too, but traces it four times on the way, which takes fifty times
as long as writing EfficientNet-B0 down; it puts transpositions around padding; and what it makes of
a max pool's padding splits XNNPACK's part in two. A quantized program has few kinds of operators,
and tells every shape and grid.
"""

from typing import TYPE_CHECKING

from edgese.errors import ConfigError
from edgese.program.forms import INPUT, held_tensors, input_grid, output_grid, pair_grid
from edgese.program.nodes import DEQUANTIZE, QUANTIZE, Constants, integer_grid
from edgese.targets.tflite.lowering import Lowering, refused
from edgese.targets.tflite.operators import OPERATORS

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

    from edgese.targets.tflite.graph import Value


def model(program: "ExportedProgram", output: str, *, io_codes: bool) -> bytes:
    """The model of a program whose weights, or weights and activations, are quantized.

    Args:
        program: its weights folded or not.
        output: the output's name.
        io_codes: the caller gives and gets int8 codes; else floats, converted at either end.

    Raises:
        ConfigError: codes are asked for where the program reads or gives floats.
        ConversionError: an operator that TFLite does not have in this form.
    """
    if io_codes and None in (input_grid(program), output_grid(program)):
        raise ConfigError(
            "The artifact was to take and give int8 codes, but the program reads or gives floats.",
            hint="Leave out --io int8, or quantize the first and the last layer too.",
        )
    lowering = Lowering(Constants(held_tensors(program)))
    graph, values = lowering.graph, lowering.values
    (given,) = program.graph_signature.user_inputs
    inputs: dict[str, Value] = {}
    outputs: dict[str, Value] = {}
    for node in program.graph.nodes:
        if node.name == given:
            grid = input_grid(program) if io_codes else None
            values[node] = graph.value(node.meta["val"].shape, grid, channels_last=True)
            inputs[INPUT] = values[node]
        elif node.op == "output":
            ((result,),) = node.args
            value = graph.stored_as(values[result], channels_last=False)
            outputs[output] = value if io_codes else graph.on_grid(value, None)
        elif any(source in values for source in node.all_input_nodes):
            values[node] = _written(lowering, node)
    return graph.content(inputs, outputs)


def _written(lowering: Lowering, node: "fx.Node") -> "Value":
    operator = str(node.target)
    if operator == QUANTIZE:
        return lowering.graph.on_grid(lowering.values[node.all_input_nodes[0]], pair_grid(node))
    if operator == DEQUANTIZE:
        return lowering.values[node.all_input_nodes[0]]
    if operator not in OPERATORS:
        raise refused(node, "it is none that edgese can write")
    return OPERATORS[operator](lowering, node, integer_grid(node, lowering.values))
