"""The operators of a saved file in order, with the tensors that lead from one to the next."""

from pathlib import Path
from typing import Any

from edgese.inspection.pieces import Node


def tflite_nodes(artifact: Path) -> tuple[Node, ...]:
    """The operators of a .tflite file, which a target has read before, so that it is whole."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    bare = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(artifact), experimental_op_resolver_type=bare)
    # The one place where the runtime tells the graph.
    nodes = interpreter._get_ops_details()  # noqa: SLF001  # no public one
    return tuple(
        Node(
            operator=node["op_name"],
            inputs=tuple(int(tensor) for tensor in node["inputs"] if int(tensor) >= 0),
            outputs=tuple(int(tensor) for tensor in node["outputs"]),
        )
        for node in nodes
    )


def onnx_nodes(graph: Any) -> tuple[Node, ...]:  # noqa: ANN401  # onnx has no types
    """The operators of an ONNX graph; "" among the inputs is one that is left out."""
    return tuple(
        Node(
            operator=node.op_type,
            inputs=tuple(name for name in node.input if name),
            outputs=tuple(node.output),
        )
        for node in graph.node
    )
