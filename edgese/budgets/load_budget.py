"""Finds and reads the budget: a file that was named, or the project's ``edgese.toml``."""

from pathlib import Path

from edgese import catalog, project
from edgese.bounds import TOML_BYTES, content
from edgese.errors import ConfigError, InputError
from edgese.records.budget import Budget


def load_budget(path: Path | None) -> Budget:
    """The budget of a file, or where none is named that of the project.

    Raises:
        ConfigError: neither has one; or a table names a device or a target that is not known.
        InputError: it cannot be read, or has a key or a value that cannot be; the key is told.
    """
    if path is None:
        tables = project.file().budget
        if not tables:
            raise ConfigError(
                "No budget was named, and no edgese.toml here or above has a [[budget]] table.",
                hint="Give --budget FILE, a TOML file such as: [[budget]] latency_p50_ms = 12.0",
            )
        found, source = Budget(budget=tables), project.place()
    else:
        text = content(path, "budget", TOML_BYTES, hint="Name a TOML file with [[budget]] tables.")
        found, source = Budget.from_toml(text, path), str(path)
    if not found.tables:
        raise InputError(f"{source} has no [[budget]] table.", hint="Write one.")
    for table in found.tables:
        _check_names(table.device, table.target, source)
    return found


def budget_place(path: Path | None) -> str:
    """The path of the budget's file: the one that was named, or the project's."""
    return str(path) if path is not None else project.place()


def _check_names(device: str, target: str, source: str) -> None:
    """A misspelt name would be a limit that silently holds for nothing."""
    for kind, name, known in (
        ("device", device, catalog.device_names()),
        ("target", target, catalog.target_names()),
    ):
        if name and name not in known:
            raise ConfigError(
                f"{source} has a limit for the {kind} {name!r}, which is not known.",
                hint=f"Known: {', '.join(known)}.",
            )
