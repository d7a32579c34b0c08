"""What artifacts must keep to: limits for a device and a target, as a budget says them."""

from typing import Annotated, Final, Literal

import msgspec

from edgese.records.base import Record
from edgese.records.bounds import Count, Share

BudgetSource = Literal["measured", "emulated", "predicted", "estimated"]

NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]

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
        quantity: as in `edgese.records.verdict.Observation.quantity`.
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
    latency_p50_ms: Positive | None = None
    latency_p90_ms: Positive | None = None
    load_ms: Positive | None = None
    first_run_ms: Positive | None = None
    sustained_p50_ms: Positive | None = None
    size_mb: Positive | None = None
    size_bytes: Count | None = None
    memory_mb: Positive | None = None
    macs: Positive | None = None
    instructions: Positive | None = None
    cpu_operators: Count | None = None
    partitions: Count | None = None
    accuracy: Share | None = None
    accuracy_drop: Share | None = None
    max_slowdown: NotNegative | None = None
    max_size_growth: NotNegative | None = None
    max_memory_growth: NotNegative | None = None

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
