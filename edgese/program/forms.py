"""What the targets need of exported programs: shapes, grids, other forms, cheap copies."""

import copyreg
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from edgese.records.artifact import Grid

if TYPE_CHECKING:
    from torch import Tensor, fx, nn
    from torch.export import ExportedProgram

    from edgese.records.artifact import ModelCard

INPUT: Final = "input"


def output_name(card: "ModelCard") -> str:
    """What the output is called in every format that has names."""
    return "logits" if card.classes else "features"


def input_shape(program: "ExportedProgram") -> tuple[int, ...]:
    """(N, 3, H, W) of the program's only input."""
    (name,) = program.graph_signature.user_inputs
    return _shape(program, str(name))


def output_shape(program: "ExportedProgram") -> tuple[int, ...]:
    """(N, classes) of the program's only output."""
    (name,) = program.graph_signature.user_outputs
    return _shape(program, str(name))


def _shape(program: "ExportedProgram", name: str) -> tuple[int, ...]:
    return tuple(int(size) for size in _node(program, name).meta["val"].shape)


def _node(program: "ExportedProgram", name: str) -> "fx.Node":
    found: fx.Node = next(node for node in program.graph.nodes if node.name == name)
    return found


def input_grid(program: "ExportedProgram") -> Grid | None:
    """The grid that the program's input is put on; None where anything reads it as it is."""
    (name,) = program.graph_signature.user_inputs
    grids = {pair_grid(reader) for reader in _node(program, str(name)).users}
    return grids.pop() if len(grids) == 1 else None


def output_grid(program: "ExportedProgram") -> Grid | None:
    """The grid that the program's output is on; None where it is computed in floats."""
    (name,) = program.graph_signature.user_outputs
    return pair_grid(_node(program, str(name)))


def pair_grid(node: "fx.Node") -> Grid | None:
    """The grid of a node that quantizes or dequantizes a whole tensor; None for any other node."""
    if not str(node.target).endswith("quantize_per_tensor.default"):
        return None
    scale, zero_point = node.args[1:3]
    return Grid(scale=float(scale), zero_point=int(zero_point))  # type: ignore[arg-type]  # numbers


def held_tensors(program: "ExportedProgram") -> "dict[str, Tensor]":
    """What the program holds, its weights above all, by the names of their placeholders."""
    held = {**program.state_dict, **program.constants}
    return {
        spec.arg.name: held[spec.target]
        for spec in program.graph_signature.input_specs
        if spec.target in held
    }


def folded_weights(program: "ExportedProgram") -> "ExportedProgram":
    """The same program with weights of int8: each is quantized once, and not in every run.

    It computes the same to the bit. The weights keep their names, but for one that something else
    reads too. The given program stays as it is; what does not change is shared with it.
    """
    import torch
    from torch import fx
    from torch.export import ExportedProgram
    from torch.export.graph_signature import ExportGraphSignature, InputKind

    graph = fx.Graph()
    graph.output(graph.graph_copy(program.graph, {}))
    held, state, constants = held_tensors(program), {**program.state_dict}, {**program.constants}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    for node in [node for node in graph.nodes if _quantizes_held(node, held)]:
        weight, rest = node.args[0], node.args[3:]
        codes = node.target(*(held[source.name].detach() for source in node.args[:3]), *rest)
        with graph.inserting_before(weight):
            folded = graph.placeholder(f"{weight.name}_codes")
        folded.meta = {"val": node.meta["val"]}
        node.replace_all_uses_with(folded)
        graph.erase_node(node)
        spec = specs[weight.name]
        name = f"{spec.target}_{folded.name}"
        if not weight.users:
            graph.erase_node(weight)
            name = spec.target
        kind = state if spec.target in state else constants
        kind[name] = codes
        if spec.kind is InputKind.PARAMETER:
            kind[name] = torch.nn.Parameter(codes, requires_grad=False)
        specs[folded.name] = replace(spec, arg=replace(spec.arg, name=folded.name), target=name)
    inputs = [node.name for node in graph.nodes if node.op == "placeholder"]
    return ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=ExportGraphSignature(
            [specs[name] for name in inputs], [*program.graph_signature.output_specs]
        ),
        state_dict=state,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=constants,
        verifiers=program.verifiers,
    )


def _quantizes_held(node: "fx.Node", held: "Mapping[str, Tensor]") -> bool:
    return str(node.target) == "quantized_decomposed.quantize_per_channel.default" and all(
        source.name in held for source in node.all_input_nodes
    )


def halved(program: "ExportedProgram", *, float_io: bool) -> "ExportedProgram":
    """The same program with weights and arithmetic in fp16; the original keeps its weights.

    Args:
        float_io: takes and gives fp32, with a cast at either end.
    """
    import copy

    import torch
    from torch import nn

    class Halved(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: "Tensor") -> "Tensor":
            y: Tensor = self.network(x.half())
            return y.float()

    # The module of a program shares its parameters, and `half` works in place.
    network = copy.deepcopy(program.module(check_guards=False)).half()
    example = torch.zeros(input_shape(program))
    if float_io:
        return torch.export.export(evaluating(Halved(network)), (example,))
    return torch.export.export(network, (example.half(),))


def evaluating(module: "nn.Module") -> "nn.Module":
    """Marks a module around an exported program as being in eval mode.

    ``eval()`` would do it, but the module of a program refuses that call.
    """
    for part in module.modules():
        part.training = False
    return module


@contextmanager
def shared_provenance() -> Iterator[None]:
    """Lets copies of a graph share the record of where each node came from.

    Each pass over a graph copies that record, which grows with each pass: an eighth of the time
    that lowering EfficientNet-B0 to ExecuTorch takes. Nobody writes to it, so it can be shared.
    `copyreg` is where Python lets a type's copying be decided; a string means "as it is".
    """
    from torch.fx.traceback import NodeSource

    before = copyreg.dispatch_table.get(NodeSource)
    copyreg.pickle(NodeSource, lambda _: "shared")
    try:
        yield
    finally:
        if before is None:
            copyreg.dispatch_table.pop(NodeSource, None)
        else:
            copyreg.pickle(NodeSource, before)
