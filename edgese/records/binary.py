"""What a runtime's own benchmark program told about one artifact."""

from typing import Literal

from edgese.records.base import Record

Tool = Literal["benchmark_model", "executor_runner", "onnxruntime_perf_test"]


class BinaryRun(Record, frozen=True):
    """Figures as the program itself tells them; None where it tells none.

    They are not those of edgese's own runner: warm-up, input and what is within the timed part are
    the program's choice, and only `executor_runner` tells single inferences.

    Attributes:
        delegate: that was asked for; "" for the program's default.
        count: inferences that the figures are over.
        load_ms: until the artifact was ready to run.
        memory_mb: of the process: beyond its start (`benchmark_model`), or at most.
        samples_ms: every inference in order; empty where the program tells only figures.
        nodes, delegated: of the graph, and how many of them the last delegate took.
        remainder: the program's words where the delegate did not take the whole graph; "" else.
    """

    tool: Tool
    delegate: str
    count: int
    mean_ms: float
    min_ms: float | None = None
    max_ms: float | None = None
    std_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    load_ms: float | None = None
    first_run_ms: float | None = None
    memory_mb: float | None = None
    samples_ms: tuple[float, ...] = ()
    nodes: int | None = None
    delegated: int | None = None
    remainder: str = ""
