"""Budgets, baselines, verdicts, and what a gate or a comparison says."""

from typing import Annotated, Final, Literal

import msgspec

from edgese.records.base import Interval, Record
from edgese.records.bounds import (
    Count,
    ExitCode,
    Figure,
    Finite,
    Milliseconds,
    NotNegative,
    Positive,
    Share,
)
from edgese.records.evaluation import Agreement
from edgese.records.measurement import DeviceInfo, MeasurePlan, Profile, Ratio

BudgetSource = Literal["measured", "emulated", "predicted", "estimated"]

_AtLeastZero = Annotated[float, msgspec.Meta(ge=0)]
_AboveZero = Annotated[float, msgspec.Meta(gt=0)]

# What a slowdown beside the baseline is where no budget says it.
MAX_SLOWDOWN: Final = 0.05

TIMES: Final = (
    "latency_p50_ms",
    "latency_p90_ms",
    "load_ms",
    "first_run_ms",
    "sustained_p50_ms",
)
# What can tell a quantity that no time is; times are told by what `BudgetTable.sources` says.
SOURCES: Final[dict[str, tuple[str, ...]]] = {
    "memory_mb": ("measured",),
    "size_bytes": ("read",),
    "macs": ("counted",),
    "instructions": ("emulated",),
    "partitions": ("read",),
    "cpu_operators": ("read",),
    # A gate has none that is published: it judges files, and tables are about networks.
    "accuracy": ("evaluated", "published"),
    "accuracy_drop": ("evaluated",),
    "slowdown": ("measured",),
    "size_growth": ("read",),
    "memory_growth": ("measured",),
}
# Keys of a table whose quantity has another name, or another unit.
_NAMES: Final = {
    "max_slowdown": "slowdown",
    "max_size_growth": "size_growth",
    "max_memory_growth": "memory_growth",
}
FLOORS: Final = frozenset({"accuracy"})
# Limits against the baseline; without one there is nothing to judge them by.
RELATIVE: Final = frozenset({"slowdown", "size_growth", "memory_growth"})


class Limit(Record, frozen=True):
    """A bound on one quantity.

    Attributes:
        name: the key in the budget.
        quantity: as in `edgese.records.budget.Observation.quantity`.
        at_most: False where the figure must be at least the bound.
        sources: of figures that it is judged by.
        device, target: that it is for; "" is every one.
    """

    name: str
    quantity: str
    bound: float
    at_most: bool
    sources: tuple[str, ...]
    device: str = ""
    target: str = ""


class BudgetTable(Record, frozen=True):
    """One ``[[budget]]`` table: limits for a device and a target.

    Attributes:
        device, target: as in ``--device`` and ``--target``; "" is every one.
        sources: that a time may be told by.
        latency_p50_ms, latency_p90_ms: of one inference.
        load_ms: until the artifact is ready to run.
        first_run_ms: of a process's first inference.
        sustained_p50_ms: p50 at the end of ``edgese profile --sustained``.
        size_mb: of the file, in 10^6 bytes; ``size_bytes`` says the same in bytes.
        memory_mb: largest resident memory of a process, its runtime included, in MiB.
        macs: multiply-adds of one inference.
        instructions: of one inference on the emulated processor ``device``.
        cpu_operators: that the delegate leaves to the processor.
        partitions: pieces that the delegate executes.
        accuracy: top-1 on labelled pictures, at least, in 0..1.
        accuracy_drop: top-1 below the fp32 reference on the same pictures, at most, in 0..1.
        max_slowdown: of p50 beside the baseline; 0.05 is 5 %.
        max_size_growth, max_memory_growth: beside the baseline, as shares.

    Raises:
        ValueError: ``size_mb`` and ``size_bytes`` at once, or no limit at all.
    """

    device: str = ""
    target: str = ""
    sources: Annotated[tuple[BudgetSource, ...], msgspec.Meta(min_length=1)] = ("measured",)
    latency_p50_ms: _AboveZero | None = None
    latency_p90_ms: _AboveZero | None = None
    load_ms: _AboveZero | None = None
    first_run_ms: _AboveZero | None = None
    sustained_p50_ms: _AboveZero | None = None
    size_mb: _AboveZero | None = None
    size_bytes: Count | None = None
    memory_mb: _AboveZero | None = None
    macs: _AboveZero | None = None
    instructions: _AboveZero | None = None
    cpu_operators: Count | None = None
    partitions: Count | None = None
    accuracy: Share | None = None
    accuracy_drop: Share | None = None
    max_slowdown: _AtLeastZero | None = None
    max_size_growth: _AtLeastZero | None = None
    max_memory_growth: _AtLeastZero | None = None

    def __post_init__(self) -> None:
        """Refuses what says one thing twice, or nothing."""
        if self.size_mb is not None and self.size_bytes is not None:
            raise ValueError("size_mb and size_bytes are both given; one says it")
        if not self.limits():
            raise ValueError("a [[budget]] table without a single limit")
        if not all(limit.bound < float("inf") for limit in self.limits()):
            raise ValueError("a limit is infinite; leave it out")

    def limits(self) -> tuple[Limit, ...]:
        """Every limit that the table sets, in the order of its keys."""
        told = {"device", "target", "sources"}
        return tuple(
            self._limit(field.name, bound)
            for field in msgspec.structs.fields(self)
            if field.name not in told and (bound := getattr(self, field.name)) is not None
        )

    def _limit(self, name: str, bound: float) -> Limit:
        quantity = "size_bytes" if name == "size_mb" else _NAMES.get(name, name)
        return Limit(
            name=name,
            quantity=quantity,
            bound=bound * 1e6 if name == "size_mb" else bound,
            at_most=quantity not in FLOORS,
            sources=self.sources if quantity in TIMES else SOURCES[quantity],
            device=self.device,
            target=self.target,
        )


