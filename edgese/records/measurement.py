"""What measuring is asked for, what a device runs, and what comes back."""

from typing import Annotated, Final, Literal

import msgspec

from edgese.records.base import Record
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
    Side,
)
from edgese.records.interval import Interval

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
