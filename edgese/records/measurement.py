"""What was measured: inferences, operators, minutes without a pause, other programs' runs."""

from typing import Annotated, Final, Literal

import msgspec

from edgese.records.base import Interval, Record
from edgese.records.bounds import (
    Celsius,
    Count,
    Delay,
    ExitCode,
    Factor,
    Finite,
    Load,
    Mebibytes,
    Megahertz,
    Milliseconds,
    Nanoseconds,
    NotNegative,
    Number,
    Positive,
    Seconds,
    Share,
    Side,
)

Source = Literal["measured", "emulated", "predicted", "estimated"]
CautionCode = Literal[
    "FIRST_RUN_SLOW", "OUTLIERS", "THROTTLED", "DRIFT", "BIMODAL", "EMULATED", "PREDICTED"
]

# Artifacts that are measured together at most: all of a group are loaded at the same time.
GROUP: Final = 4


class MeasurePlan(Record, frozen=True):
    """How artifacts are measured; the same plan for all that are compared.

    Attributes:
        threads: that each runtime computes with.
        launches: times that each artifact gets a new process. Where a process's memory happens to
            lie makes it faster or slower for its whole life, by a few percent.
        blocks: of every artifact, over all launches; one block of each makes a round, and every
            other round goes through the artifacts backwards (AB BA AB ...).
        min_runs: inferences of each artifact over all its blocks, at least.
        min_time_s: that the inferences of each artifact take together, at the pace of its first
            warm-up, which decides how many there are in a block.
        warmup_runs, warmup_time_s: before the first block of each launch; both are reached.
        lead_in_runs: inferences at the start of each block that are not counted. They warm the
            caches again, and wait for the threads of the runtime before to stop spinning.
        reply_timeout_s: after which a silent artifact is given up.
        timeout_s: for the whole job, all artifacts together.
    """

    threads: Count
    launches: Positive = 12
    blocks: Positive = 24
    min_runs: Positive = 100
    min_time_s: Seconds = 2.0
    warmup_runs: Count = 10
    warmup_time_s: Seconds = 0.3
    lead_in_runs: Count = 3
    reply_timeout_s: Seconds = 600.0
    timeout_s: Seconds = 3600.0


class Push(Record, frozen=True):
    """A file or folder that goes to the device, or the content of a file to make there.

    Attributes:
        name: relative to the job's folder on the device.
        source: path on this host; "" where ``content`` is given.
    """

    name: str
    source: str = ""
    content: bytes = b""


class Job(Record, frozen=True):
    """One command on a device, in a fresh folder that holds what was pushed.

    Attributes:
        argv: the command; "{python}" stands for the device's interpreter with its runtimes.
        push: what must be there before.
        pull: names of files that are brought back, where they exist.
        timeout_s: after which everything that the job started is ended.
    """

    argv: tuple[str, ...]
    push: tuple[Push, ...] = ()
    pull: tuple[str, ...] = ()
    timeout_s: Seconds = 3600.0


class Outcome(Record, frozen=True):
    """How a job ended. A return code of 0 alone proves nothing: a transport may lose the true one.

    Attributes:
        returncode: of the command; negative: the signal that ended it.
        stdout, stderr: their ends, as text.
        files: contents of the pulled files by name; one that did not exist is not in it.
    """

    returncode: Number
    stdout: str = ""
    stderr: str = ""
    files: dict[str, bytes] = msgspec.field(default_factory=dict)


class DeviceInfo(Record, frozen=True):
    """The machine that a profile was made on, as it was then; None is unknown.

    Attributes:
        name: as in ``--device``.
        architecture: as in "x86_64", "aarch64".
        cores: that this process may use; ``physical_cores`` counts hyper-threads once.
        governor: of the clock frequency; "" where the machine does not tell.
        load_average: processes that wanted to run in the last minute, before measuring.
    """

    name: str
    cpu: str
    architecture: str
    cores: Positive
    physical_cores: Positive
    system: str
    governor: str = ""
    memory_mb: Count | None = None
    load_average: Load | None = None


class LatencySummary(Record, frozen=True):
    """Figures over all counted inferences; quantiles are interpolated linearly."""

    count: Positive
    mean_ms: Milliseconds
    min_ms: Milliseconds
    p50_ms: Milliseconds
    p90_ms: Milliseconds
    p99_ms: Milliseconds
    max_ms: Milliseconds


class Block(Record, frozen=True):
    """Inferences of one artifact without a pause.

    Attributes:
        start_ms: since the job began.
        samples_ns: every inference in order: input handed over, executed, outputs read.
        frequency_mhz: of the fastest core right after; None where the machine does not tell.
        temperature_c: of the hottest sensor right after; None where the machine does not tell.
    """

    start_ms: Delay
    samples_ns: Annotated[tuple[Nanoseconds, ...], msgspec.Meta(min_length=1)]
    frequency_mhz: Megahertz | None = None
    temperature_c: Celsius | None = None


