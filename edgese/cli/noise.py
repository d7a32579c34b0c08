"""``edgese profile --calibrate-noise``."""

from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING

from edgese.errors import ConfigError

if TYPE_CHECKING:
    from edgese.budgets.measuring import Measuring
    from edgese.cli.ui import Bars
    from edgese.records.budget import Noise


def calibrate(
    artifacts: Sequence[Path],
    device: str,
    how: "Measuring",
    *,
    runs: int,
    place: Path | None,
    show: "Bars",
) -> tuple["Noise", Path]:
    """Measures one artifact again and again, and keeps how far the runs differ.

    Raises:
        ConfigError: several artifacts, or too few runs.
        Others as `edgese.budgets.noise.calibrated`.
    """
    from edgese.budgets import noise
    from edgese.budgets.measuring import measure
    from edgese.store import writable_file

    if len(artifacts) != 1:
        raise ConfigError(
            f"{len(artifacts)} artifacts were named; noise is that of one.",
            hint="Name one. What is found holds for others of its runtime and thread count.",
        )
    path = place or noise.place()
    writable_file(path)
    found = noise.calibrated(
        lambda: measure(artifacts, device, how),
        path,
        runs=runs,
        told=lambda number, level_ms: show(
            "calibrate", f"run {number} of {runs}: {level_ms:.3f} ms", number / runs
        ),
    )
    return found, path


def show_noise(noise: "Noise", path: Path) -> None:
    """What was found, and what can be seen with it."""
    from edgese.budgets.regression import slowdown_seen, spread
    from edgese.cli import ui
    from edgese.records.budget import MAX_SLOWDOWN

    runs, _ = spread(noise)
    ui.echo(
        f"{noise.device.name}, {noise.target} ({noise.delegate}), {noise.threads} threads: runs of "
        f"one artifact differ by {100 * (exp(runs) - 1):.1f} % ({len(noise.levels_ms)} runs)"
    )
    ui.echo(
        f"Compared from files, a slowdown beyond {100 * MAX_SLOWDOWN:g} % is seen from "
        f"{100 * slowdown_seen(noise, MAX_SLOWDOWN):.1f} % on, in 95 of 100 cases."
    )
    ui.echo(f"kept in {path}")
