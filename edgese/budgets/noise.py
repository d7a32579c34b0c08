"""How far a device is off from itself: measured, stored, and found again."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from edgese import project
from edgese.budgets.inputs import check_moment
from edgese.budgets.regression import FEWEST_RUNS, figure_of, level, like, same_machine
from edgese.errors import ConfigError, InputError, MeasurementError
from edgese.measure.summary import OF_LAUNCH
from edgese.records.budget import NOISE_RUNS, Noise, NoiseFile
from edgese.records.profile import ProfileResult
from edgese.seals import sealed
from edgese.store import cache_folder, read_sealed, write_record
from edgese.version import __version__

FILE: Final = "noise.json"
REMAKE: Final = "edgese profile ARTIFACT --calibrate-noise --noise FILE"


def place() -> Path:
    """Where noise is kept if nobody says: beside ``edgese.toml``, else in the cache.

    Raises:
        ConfigError: there is one beside it that is somebody else's, see
            `edgese.project.check_owner`.
    """
    folder = project.root()
    if folder is None:
        return cache_folder() / FILE
    if (folder / FILE).exists():
        project.check_owner(folder / FILE)
    return folder / FILE


def read_noise(path: Path) -> NoiseFile:
    """The noise in a file.

    Raises:
        InputError: it is missing, not readable, or contradicts itself.
        StoreError: it was changed since it was written, or its schema is another.
    """
    found = read_sealed(NoiseFile, path, remake=REMAKE)
    for noise in found.noises:
        if len(noise.created) != len(noise.levels_ms):
            raise InputError(
                f"{path} has {len(noise.levels_ms)} runs of {noise.label} and "
                f"{len(noise.created)} times.",
                hint=f"Make it again: `{REMAKE}`.",
            )
        for moment in noise.created:
            check_moment(moment, path)
    return found


def calibrated(
    measure: Callable[[], ProfileResult],
    path: Path,
    *,
    runs: int = NOISE_RUNS,
    pause_s: float = 0.0,
    told: Callable[[int, float], None],
) -> Noise:
    """Measures one artifact again and again, and writes how far the runs differ.

    Each run is written when it is done, so that what an interruption leaves is gone on with. Where
    ``path`` has runs of the very same measurement, the new ones are added to them: noise from week
    to week is more than noise from minute to minute.

    Args:
        measure: one run of one artifact.
        runs: that are made now.
        pause_s: between two.
        told: is given the number of a run and its latency in ms.

    Raises:
        ConfigError: too few runs.
        MeasurementError: it was not measured, or not alone.
        Others as `read_noise` and ``measure``.
    """
    if runs < FEWEST_RUNS:
        raise ConfigError(
            f"{runs} runs were asked for.", hint=f"Give {FEWEST_RUNS} or more: --runs {NOISE_RUNS}."
        )
    noises = list(read_noise(path).noises) if path.exists() else []
    noise: Noise | None = None
    for number in range(runs):
        if number and pause_s:
            time.sleep(pause_s)
        one = _run(measure())
        noise = next((known for known in noises if _same(known, one)), None)
        if noise is not None:
            noises.remove(noise)
            one = msgspec.structs.replace(
                one,
                levels_ms=(*noise.levels_ms, *one.levels_ms),
                figures={
                    name: (*before, *one.figures[name])
                    for name, before in noise.figures.items()
                    if name in one.figures
                },
                created=(*noise.created, *one.created),
            )
        noises.append(one)
        noise = one
        write_record(sealed(NoiseFile(noises=tuple(noises), edgese=__version__)), path)
        told(number + 1, one.levels_ms[-1])
    assert noise is not None  # noqa: S101  # there is at least one run
    return noise


def _run(result: ProfileResult) -> Noise:
    if len(result.profiles) != 1 or result.plan is None:
        raise MeasurementError(
            f"{len(result.profiles)} artifacts were measured where one was asked for."
            + (f" {result.absence}" if result.absence else ""),
            hint="Name one artifact, and a device that is there.",
        )
    profile = result.profiles[0]
    return Noise(
        device=profile.device,
        target=profile.target,
        delegate=profile.delegate,
        threads=profile.threads,
        label=profile.label,
        sha256=profile.sha256,
        plan=result.plan,
        levels_ms=(level(profile.launches),),
        figures={name: (figure_of(name, profile.launches).value,) for name in OF_LAUNCH},
        created=(result.created,),
    )


def _same(one: Noise, other: Noise) -> bool:
    return (
        same_machine(one.device, other.device)
        and like(one.plan, other.plan)
        and (one.target, one.delegate, one.threads, one.sha256)
        == (other.target, other.delegate, other.threads, other.sha256)
    )
