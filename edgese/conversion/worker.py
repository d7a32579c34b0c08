"""One conversion in a process of its own: ``python -m edgese.conversion.worker JOB.json``.

The first byte of standard input says that the program is there. Standard output carries events as
JSON lines; whatever libraries print goes to the log, which is standard error.
"""

import gc
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edgese import store
from edgese.catalog import target_facts
from edgese.errors import ConversionError, EdgeseError, OperatorUnknown
from edgese.machine import peak_memory_mb
from edgese.protocols import Target
from edgese.records.artifact import Interface, Parity
from edgese.records.conversion import Advanced, ConversionJob, Event, Failed, Succeeded
from edgese.targets import target_module

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

# Pictures, and what PyTorch gives for them.
Reference = tuple["NDArray[np.float32]", "NDArray[np.float32]"]
# Shares of a worker's time, as the four targets have it for EfficientNet-B0.
_CONVERTED: Final = 0.85
_INSPECTED: Final = 0.9


def main() -> None:
    """Does the job whose file is the only argument."""
    path = Path(sys.argv[1])
    job = ConversionJob.from_json(path.read_bytes(), path)
    events = os.dup(1)
    os.dup2(2, 1)
    begin = threading.Event()
    threading.Thread(target=_listen, args=(begin,), daemon=True).start()

    def say(event: Event) -> None:
        os.write(events, msgspec.json.encode(event) + b"\n")

    try:
        with store.writing(Path(job.artifact)):
            result: Event = _converted(job, begin, say)
    except EdgeseError as error:
        result = Failed(
            message=error.message,
            hint=error.hint,
            exit_code=error.exit_code,
            peak_memory_mb=peak_memory_mb(),
        )
    say(result)
    sys.stdout.flush()
    sys.stderr.flush()
    # All is said and on disk. Taking these libraries down takes a second, and some crash in it.
    os._exit(0)


# Said where an artifact has integers of its own, and what they are was checked one by one.
_RANDOM: Final = (
    "its answers with random weights tell nothing; its codes, scales and structure are the "
    "program's, and were compared"
)
# A deviation is told by any picture, and fp64 takes its time.
_DEVIATION_PICTURES: Final = 2
# Of the largest logit: ten times what a float32 rounds it by.
_DEVIATION: Final = 1e-6


def _listen(begin: threading.Event) -> None:
    # Not through sys.stdin: its lock, held by a thread that waits, aborts the interpreter's exit.
    if not os.read(0, 1):
        # The parent is gone, and the guard with it.
        os._exit(1)
    begin.set()


def _converted(
    job: ConversionJob, begin: threading.Event, say: Callable[[Event], None]
) -> Succeeded:
    target = target_module(job.target)
    say(Advanced(stage="load the converter", fraction=0.0))
    # Imports make little garbage, and looking for it takes a sixth of their time.
    gc.disable()
    target.prepare()
    gc.enable()
    begin.wait()

    from edgese.program.storage import read_program

    program = read_program(Path(job.program))
    artifact = Path(job.artifact)
    interface = target.convert(
        program,
        job.card,
        job.recipe,
        job.options,
        artifact,
        lambda stage, fraction: say(Advanced(stage=stage, fraction=fraction * _CONVERTED)),
    )
    say(Advanced(stage="compare with the program", fraction=_CONVERTED))
    reference = _reference(Path(job.reference))
    deviation = deviation_of(target, job, program, artifact, interface, reference)
    del program
    say(Advanced(stage="inspect", fraction=_CONVERTED))
    operators = target.inspect(artifact, job.delegate)
    say(Advanced(stage="compare with PyTorch", fraction=_INSPECTED))
    parity = parity_of(target, job, artifact, interface, reference, deviation)
    return Succeeded(
        interface=interface,
        operators=operators,
        parity=parity,
        sha256=store.sha256_of(artifact),
        size_bytes=store.size_of(artifact),
        peak_memory_mb=peak_memory_mb(),
    )


def deviation_of(
    target: Target,
    job: ConversionJob,
    program: "ExportedProgram",
    artifact: Path,
    interface: Interface,
    reference: Reference,
) -> float | None:
    """How far the file is from its program where the target can tell, as `Target.deviation` says.

    Raises:
        ConversionError: it is further than by a float's rounding.
    """
    pictures, logits = reference
    try:
        found = target.deviation(
            program, job.card, artifact, interface, pictures[:_DEVIATION_PICTURES]
        )
    except OperatorUnknown:
        # What executes the file is asked for its answers next, and says so.
        return None
    # NaN is no passing.
    if found is not None and not found <= _DEVIATION * abs(logits).max():
        title = target_facts(job.target).title
        raise ConversionError(
            f"The file saved for {title} is not its program: without any rounding its outputs are "
            f"{found:.3g} away.",
            hint="The artifact was not kept. Please report it with the model's spec: it is a fault "
            "of the conversion.",
        )
    return found


def parity_of(
    target: Target,
    job: ConversionJob,
    artifact: Path,
    interface: Interface,
    reference: Reference,
    deviation: float | None,
) -> Parity:
    """The artifact in its own runtime, or in what stands in for it, beside PyTorch.

    Args:
        reference: pictures and PyTorch's logits.
        deviation: of the file from its program, where it was told; within the bound.

    Raises:
        ConversionError: it computes something else.
    """
    if reason := target.unavailable():
        return Parity(verdict="not_run", reason=reason)
    try:
        predictor = target.load(artifact, interface, threads=job.threads)
    except OperatorUnknown as error:
        return Parity(verdict="not_run", reason=error.message)
    pictures, logits = reference
    from edgese.conversion.parity import compared

    grid = interface.output.grid
    step = grid.scale if grid is not None and job.recipe.precision == "int8" else None
    bound = job.recipe.parity
    own = job.recipe.precision == "int8" and not target_facts(job.target).same_integers
    if own:
        bound = msgspec.structs.replace(bound, min_within_step=0.0)
    parity = msgspec.structs.replace(
        compared(predictor(pictures), logits, bound, step),
        by=target.stand_in(),
        deviation=deviation,
    )
    if own and not job.trained and parity.verdict == "failed" and parity.cosine is not None:
        # One code that falls otherwise grows to as much as all quantization costs such a network.
        # Whether the file is its program is told without that.
        verdict, reason = ("not_run", _RANDOM) if deviation is None else ("passed", "")
        return msgspec.structs.replace(parity, verdict=verdict, reason=reason)
    if parity.verdict == "failed":
        title = target_facts(job.target).title
        raise ConversionError(
            f"What {title} computes differs from PyTorch on {parity.pictures} pictures: "
            f"{parity.reason}.",
            hint="The artifact was not kept. "
            + (
                "The recipe fp32 tells whether the recipe or the conversion is at fault."
                if job.recipe.name != "fp32"
                else "Please report it with the model's spec: it is a fault of the conversion."
            ),
        )
    return parity


def _reference(path: Path) -> Reference:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return arrays["pictures"], arrays["logits"]


if __name__ == "__main__":
    main()