class Budget(Record, frozen=True):
    """All of a budget's file, or the ``[[budget]]`` tables of an ``edgese.toml``.

    A single table may be written ``[budget]``.
    """

    budget: tuple[BudgetTable, ...] | BudgetTable

    @property
    def tables(self) -> tuple[BudgetTable, ...]:
        """The tables in their order."""
        return (self.budget,) if isinstance(self.budget, BudgetTable) else self.budget

    def limits_for(self, device: str, target: str) -> tuple[Limit, ...]:
        """The limits that hold for a target on a device; where several set one key, all hold."""
        return tuple(
            limit
            for table in self.tables
            if table.device in ("", device) and table.target in ("", target)
            for limit in table.limits()
        )

    def limits_on(self, device: str) -> tuple[Limit, ...]:
        """The limits that hold on a device, each with the target that it is for."""
        return tuple(
            limit
            for table in self.tables
            if table.device in ("", device)
            for limit in table.limits()
        )


Verdict = Literal["meets", "misses", "unclear"]

# The most trustworthy first.
ObservationSource = Literal[
    "measured",
    "evaluated",
    "read",
    "counted",
    "published",
    "emulated",
    "estimated",
    "predicted",
    "expected",
    "bounded",
]


class Observation(Record, frozen=True):
    """One thing that is known of an artifact.

    Attributes:
        quantity: in the words of budgets, its unit at the end.
        value: the best guess.
        low, high: ends of its interval; None as ``high`` is no bound.
        told: what it rests on, in words.
    """

    quantity: str
    value: Finite
    low: Finite
    high: Finite | None
    source: ObservationSource
    told: str = ""


class Judged(Record, frozen=True):
    """One limit of the budget, held against one artifact.

    Attributes:
        limit: the key in the budget.
        verdict: "unclear" where the interval holds the bound, or where nothing that the budget
            accepts is known.
        value, interval: what it was judged by; None where nothing is known. The confidence is what
            is left for this cell where several are judged together.
        source: of that; "" where nothing is known.
        p_value: of the hypothesis that the true figure is just the bound; None where the figure is
            exact, or where it is not known how it spreads.
        smallest_seen: the least figure beyond the bound that such data would call a miss in 95 of
            100 cases; None where it is exact.
        reason: what decided, or what is missing, as a sentence.
        next_step: of an unclear verdict: the command that would settle it. A word of it in
            capitals stands for something that the user has.
    """

    limit: str
    quantity: str
    bound: Finite
    at_most: bool
    verdict: Verdict
    value: Finite | None = None
    interval: Interval | None = None
    source: str = ""
    p_value: Share | None = None
    smallest_seen: Finite | None = None
    reason: str = ""
    next_step: str = ""


BASELINE_SCHEMA: Final = 1
NOISE_SCHEMA: Final = 2

# Runs of one calibration, if nobody says.
NOISE_RUNS: Final = 20


class BaselineCell(Record, frozen=True):
    """One artifact on one device.

    Attributes:
        name: of the artifact's file, by which later ones are matched with it.
        device: as in ``--device``.
        plan: that it was measured with.
        artifact: where it was kept, relative to the baseline's folder; "" where it was not.
        measured: when, UTC, ISO 8601.
    """

    name: str
    device: str
    plan: MeasurePlan
    profile: Profile
    artifact: str = ""
    measured: str = ""


class Baseline(Record, frozen=True):
    """What ``edgese baseline update`` leaves.

    Attributes:
        seal: see `edgese.seals`.
    """

    cells: tuple[BaselineCell, ...]
    edgese: str
    created: str
    seal: str = ""
    schema: int = BASELINE_SCHEMA