class Launch(Record, frozen=True):
    """One process that loaded an artifact and measured some of its blocks.

    Attributes:
        import_ms: the runtime's own start, before the artifact is touched.
        load_ms: until the artifact is ready to run. The file was read just before, so this is
            without the time of a cold disk.
        first_run_ms: of the first inference.
        memory_before_load_mb: resident, with the runtime imported, in MiB.
        peak_memory_mb: largest resident memory since then, the runtime included, in MiB.
        peak_since_load: False where the kernel cannot forget the peak of importing the runtime, so
            that ``peak_memory_mb`` may be of that.
        overhead_ns: median time of an empty call, measured the same way; it is not subtracted.
    """

    import_ms: Delay
    load_ms: Milliseconds
    first_run_ms: Milliseconds
    memory_before_load_mb: Mebibytes
    peak_memory_mb: Mebibytes
    peak_since_load: bool
    overhead_ns: NotNegative
    blocks: Annotated[tuple[Block, ...], msgspec.Meta(min_length=1)]


class Caution(Record, frozen=True):
    """Something that a reader of the figures should know.

    Attributes:
        numbers: what it was judged by.
        message: what was seen, as a sentence.
        advice: what to do about it.
    """

    code: CautionCode
    numbers: dict[str, Finite]
    message: str
    advice: str


class Profile(Record, frozen=True):
    """One artifact on one device.

    Attributes:
        label: the artifact's path as it was given; a repeated one is followed by " (2)".
        resolution: height and width of the input.
        trained: False for random weights, which is good enough for latency.
        collapse: why the artifact must not be shipped, as its manifest says; "" where it may.
        macs, parameters: of the network at this resolution; None where no spec describes it.
        load_ms, first_run_ms, memory_before_load_mb: medians over the launches.
        throughput_per_s: pictures per second of the counted inferences, one after the other.
        peak_memory_mb: the largest of all launches.
        throttle_events: thermal throttling that the machine counted meanwhile; None: unknown.
        versions: of the packages that executed it.
    """

    label: str
    sha256: str
    size_bytes: Positive
    target: str
    delegate: str
    recipe: str
    model: str
    resolution: tuple[Side, Side]
    batch: Side
    trained: bool
    source: Source
    device: DeviceInfo
    threads: Positive
    load_ms: Milliseconds
    first_run_ms: Milliseconds
    latency: LatencySummary
    throughput_per_s: NotNegative
    memory_before_load_mb: Mebibytes
    peak_memory_mb: Mebibytes
    throttle_events: Count | None
    versions: dict[str, str]
    cautions: tuple[Caution, ...]
    launches: Annotated[tuple[Launch, ...], msgspec.Meta(min_length=1)]
    macs: Count | None = None
    parameters: Count | None = None
    collapse: str = ""


class Ratio(Record, frozen=True):
    """How much longer one artifact takes than the baseline.

    Attributes:
        artifact, baseline: labels of their profiles.
        ratio: median over the rounds of the two block medians' ratio; 2.0 is twice as slow.
        interval: Student's over launches, each one figure. Where it holds 1.0, the two cannot
            be told apart.
    """

    artifact: str
    baseline: str
    ratio: Factor
    interval: Interval
    launches: Positive
    rounds: Positive


class ProfileFailure(Record, frozen=True):
    """An artifact that could not be measured while others were."""

    label: str
    error: str
    hint: str
    exit_code: ExitCode


OPERATORS_SCHEMA = 1


class OperatorTime(Record, frozen=True):
    """One operator of the graph that the runtime executes, which is not always the file's.

    Attributes:
        name: of the node, in the runtime's words.
        operator: kind, as in "QLinearConv".
        dtype: of its output, as in "uint8": a float operator in an int8 network stands out.
        output: shape of its output.
        mean_ms: over the counted inferences.
        share: of the whole inference, in 0..1.
    """

    name: str
    operator: str
    dtype: str
    output: tuple[Count, ...]
    mean_ms: Delay
    share: Share


class OperatorKindTime(Record, frozen=True):
    """All operators of one kind; see `OperatorTime`."""

    operator: str
    count: Positive
    mean_ms: Delay
    share: Share


