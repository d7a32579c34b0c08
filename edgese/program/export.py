"""Exports a network once for all targets, with its logits for the reference pictures."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese import store
from edgese.errors import ConfigError, ConversionError, stage
from edgese.parallel import one_thread, outputs
from edgese.program.purity import check_answers, check_operators
from edgese.program.storage import PROGRAM, REFERENCE, write_program
from edgese.records.artifact import WeightsInfo
from edgese.records.conversion import ProgramRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.export import ExportedProgram

# Images that run at once where it does not matter: enough to keep the cores busy.
_TOGETHER: Final = 8
# An attribute that is true of a network whose forward keeps nothing in it.
STATELESS: Final = "_edgese_stateless"


def export_program(
    network: "nn.Module",
    name: str,
    *,
    batch: int,
    pictures: "NDArray[np.float32]",
    weights: WeightsInfo,
    folder: Path,
    on_stage: Callable[[str], None],
) -> ProgramRecord:
    """Writes the exported program and the reference into ``folder``.

    The program has BatchNorm folded and a fixed batch. The reference is what the network itself
    computes, not the folded one, so that folding is verified with everything that follows.
    The program comes first: what it refuses, it refuses by name.

    Args:
        network: in eval mode.
        name: of the model.
        pictures: (count, 3, height, width).
        on_stage: told what is done now.

    Raises:
        ConversionError: the module cannot be exported, has an operator that no program's file
            holds, or its answer for an image is no function of that image alone.
        OutputError: the folder cannot be written, or the disk is full.
    """
    import numpy as np
    import torch

    with store.writing(folder):
        on_stage("export the program")
        program = exported(network, name, (batch, *pictures.shape[1:]))
        on_stage("compute the reference")
        check_answers(lambda images: logits_of(network, images, len(images)), pictures, batch, name)
        np.savez(folder / REFERENCE, pictures=pictures, logits=logits_of(network, pictures, batch))
        write_program(program, folder / PROGRAM)
    return ProgramRecord(
        model=name,
        program_sha256=store.sha256_of(folder / PROGRAM),
        reference_sha256=store.sha256_of(folder / REFERENCE),
        weights=weights,
        torch=str(torch.__version__),
    )


@one_thread()
def exported(network: "nn.Module", name: str, shape: tuple[int, ...]) -> "ExportedProgram":
    """A network as a program with BatchNorm folded.

    Args:
        name: of the model.
        shape: (N, 3, H, W) of its input.

    Raises:
        ConversionError: the module cannot be exported, draws random numbers, computes with the
            statistics of a batch, or with what it kept of images before.
    """
    import torch

    from edgese.program.folding import folded

    with (
        stage(
            f"export {name} with torch.export",
            ConversionError,
            hint="Its forward must be free of branches on values; "
            "torch.export.export(module, (example,)) shows where it is not.",
        ),
        _without_the_graph(),
    ):
        program = torch.export.export(folded(network), (torch.zeros(shape),))
    check_operators(program, name)
    return program


@contextmanager
def _without_the_graph() -> Iterator[None]:
    """Keeps torch from printing the whole graph of an export that fails; its error has the reason.

    What other threads print, a clock for example, stays, so stderr is not turned away.
    """
    from torch.export import _trace

    shapes = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before = shapes.level
    shapes.setLevel(logging.ERROR)
    vars(_trace)["print"] = lambda *_, **__: None
    try:
        yield
    finally:
        vars(_trace).pop("print", None)
        shapes.setLevel(before)


def reference_of(
    network: "nn.Module", name: str, pictures: "NDArray[np.float32]", batch: int
) -> "NDArray[np.float32]":
    """Return what a network itself computes: (count, classes), for images of any count.

    Args:
        network: as it was given, in eval mode.
        name: of the model.
        batch: that the artifact will have; others are taken where that is faster and the same.

    Raises:
        ConversionError: its answer for an image is no function of that image alone.
        ConfigError: its output is not one row of numbers for each picture.
    """
    any_batch = check_answers(
        lambda images: logits_of(network, images, len(images)), pictures, batch, name
    )
    return logits_of(network, pictures, max(batch, _TOGETHER) if any_batch else batch)


def logits_of(
    network: "nn.Module", pictures: "NDArray[np.float32]", batch: int
) -> "NDArray[np.float32]":
    """What PyTorch computes, a batch at a time as the exported program has it.

    Args:
        pictures: (count, 3, height, width), for any count.

    Returns:
        (count, classes).

    Raises:
        ConfigError: the network does not take such pictures, or its output is not one row of
            numbers for each.
    """

    def run(part: "Tensor") -> "Tensor":
        with stage(
            f"run {type(network).__name__} on {batch} images of {part.shape[2]} x "
            f"{part.shape[3]} px",
            ConfigError,
            hint=f"It must take one float32 tensor of shape {tuple(part.shape)}, and give one of "
            f"shape ({batch}, classes).",
        ):
            output: Tensor = network(part)
        if fault := _fault(output, batch):
            raise ConfigError(
                f"The module's output for {batch} pictures is {fault}.",
                hint=f"It must be one tensor of floats of shape ({batch}, classes).",
            )
        return output

    # A user's module may keep what it computes in itself: one image at a time.
    return outputs(run, pictures, batch, lanes=None if getattr(network, STATELESS, False) else 1)


def _fault(output: object, batch: int) -> str:
    """What an output is instead of a row of floats for each image; "" where it is that."""
    import torch

    match output:
        case torch.Tensor():
            shape = tuple(output.shape)
            if len(shape) != 2 or shape[0] != batch or output.layout != torch.strided:
                return f"of shape {shape}"
            return "" if output.is_floating_point() else f"of {output.dtype}"
        case dict():
            return f"a dict with the keys {', '.join(map(repr, output))}"
        case tuple() | list():
            return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"
