"""Qualcomm's compiler in a process: ``python -m edgese.inspection.qnn_process FOLDER``.

The folder has `JOB`, and `PICTURES` where the arithmetic is wanted too; `ANSWER`, `TRACE`, the
compiled context and `LOGITS` are written into it. The runtime logs its reasons to standard error at
its most talkative, and native code may take the process with it.
Source of the names of options: onnxruntime-qnn,
https://github.com/onnxruntime/onnxruntime-qnn/blob/main/docs/execution_providers/QNN-ExecutionProvider.md
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgese.records.artifact import Interface
from edgese.records.base import Record
from edgese.targets.batches import codes, predictor, values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JOB: Final = "job.json"
PICTURES: Final = "pictures.npy"
ANSWER: Final = "answer.json"
LOGITS: Final = "logits.npy"
TRACE: Final = "qnn_op_trace.json"
CONTEXTS: Final = "context*.bin"
PROVIDER: Final = "QNNExecutionProvider"
_CONTEXT: Final = "context.onnx"
_VERBOSE: Final = 0  # of log severities


class QnnJob(Record, frozen=True):
    """What the process does.

    Attributes:
        soc_model, htp: of the chip that is compiled for, as in targets/socs.
    """

    artifact: str
    interface: Interface
    soc_model: int
    htp: int


class QnnAnswer(Record, frozen=True):
    """What the runtime says beyond its log.

    Attributes:
        error: why it does not load the file with this provider; "" where it does.
    """

    error: str


def main() -> None:
    """Does the job in the folder that is the only argument."""
    folder = Path(sys.argv[1])
    # What the libraries write without being asked lands here.
    os.chdir(folder)
    job = QnnJob.from_json((folder / JOB).read_bytes(), JOB)
    session, error = _session(job, folder)
    # Written before anything is executed, where native code fails more often.
    (folder / ANSWER).write_text(QnnAnswer(error=error).to_json(), encoding="utf-8")
    if session is not None and (folder / PICTURES).exists():
        import numpy as np

        pictures = np.load(folder / PICTURES, allow_pickle=False)
        np.save(folder / LOGITS, _logits(session, job.interface, pictures))


def _session(job: QnnJob, folder: Path) -> tuple[Any, str]:
    """The artifact compiled for the chip; None and the reason where the runtime refuses it."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime
    import onnxruntime_qnn
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    onnxruntime.set_default_logger_severity(_VERBOSE)
    # It looks for its devices under the name of the registration.
    onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    devices = [each for each in onnxruntime.get_ep_devices() if each.ep_name == PROVIDER]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _VERBOSE
    options.add_session_config_entry("ep.context_enable", "1")
    options.add_session_config_entry("ep.context_embed_mode", "0")
    options.add_session_config_entry("ep.context_file_path", str(folder / _CONTEXT))
    options.add_provider_for_devices(
        devices[:1],
        {
            "backend_path": onnxruntime_qnn.get_qnn_htp_path(),
            "htp_arch": str(job.htp),
            "soc_model": str(job.soc_model),
            "enable_framework_op_trace": "1",
            "framework_op_trace_dir": str(folder),
        },
    )
    try:
        return onnxruntime.InferenceSession(job.artifact, options), ""
    except (
        errors.EPFail,
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.NotImplemented,
        errors.RuntimeException,
    ) as error:
        return None, str(error)


def _logits(
    session: Any,  # noqa: ANN401  # an untyped library's
    interface: Interface,
    pictures: "NDArray[np.float32]",
) -> "NDArray[np.float32]":
    given, made = (
        info.grid if info.dtype in ("int8", "uint8") else None
        for info in (interface.input, interface.output)
    )

    def run(some: "NDArray[np.float32]") -> "NDArray[np.float32]":
        feed = some if given is None else codes(some, given)
        (logits,) = session.run(None, {interface.input.name: feed})
        result: NDArray[np.float32] = logits if made is None else values(logits, made)
        return result

    batch, channels, height, width = interface.input.shape
    return predictor(run, (channels, height, width), batch)(pictures)


if __name__ == "__main__":
    main()