class OperatorTimes(Record, frozen=True):
    """Times of the operators of one artifact on one device.

    They come from a process of their own, because recording them slows the runtime down: shares are
    what they are good for, and ``inference_ms`` is no latency.

    Where ``source`` is "emulated" there is no time in them: a millisecond is a million
    instructions, and ``amount`` says it so.

    Attributes:
        label: the artifact's path as it was given.
        resolution: height and width of the input.
        trained: False for random weights.
        unavailable: why there are no times; "" where there are.
        runs: inferences that count.
        inference_ms: mean of a whole inference while it was recorded; None without times.
        outside_ms: of it, what is in no operator.
        operators: in the order of execution.
        kinds: the most expensive first.
        versions: of the packages that executed it.
    """

    label: str
    sha256: str
    target: str
    delegate: str
    recipe: str
    model: str
    resolution: tuple[Side, Side]
    trained: bool
    device: DeviceInfo
    threads: Positive
    unavailable: str
    edgese: str
    created: str
    runs: Count = 0
    inference_ms: Delay | None = None
    outside_ms: Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)] | None = None
    operators: tuple[OperatorTime, ...] = ()
    kinds: tuple[OperatorKindTime, ...] = ()
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    source: Source = "measured"
    schema: int = OPERATORS_SCHEMA

    def amount(self, mean_ms: float) -> str:
        """What an operator takes, with its unit."""
        return f"{mean_ms:.3f} {'M instructions' if self.source == 'emulated' else 'ms'}"


SustainedCautionCode = Literal[
    "THROTTLED", "DRIFT", "FELL_OFF", "INTERRUPTED", "WARM_START", "CAUSE_UNKNOWN"
]

SUSTAINED_SCHEMA = 1


class SustainedCaution(Record, frozen=True):
    """Something that a reader of a curve should know.

    Attributes:
        numbers: what it was judged by.
        message: what was seen, as a sentence.
        advice: what to do about it.
    """

    code: SustainedCautionCode
    numbers: dict[str, Finite]
    message: str
    advice: str


class SustainedCurve(Record, frozen=True):
    """One artifact that ran without a pause.

    Attributes:
        label: the artifact's path as it was given.
        resolution: height and width of the input.
        trained: False for random weights.
        complete: False where it was interrupted; the windows until then are kept.
        launch: its process. Each block is a window: inferences without a pause, with the clock and
            the temperature right after.
        start_temperature_c: before it was loaded; None where the machine does not tell.
        throttle_events: that the machine counted meanwhile; None: unknown.
        span_s: of what ``first`` and ``last`` are about: a minute, or a third of a shorter run.
        first, last: the inferences of the first and of the last ``span_s``.
        ratio: p50 of the last span / of the first one; 1.2 is 20 % slower in the end.
        fell_off_s: when latency left the first span's for good: from then on nine of ten windows
            have a median that is 5 % or more above its p50. None where it did not.
        versions: of the packages that executed it.
    """

    label: str
    sha256: str
    target: str
    delegate: str
    recipe: str
    model: str
    resolution: tuple[Side, Side]
    trained: bool
    complete: bool
    launch: Launch
    start_temperature_c: Celsius | None
    throttle_events: Count | None
    span_s: Seconds
    first: LatencySummary
    last: LatencySummary
    ratio: Factor
    fell_off_s: Seconds | None
    versions: dict[str, str]
    cautions: tuple[SustainedCaution, ...] = ()
    source: Source = "measured"


class RankSwap(Record, frozen=True):
    """Two artifacts of which the faster one of the first span is the slower one of the last.

    Attributes:
        ahead: label of the one that is faster in the first span.
        behind: label of the one that is faster in the last span.
        first_ratio, last_ratio: p50 of ``behind`` / of ``ahead``; above 1, then below.
        crossed_s: from when on ``behind`` is the faster one for good.
    """

    ahead: str
    behind: str
    first_ratio: Factor
    last_ratio: Factor
    crossed_s: Seconds | None


class SustainedResult(Record, frozen=True):
    """What ``edgese profile --sustained`` leaves.

    Artifacts run one after the other, each for the whole time, because the heat of one would show
    in the curve of another if they took turns.

    Attributes:
        seconds: that each was to run; ``rest_s``: the pause between two.
        window_s: length of a window, at least: it ends with the inference that is under way.
        ranks_first, ranks_last: labels, the fastest first, by p50 of the first and last span.
        swaps: where the two differ by more than noise.
        complete: False where artifacts are missing or a curve was interrupted.
    """

    device: DeviceInfo
    threads: Positive
    seconds: Seconds
    window_s: Seconds
    rest_s: Seconds
    curves: tuple[SustainedCurve, ...]
    ranks_first: tuple[str, ...]
    ranks_last: tuple[str, ...]
    swaps: tuple[RankSwap, ...]
    failures: tuple[ProfileFailure, ...]
    complete: bool
    edgese: str
    created: str
    schema: int = SUSTAINED_SCHEMA


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
