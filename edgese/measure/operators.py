"""Times the operators of artifacts whose runtime tells them, and says why where it does not."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

import msgspec

from edgese.errors import ConfigError, DeviceError
from edgese.measure.job import RESULT, RUNNER, Subject, brought_back, runner_artifact, subjects_of
from edgese.measure.plan import check_timed, threads_of
from edgese.measure.progress_stream import stages
from edgese.protocols import Device, Progress
from edgese.records.base import Record
from edgese.records.measurement import (
    DeviceInfo,
    Job,
    OperatorKindTime,
    OperatorTime,
    OperatorTimes,
    Push,
)
from edgese.version import __version__

# Why a runtime's Python package tells no times of operators.
SILENT: Final = {
    "tflite": "ai-edge-litert's interpreter offers its profiler to C++ alone, and a graph that "
    "XNNPACK takes is one operator to it. Google's benchmark_model with --enable_op_profiling "
    "tells them.",
    "executorch": "ExecuTorch's wheel is built without its event tracer "
    "(EXECUTORCH_ENABLE_EVENT_TRACER), so it writes no trace.",
    "coreml": "coremltools times a prediction as a whole; of operators Core ML has estimated "
    "shares only.",
}
_KERNEL: Final = "_kernel_time"


class TraceEvent(Record, frozen=True):
    """An event of ONNX Runtime's trace, times in microseconds.

    Format: onnxruntime/core/common/profiler.cc, which writes Chrome's trace events; the runner
    leaves the sizes of memory out.
    """

    cat: str
    name: str
    ts: int
    dur: int
    op_name: str = ""
    node_index: str = ""
    provider: str = ""
    output_type_shape: tuple[dict[str, tuple[int, ...]], ...] = ()


class OperatorResult(Record, frozen=True):
    """The file that the runner writes."""

    versions: dict[str, str]
    events: tuple[TraceEvent, ...]


class Recorded(NamedTuple):
    """What a trace says of the counted inferences."""

    runs: int
    inference_ms: float
    outside_ms: float
    operators: tuple[OperatorTime, ...]
    kinds: tuple[OperatorKindTime, ...]


def operator_times(
    artifact: Path | Subject,
    device: Device,
    *,
    threads: int | None = None,
    runs: int = 30,
    warmup_runs: int = 5,
    timeout_s: float = 600.0,
    progress: Progress | None = None,
) -> OperatorTimes:
    """Lets the runtime record its operators, in a process of its own that times nothing else.

    Args:
        artifact: path of an artifact with its manifest, or the subject that was made of it.
        threads: of the runtime; None takes what `edgese.measure.api.profile` takes.
        runs: inferences that count, after ``warmup_runs`` that do not.

    Returns:
        ``unavailable`` says why where the runtime tells none; nothing is run then.

    Raises:
        ConfigError: a number that cannot be, or an emulated device.
        InputError: the artifact or its manifest is missing or not readable.
        StoreError: the artifact is not the one that its manifest describes.
        MissingDependency: the runtime is not installed.
        DeviceError: it could not be executed.
    """
    if runs < 1 or warmup_runs < 0:
        raise ConfigError(
            f"{runs} runs after {warmup_runs} warm-up runs were asked for.",
            hint="Give 1 run or more, after 0 or more.",
        )
    check_timed(device)
    subject = artifact if isinstance(artifact, Subject) else subjects_of([artifact])[0]
    info = device.info()
    computing = threads_of(threads, info)
    target = subject.manifest.target
    if target != "onnxruntime":
        reason = SILENT.get(target, f"edgese knows no profiler of {target}.")
        return _described(subject, info, computing, unavailable=reason)
    device.check(target)
    job = operators_job(subject, computing, runs=runs, warmup_runs=warmup_runs, timeout_s=timeout_s)
    content = brought_back(device.run(job, stages(progress)), info.name)
    try:
        result = msgspec.json.decode(content, type=OperatorResult)
        found = recorded(result.events, warmup_runs, runs)
    except (msgspec.DecodeError, ValueError) as error:
        raise DeviceError(
            f"The trace of {subject.label} from {info.name} cannot be read: {error}.",
            hint="Make sure that the runtime there is one that this edgese knows.",
        ) from error
    return msgspec.structs.replace(
        _described(subject, info, computing, unavailable=""),
        **found._asdict(),
        versions=result.versions,
    )


def operators_job(
    subject: Subject, threads: int, *, runs: int, warmup_runs: int, timeout_s: float
) -> Job:
    """The job of the one process that records."""
    artifact = runner_artifact(subject, 0, threads)
    plan = msgspec.json.encode({"artifact": artifact, "runs": runs, "warmup_runs": warmup_runs})
    return Job(
        argv=("{python}", "-P", RUNNER.name, "operators", "plan.json", RESULT),
        push=(
            Push(name=RUNNER.name, content=RUNNER.read_bytes()),
            Push(name="plan.json", content=plan),
            Push(name=artifact["path"], source=subject.path),
        ),
        pull=(RESULT,),
        timeout_s=timeout_s,
    )


def recorded(events: Sequence[TraceEvent], warmup_runs: int, runs: int) -> Recorded:
    """Means over the inferences of a trace, without the first ``warmup_runs``.

    Raises:
        ValueError: it does not hold that many inferences, or their operators are not the same.
    """
    # The trace is ordered by the ends of its events: an inference comes after its operators.
    inferences = sorted((e for e in events if e.name == "model_run"), key=lambda e: e.ts)
    if len(inferences) != warmup_runs + runs:
        raise ValueError(f"it holds {len(inferences)} inferences, not {warmup_runs + runs}")
    nodes = sorted(
        (e for e in events if e.cat == "Node" and e.name.endswith(_KERNEL)),
        key=lambda e: (e.ts, -e.dur),
    )
    counted = [_outermost(nodes, inference) for inference in inferences[warmup_runs:]]
    first = counted[0]
    order = [(node.name, node.node_index) for node in first]
    if not order or any([(n.name, n.node_index) for n in one] != order for one in counted):
        raise ValueError("its inferences do not consist of the same operators")
    inference_ms = fmean(inference.dur for inference in inferences[warmup_runs:]) / 1000
    operators = tuple(
        _operator(node, fmean(one[position].dur for one in counted) / 1000, inference_ms)
        for position, node in enumerate(first)
    )
    return Recorded(
        runs=runs,
        inference_ms=inference_ms,
        outside_ms=inference_ms - sum(operator.mean_ms for operator in operators),
        operators=operators,
        kinds=kinds_of(operators, inference_ms),
    )


def kinds_of(
    operators: Sequence[OperatorTime], inference_ms: float
) -> tuple[OperatorKindTime, ...]:
    """The operators by their kind, the most expensive kind first."""
    kinds: dict[str, list[float]] = {}
    for operator in operators:
        kinds.setdefault(operator.operator, []).append(operator.mean_ms)
    return tuple(
        OperatorKindTime(
            operator=kind, count=len(times), mean_ms=sum(times), share=sum(times) / inference_ms
        )
        for kind, times in sorted(kinds.items(), key=lambda item: (-sum(item[1]), item[0]))
    )


def _outermost(nodes: Sequence[TraceEvent], inference: TraceEvent) -> list[TraceEvent]:
    """The operators of an inference; those inside a loop or a branch are in its own time."""
    found: list[TraceEvent] = []
    end = 0
    for node in nodes:
        inside = inference.ts <= node.ts and node.ts + node.dur <= inference.ts + inference.dur
        if inside and node.ts >= end:
            found.append(node)
            end = node.ts + node.dur
    return found


def _operator(node: TraceEvent, mean_ms: float, inference_ms: float) -> OperatorTime:
    ((dtype, shape),) = (node.output_type_shape or ({"": ()},))[0].items()
    return OperatorTime(
        name=node.name.removesuffix(_KERNEL),
        operator=node.op_name,
        dtype=dtype,
        output=shape,
        mean_ms=mean_ms,
        share=mean_ms / inference_ms,
    )


def _described(
    subject: Subject, info: DeviceInfo, threads: int, *, unavailable: str
) -> OperatorTimes:
    manifest = subject.manifest
    pixels = manifest.model.preprocessing
    return OperatorTimes(
        label=subject.label,
        sha256=manifest.sha256,
        target=manifest.target,
        delegate=manifest.delegate,
        recipe=manifest.recipe.name,
        model=manifest.model.name,
        resolution=(pixels.height, pixels.width),
        trained=manifest.weights.trained,
        device=info,
        threads=threads,
        unavailable=unavailable,
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
