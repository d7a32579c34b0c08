"""Exports a network once for all targets, with its logits for the reference pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese import store
from edgese.conversion.cache import PROGRAM, REFERENCE
from edgese.conversion.purity import check_answers, check_operators
from edgese.errors import ConfigError, ConversionError
from edgese.records.artifact import WeightsInfo
from edgese.records.job import ProgramRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn
    from torch.export import ExportedProgram

# What a module's own code raises where something does not fit.
_ERRORS: Final = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Images that run at once where it does not matter: enough to keep the cores busy.
_TOGETHER: Final = 8


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
    The program comes first: what it refuses, it refuses by name.

    Args:
        network: in eval mode.
        name: of the model.
        pictures: (count, 3, height, width).
        threads: of torch; the other cores belong to the workers that start meanwhile.
        on_stage: told what is done now.

    Raises:
        ConversionError: the module cannot be exported, or its answer for an image is no function of
            that image alone.
        OutputError: the folder cannot be written, or the disk is full.
    """
    import numpy as np
    import torch

    with store.writing(folder), torch_threads(threads):
        on_stage("export the program")
        program = exported(network, name, (batch, *pictures.shape[1:]))
        on_stage("compute the reference")
        check_answers(lambda images: logits_of(network, images, len(images)), pictures, batch, name)
        np.savez(folder / REFERENCE, pictures=pictures, logits=logits_of(network, pictures, batch))
        torch.export.save(program, folder / PROGRAM)
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
        ConversionError: the module cannot be exported, draws random numbers, computes with the
            statistics of a batch, or with what it kept of images before.
    """
    import torch

    from edgese.models.folding import folded

    try:
        program = torch.export.export(folded(network), (torch.zeros(shape),))
    except _ERRORS as error:
        raise ConversionError(
            f"torch.export cannot export {name}: {_first_line(error)}",
            hint="Its forward must be free of branches on values; "
            "torch.export.export(module, (example,)) shows where it is not.",
        ) from error
    check_operators(program, name)
    return program


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
    import numpy as np
    import torch

    rows = []
    # No inference mode: what a module keeps of it could not be exported.
    with torch.no_grad():
        for start in range(0, len(pictures), batch):
            chunk = pictures[start : start + batch]
            missing = batch - len(chunk)
            filled = np.concatenate([chunk, np.zeros_like(pictures[:1]).repeat(missing, 0)])
            try:
                output = network(torch.from_numpy(filled))
            except _ERRORS as error:
                raise ConfigError(
                    f"The module cannot compute an input of {filled.shape}: {_first_line(error)}",
                    hint="It must take one tensor of that shape, in float32.",
                ) from error
            if not isinstance(output, torch.Tensor) or output.ndim != 2 or len(output) != batch:
                found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output)
                raise ConfigError(
                    f"The module's output for {batch} pictures is {found}.",
                    hint=f"It must be one tensor of shape ({batch}, classes).",
                )
            rows.append(output.float().numpy()[: len(chunk)].copy())
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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
