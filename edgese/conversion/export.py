"""Exports a network once for all targets, with its logits for the reference pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgese import store
from edgese.conversion.cache import PROGRAM, REFERENCE
from edgese.errors import ConfigError, ConversionError
from edgese.program.storage import write_program
from edgese.records.artifact import WeightsInfo
from edgese.records.job import ProgramRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn
    from torch.export import ExportedProgram


def export_program(
    network: "nn.Module",
    name: str,
    *,
    batch: int,
    pictures: "NDArray[np.float32]",
    weights: WeightsInfo,
    folder: Path,
    threads: int,
    on_stage: Callable[[str], None],
) -> ProgramRecord:
    """Writes the exported program and the reference into ``folder``.

    The program has BatchNorm folded and a fixed batch. The reference is what the network itself
    computes, not the folded one, so that folding is verified with everything that follows.

    Args:
        network: in eval mode.
        name: of the model.
        pictures: (count, 3, height, width).
        threads: of torch; the other cores belong to the workers that start meanwhile.
        on_stage: told what is done now.

    Raises:
        ConversionError: the module cannot be exported, or has an operator that no program's file
            holds.
        OutputError: the folder cannot be written, or the disk is full.
    """
    import numpy as np
    import torch

    with store.writing(folder), torch_threads(threads):
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

    try:
        return torch.export.export(folded(network), (torch.zeros(shape),))
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise ConversionError(
            f"torch.export cannot export {name}: {first_line(error)}",
            hint="Its forward must be free of branches on values; "
            "torch.export.export(module, (example,)) shows where it is not.",
        ) from error


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
    import numpy as np
    import torch

    rows = []
    with torch.inference_mode():
        for start in range(0, len(pictures), batch):
            chunk = pictures[start : start + batch]
            missing = batch - len(chunk)
            filled = np.concatenate([chunk, np.zeros_like(pictures[:1]).repeat(missing, 0)])
            output = network(torch.from_numpy(filled))
            if not isinstance(output, torch.Tensor) or output.ndim != 2 or len(output) != batch:
                found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output)
                raise ConfigError(
                    f"The module's output for {batch} pictures is {found}.",
                    hint=f"It must be one tensor of shape ({batch}, classes).",
                )
            rows.append(output.float().numpy()[: len(chunk)])
    return np.concatenate(rows)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Lets torch compute with so many threads meanwhile."""
    # More threads than free cores wait for each other in loops that take the time of the others.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
