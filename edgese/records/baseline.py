"""What later artifacts are held against, and how far a device is off from itself."""

from typing import Annotated, Final

import msgspec

from edgese.records.base import Record
from edgese.records.bounds import Figure, Milliseconds, Positive
from edgese.records.measurement import DeviceInfo, MeasurePlan, Profile

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
