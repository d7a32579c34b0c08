"""The quantized program as what targets are converted from, with its reference."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgese import store
from edgese.data.calibration import CalibrationSet, read
from edgese.errors import ConversionError, InputError, stage
from edgese.program.building import REFUSALS
from edgese.program.export import exported, reference_of
from edgese.program.forms import input_shape
from edgese.program.storage import PROGRAM, REFERENCE, read_program
from edgese.program.storage import write_program as save_program
from edgese.program.stored import StoredProgram
from edgese.records.artifact import ModelCard, Recipe, WeightsInfo
from edgese.records.conversion import ProgramRecord
from edgese.records.quantization import Quantization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn
    from torch.export import ExportedProgram

    from edgese.quantization.ptq import Quantized


@dataclass(frozen=True, kw_only=True)
class Integer:
    """How a program is quantized: the recipe, and the pictures that its grids are found with."""

    recipe: Recipe
    pictures: CalibrationSet

    @property
    def seed(self) -> int:
        """Of whatever is drawn at random."""
        assert self.recipe.quantization is not None  # noqa: S101  # an integer recipe has it
        return self.recipe.quantization.seed


def quantize_program(
    network: "nn.Module",
    card: ModelCard,
    integer: Integer,
    *,
    batch: int,
    pictures: "NDArray[np.float32]",
    weights: WeightsInfo,
    folder: Path,
    on_stage: Callable[[str], None],
) -> ProgramRecord:
    """Exports and quantizes a network; writes the program and its reference into ``folder``.

    The reference is what the quantized program computes in PyTorch, since that is what every
    runtime has to compute; how far it is from the float network is the record's `fidelity`.

    Args:
        pictures: to compare targets on, (count, 3, H, W).
        on_stage: told what is done now.

    Raises:
        ConversionError: the network cannot be exported, or has an operator without integer form.
        InputError: calibration pictures that cannot be read or are of one colour, weights that are
            not finite.
        OutputError: the folder cannot be written, or the disk is full.
    """
    with store.writing(folder):
        made = quantized_network(
            network, card, integer, batch=batch, on_stage=lambda stage, _: on_stage(stage)
        )
        on_stage("compute the reference")
        return write_program(
            made.program,
            card,
            batch=batch,
            pictures=pictures,
            weights=weights,
            quantization=Quantization(
                calibration=integer.pictures.calibration,
                fidelity=made.fidelity,
                collapse=made.collapse if weights.trained else "",
                notes=made.notes,
            ),
            folder=folder,
        )


def quantized_network(
    network: "nn.Module",
    card: ModelCard,
    integer: Integer,
    *,
    batch: int,
    on_stage: Callable[[str, float], None],
) -> "Quantized":
    """Exports and quantizes a network.

    Args:
        on_stage: told what is done now, and the share of it that is behind.

    Raises:
        ConversionError: the network cannot be exported, or has an operator without integer form.
        InputError: calibration pictures that cannot be read or are of one colour, weights that are
            not finite.
    """
    from edgese.quantization.ptq import quantized

    program, pictures, reference = exported_with_pictures(
        network, card, integer, batch=batch, on_stage=on_stage
    )
    with stage(
        f"quantize {card.name} with the recipe {integer.recipe.name}",
        ConversionError,
        hint="The recipe fp32 tells whether the network or its quantization is at fault.",
    ):
        return quantized(program, integer.recipe, pictures, on_stage, reference=reference)


def exported_with_pictures(
    network: "nn.Module",
    card: ModelCard,
    integer: Integer,
    *,
    batch: int,
    on_stage: Callable[[str, float], None],
) -> "tuple[ExportedProgram, NDArray[np.float32], NDArray[np.float32]]":
    """Return what is quantized, the calibration pictures, and what the network gives for them.

    Returns:
        The program, (count, 3, H, W), and (count, classes): what the network itself computes, in
        which nothing is folded or rewritten.

    Raises:
        ConversionError: the network cannot be exported, or its answer for an image is no function
            of that image alone.
        InputError: calibration pictures that cannot be read or are of one colour.
    """
    on_stage("read the calibration pictures", 0.0)
    pictures = read(integer.pictures, card.preprocessing)
    on_stage("export the program", 0.0)
    program = exported(network, card.name, (batch, *pictures.shape[1:]))
    on_stage("compute the reference", 0.0)
    return program, pictures, reference_of(network, card.name, pictures, batch)


def stored_program(
    stored: StoredProgram, *, pictures: "NDArray[np.float32]", folder: Path
) -> ProgramRecord:
    """Puts a stored program and its reference into ``folder``.

    Raises:
        InputError: the file is no program, or no quantized one.
        OutputError: the folder cannot be written, or the disk is full.
    """
    with store.writing(folder):
        manifest = stored.manifest
        program = read_program(stored.path)
        size = manifest.model.preprocessing
        expected = (manifest.batch, 3, size.height, size.width)
        if input_shape(program) != expected:
            raise InputError(
                f"{stored.path} takes {input_shape(program)}, and its manifest says {expected}.",
                hint="It is not the program that the manifest was written for; quantize it again.",
            )
        with stage(
            f"run {stored.path} as a quantized program",
            hint="It is damaged, or was not written by `edgese quantize`; quantize it again.",
            also=REFUSALS,
        ):
            return write_program(
                program,
                manifest.model,
                batch=manifest.batch,
                pictures=pictures,
                weights=manifest.weights,
                quantization=manifest.quantization,
                folder=folder,
            )


def write_program(
    program: "ExportedProgram",
    card: ModelCard,
    *,
    batch: int,
    pictures: "NDArray[np.float32]",
    weights: WeightsInfo,
    quantization: Quantization,
    folder: Path,
) -> ProgramRecord:
    """Writes a quantized program and what it gives for ``pictures``, computed in exact integers."""
    import numpy as np
    import torch

    from edgese.program.fingerprint import integers_sha256
    from edgese.program.integers import integer_outputs

    logits = integer_outputs(program, pictures, batch)
    np.savez(folder / REFERENCE, pictures=pictures, logits=logits)
    save_program(program, folder / PROGRAM)
    return ProgramRecord(
        model=card.name,
        program_sha256=store.sha256_of(folder / PROGRAM),
        reference_sha256=store.sha256_of(folder / REFERENCE),
        weights=weights,
        torch=str(torch.__version__),
        # Of this program, whatever a manifest says.
        quantization=msgspec.structs.replace(quantization, integers=integers_sha256(program)),
    )