class Noise(Record, frozen=True):
    """One artifact measured again and again, of which nothing changed.

    Attributes:
        label, sha256: of the artifact.
        plan: of each run.
        levels_ms: the latency of each run, see `edgese.budgets.regression.level`.
        figures: of each quantity that a process run has, the figure of each run, by the names of
            `edgese.measure.summary.OF_LAUNCH`.
        created: of each run, UTC, ISO 8601.

    Raises:
        ValueError: not every run has all of them.
    """

    device: DeviceInfo
    target: str
    delegate: str
    threads: Positive
    label: str
    sha256: str
    plan: MeasurePlan
    levels_ms: Annotated[tuple[Milliseconds, ...], msgspec.Meta(min_length=1)]
    figures: dict[str, tuple[Figure, ...]]
    created: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what has runs without a time or a figure."""
        counts = {len(self.created), *map(len, self.figures.values())}
        if counts != {len(self.levels_ms)}:
            raise ValueError("runs without a time or a figure")


class NoiseFile(Record, frozen=True):
    """What ``edgese profile --calibrate-noise`` leaves: one entry a device, runtime and threads.

    Attributes:
        seal: see `edgese.seals`.
    """

    noises: tuple[Noise, ...]
    edgese: str
    seal: str = ""
    schema: int = NOISE_SCHEMA


DIFFERENCE_SCHEMA: Final = 1

Area = Literal[
    "network", "numbers", "operators", "coverage", "toolchain", "file", "machine", "time"
]


class Change(Record, frozen=True):
    """One thing that is not the same.

    Attributes:
        what: in the words of manifests and profiles.
        before, after: "-" where one has none.
        slower: why this may make the second slower, as a sentence; "" where it does not.
        weight: of that among the reasons: the largest is told first.
    """

    area: Area
    what: str
    before: str
    after: str
    slower: str = ""
    weight: NotNegative = 0.0


class Differences(Record, frozen=True):
    """What ``edgese diff`` leaves.

    Attributes:
        first, second: as they were named.
        changes: area by area.
        reasons: why the second may be slower, the likeliest first.
        notes: what could not be looked at.
    """

    first: str
    second: str
    changes: tuple[Change, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    schema: int = DIFFERENCE_SCHEMA


GATE_SCHEMA: Final = 1
COMPARISON_SCHEMA: Final = 1


class GateCell(Record, frozen=True):
    """One limit held against one artifact on one device.

    Attributes:
        name: of the artifact's file.
        origin: the file that it was read from; the artifact's path where it was measured now.
    """

    name: str
    device: str
    target: str
    origin: str
    judged: Judged


class Untrusted(Record, frozen=True):
    """An input that cannot be judged, which is never a pass.

    Attributes:
        exit_code: see `edgese.errors`.
    """

    origin: str
    message: str
    hint: str
    exit_code: ExitCode


class GateResult(Record, frozen=True):
    """All limits, and what follows.

    Attributes:
        budget, baseline, noise: the files that decided; "" for none.
        project: the edgese.toml whose folder names devices, targets and recipes; "" for none.
        cells: artifact x device x target x limit, in that order.
        error_rate: of a wrong verdict in any of the cells, at most.
        verdict: the worst of all; "unclear" where an input cannot be trusted.
        exit_code: 0 only where every input was trusted and every limit is met.
    """

    budget: str
    baseline: str
    cells: tuple[GateCell, ...]
    untrusted: tuple[Untrusted, ...]
    notes: tuple[str, ...]
    error_rate: Share
    verdict: Verdict
    exit_code: ExitCode
    edgese: str
    created: str
    noise: str = ""
    project: str = ""
    schema: int = GATE_SCHEMA

    @property
    def deciding(self) -> dict[str, str]:
        """The files that decided, by what they are."""
        told = {name: getattr(self, name) for name in ("budget", "baseline", "noise", "project")}
        return {name: path for name, path in told.items() if path}


class Comparison(Record, frozen=True):
    """Two artifacts that took turns on one device.

    Attributes:
        verdict: of the second beside the first; "cannot tell" where the interval reaches into the
            margin.
        margin: a difference that does not matter, as a share.
        ratio: time of the second / time of the first.
        smallest_seen: the least slowdown beyond the margin that such data would show in 95 of 100
            cases, as a share.
        profiles: of the first and the second.
        agreement: of their answers, where pictures were given.
        accuracy_verdict: of the second beside the first, by McNemar's exact test; "" without.
    """

    verdict: Literal["faster", "slower", "cannot tell"]
    margin: NotNegative
    ratio: Ratio
    smallest_seen: Finite
    profiles: tuple[Profile, Profile]
    plan: MeasurePlan
    edgese: str
    created: str
    agreement: Agreement | None = None
    accuracy_verdict: Literal["", "better", "worse", "cannot tell"] = ""
    schema: int = COMPARISON_SCHEMA
