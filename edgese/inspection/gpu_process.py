"""LiteRT's GPU delegate in a process: ``python -m edgese.inspection.gpu_process FOLDER``.

It logs what it refuses to standard error, and a driver may take the process with it. The folder has
`JOB`, and `PICTURES` where the arithmetic is wanted too; `ANSWER` and `LOGITS` are written into it.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgese.protocols import Predictor
from edgese.records.artifact import Interface
from edgese.records.base import Record
from edgese.targets.batches import codes, predictor, values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JOB: Final = "job.json"
PICTURES: Final = "pictures.npy"
ANSWER: Final = "answer.json"
LOGITS: Final = "logits.npz"


class GpuJob(Record, frozen=True):
    """What the process does."""

    artifact: str
    interface: Interface


class GpuAnswer(Record, frozen=True):
    """What the delegate says beyond its log.

    Attributes:
        fully_accelerated: whether it executes every operator.
    """

    fully_accelerated: bool


def main() -> None:
    """Does the job in the folder that is the only argument."""
    folder = Path(sys.argv[1])
    job = GpuJob.from_json((folder / JOB).read_bytes(), JOB)
    model = _compiled(job, fp32=False)
    # Written before anything is executed, where drivers fail more often.
    answer = GpuAnswer(fully_accelerated=model.is_fully_accelerated())
    (folder / ANSWER).write_text(answer.to_json(), encoding="utf-8")
    if not (folder / PICTURES).exists():
        return
    import numpy as np

    pictures = np.load(folder / PICTURES, allow_pickle=False)
    chosen = _predictor(model, job.interface)(pictures)
    enforced = _predictor(_compiled(job, fp32=True), job.interface)(pictures)
    np.savez(folder / LOGITS, chosen=chosen, fp32=enforced)


def _compiled(job: GpuJob, *, fp32: bool) -> Any:  # noqa: ANN401  # an untyped library's
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, GpuOptions, Options

    # With the processor beside it, so that what it refuses does not end everything.
    return CompiledModel.from_file(
        job.artifact,
        options=Options(
            hardware_accelerators=HardwareAccelerator.GPU | HardwareAccelerator.CPU,
            cpu_options=CpuOptions(num_threads=1),
            gpu_options=GpuOptions(enforce_f32=fp32),
        ),
    )


def _predictor(model: Any, interface: Interface) -> Predictor:  # noqa: ANN401  # the same
    """The compiled model as a predictor; reading the output waits for the GPU."""
    import numpy as np

    given, made = interface.input, interface.output
    (source,), (result,) = model.create_input_buffers(0), model.create_output_buffers(0)
    length = int(np.prod(made.shape))

    def run(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        stored: NDArray[Any] = pictures.transpose(0, 2, 3, 1)
        if given.grid is not None and given.dtype == "int8":
            stored = codes(stored, given.grid)
        source.write(np.ascontiguousarray(stored).ravel())
        model.run_by_index(0, [source], [result])
        logits: NDArray[Any] = np.array(result.read(length, np.dtype(made.dtype).type))
        logits = logits.reshape(made.shape)
        if made.grid is not None and made.dtype == "int8":
            logits = values(logits, made.grid)
        return logits

    batch, height, width, channels = given.shape
    return predictor(run, (channels, height, width), batch)


if __name__ == "__main__":
    main()
