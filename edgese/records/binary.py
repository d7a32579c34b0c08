"""What a runtime's own benchmark program told about one artifact."""

from typing import Literal

from edgese.records.base import Record
from edgese.records.bounds import Count, Delay, Mebibytes, Milliseconds, Positive

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
    count: Positive
    mean_ms: Milliseconds
    min_ms: Milliseconds | None = None
    max_ms: Milliseconds | None = None
    std_ms: Delay | None = None
    p50_ms: Milliseconds | None = None
    p90_ms: Milliseconds | None = None
    p95_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    load_ms: Delay | None = None
    first_run_ms: Milliseconds | None = None
    memory_mb: Mebibytes | None = None
    samples_ms: tuple[Milliseconds, ...] = ()
    nodes: Count | None = None
    delegated: Count | None = None
    remainder: str = ""
