"""Exports a network once for all targets, with its logits for the reference pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgese import store
from edgese.conversion.cache import PROGRAM, REFERENCE
from edgese.errors import ConfigError, ConversionError, stage
from edgese.parallel import one_thread, outputs
from edgese.program.storage import write_program
from edgese.records.artifact import WeightsInfo
from edgese.records.job import ProgramRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.export import ExportedProgram


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

    Args:
        network: in eval mode.
        name: of the model.
        pictures: (count, 3, height, width).
        on_stage: told what is done now.

    Raises:
        ConversionError: the module cannot be exported, or has an operator that no program's file
            holds.
        OutputError: the folder cannot be written, or the disk is full.
    """
    import numpy as np
    import torch

    with store.writing(folder):
        on_stage("compute the reference")
        np.savez(folder / REFERENCE, pictures=pictures, logits=logits_of(network, pictures, batch))
        on_stage("export the program")
        program = exported(network, name, (batch, *pictures.shape[1:]))
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
        ConversionError: the module cannot be exported.
    """
    import torch

    from edgese.models.folding import folded

    with stage(
        f"export {name} with torch.export",
        ConversionError,
        hint="Its forward must be free of branches on values; "
        "torch.export.export(module, (example,)) shows where it is not.",
    ):
        return torch.export.export(folded(network), (torch.zeros(shape),))


def logits_of(
    network: "nn.Module", pictures: "NDArray[np.float32]", batch: int
) -> "NDArray[np.float32]":
    """What PyTorch computes, a batch at a time as the exported program has it.

    Args:
        pictures: (count, 3, height, width), for any count.

    Returns:
        (count, classes).

    Raises:
        ConfigError: the network's output is not one row of numbers for each picture.
    """
    from edgese.models.builder import Network

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
    return outputs(run, pictures, batch, lanes=None if isinstance(network, Network) else 1)


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
