"""The limits that a budget has for a device, as the selection judges them."""

from pathlib import Path
from typing import Annotated, Final

import msgspec

from edgese.errors import ConfigError, InputError
from edgese.records.base import Record
from edgese.selection.limits import Limit

FLOORS: Final = frozenset({"accuracy"})
_TIMES: Final = ("latency_p50_ms", "latency_p90_ms", "first_run_ms", "sustained_p50_ms")
_SOURCES: Final = {
    "memory_mb": frozenset({"measured"}),
    "size_bytes": frozenset({"read"}),
    "macs": frozenset({"counted"}),
    "instructions": frozenset({"emulated"}),
    "partitions": frozenset({"read"}),
    "cpu_operators": frozenset({"read"}),
    "accuracy": frozenset({"evaluated", "published"}),
}

Bound = Annotated[float, msgspec.Meta(ge=0)]


class BudgetTable(Record, frozen=True):
    """The limits of one ``[[budget]]``."""

    device: str = ""
    target: str = ""
    sources: tuple[str, ...] = ("measured",)
    latency_p50_ms: Bound | None = None
    latency_p90_ms: Bound | None = None
    first_run_ms: Bound | None = None
    sustained_p50_ms: Bound | None = None
    memory_mb: Bound | None = None
    size_bytes: Bound | None = None
    macs: Bound | None = None
    instructions: Bound | None = None
    partitions: Bound | None = None
    cpu_operators: Bound | None = None
    accuracy: Bound | None = None


class BudgetTables(Record, frozen=True):
    """A budget's file."""

    budget: tuple[BudgetTable, ...]


def limits(path: Path | None, device: str) -> tuple[Limit, ...]:
    """The limits for a device."""
    if path is None:
        raise ConfigError("No budget was named.", hint="Give --budget FILE.")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", hint="Name a budget."
        ) from error
    found = [
        Limit(
            name=name,
            quantity=name,
            bound=bound,
            at_most=name not in FLOORS,
            sources=frozenset(table.sources) if name in _TIMES else _SOURCES[name],
            target=table.target,
        )
        for table in BudgetTables.from_toml(text, path).budget
        if table.device in ("", device)
        for name in (*_TIMES, *_SOURCES)
        if (bound := getattr(table, name)) is not None
    ]
    if not found:
        raise ConfigError(f"{path} has no limit for {device}.", hint="Add one.")
    return tuple(found)
