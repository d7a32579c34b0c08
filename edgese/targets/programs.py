"""What the targets need of exported programs: shapes, a half-precision form, cheap copies."""

import copyreg
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor, nn
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
    node = next(node for node in program.graph.nodes if node.name == name)
    return tuple(int(size) for size in node.meta["val"].shape)


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
