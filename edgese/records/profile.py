"""Results of `edgese profile`, and bundles that bring them home."""

from typing import Literal

from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.bounds import Count, Side
from edgese.records.device import DeviceFacts, PhoneState
from edgese.records.emulation import Emulation, Estimate
from edgese.records.measurement import (
    BinaryRun,
    DeviceInfo,
    MeasurePlan,
    OperatorTimes,
    Outcome,
    Profile,
    ProfileFailure,
    Ratio,
    SustainedResult,
)
from edgese.records.prediction import Prediction

PROFILE_SCHEMA = 2


class ProgramProfile(Record, frozen=True):
    """An artifact that was measured by its runtime's own benchmark program.

    Attributes:
        label: the artifact's path as it was given.
        program, program_sha256: the file that was run.
        collapse: why the artifact must not be shipped, as its manifest says; "" where it may.
    """

    label: str
    sha256: str
    target: str
    recipe: str
    model: str
    resolution: tuple[Side, Side]
    trained: bool
    device: str
    threads: Count
    program: str
    program_sha256: str
    run: BinaryRun
    collapse: str = ""
    source: Literal["measured"] = "measured"


class SweepArtifact(Record, frozen=True):
    """An artifact that is measured in a sweep."""

    label: str
    sha256: str


class Sweep(Record, frozen=True):
    """How many artifacts are shared out over several jobs, and how far that is.

    Attributes:
        device: that the first group was measured on; a sweep is resumed on the same only.
        groups: positions of the artifacts that are measured together. The first artifact is the
            baseline of all ratios and leads every group.
        done: groups that are measured, in this order.
        runner_sha256: of the program that measures.
    """

    device: DeviceInfo
    artifacts: tuple[SweepArtifact, ...]
    groups: tuple[tuple[Count, ...], ...]
    done: Count
    runner_sha256: str


class ProfileResult(Record, frozen=True):
    """All that could be said of artifacts on a device.

    Only ``profiles`` and ``programs`` are figures of the device itself.

    Attributes:
        device: as it was asked for.
        absence: why nothing was measured on it; "" where it was, and where it is no device that
            anything can be measured on.
        plan: None where nothing was measured with edgese's own runner.
        ratios: against the first artifact of ``profiles``.
        emulations: on an emulated processor with the same instructions as its fastest cores.
        estimates: of a compiler's own model of the device.
        notes: what could not be had, and why.
        operators: what each operator takes, where it was asked for.
        sustained: how latency went on without a pause, where it was asked for.
        before, after: a phone or a board around the measurement.
        complete: False while groups of a sweep are missing.
        seal: see `edgese.seals`; "" while groups are missing.
        sweep: where artifacts were measured in groups. The baseline has a profile for each group,
            as in "a.tflite (group 2)", and ratios are told against the one of the same group.
    """

    device: str
    edgese: str
    created: str
    absence: str = ""
    plan: MeasurePlan | None = None
    profiles: tuple[Profile, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    failures: tuple[ProfileFailure, ...] = ()
    programs: tuple[ProgramProfile, ...] = ()
    emulations: tuple[Emulation, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    operators: tuple[OperatorTimes, ...] = ()
    sustained: SustainedResult | None = None
    notes: tuple[str, ...] = ()
    before: PhoneState | None = None
    after: PhoneState | None = None
    complete: bool = True
    sweep: Sweep | None = None
    seal: str = ""
    schema: int = PROFILE_SCHEMA


BUNDLE_SCHEMA = 1
RESULTS_SCHEMA = 1


class BundleSubject(Record, frozen=True):
    """An artifact in a bundle.

    Attributes:
        label: how the profile calls it; unique within a bundle.
    """

    label: str
    manifest: Manifest


class BundleContents(Record, frozen=True):
    """What a bundle is; the file ``contents.json`` in it, whose hash is the bundle's identity.

    Attributes:
        facts: of the device that it is for, as the catalogue had them; by their properties it is
            recognised, there and when its results come home.
        argv: the command that measures; "{python}" stands for the interpreter there.
        pull: names of files that the command leaves.
        files: SHA-256 of everything that the command needs, by name: runner, plan, artifacts.
        runtimes: modules that the interpreter there must have, with their titles.
        questions: script for the shell there, whose answer tells how the machine is.
        edgese: version that made the bundle.
        created: UTC, ISO 8601.
    """

    facts: DeviceFacts
    plan: MeasurePlan
    subjects: tuple[BundleSubject, ...]
    argv: tuple[str, ...]
    pull: tuple[str, ...]
    files: dict[str, str]
    runtimes: dict[str, str]
    questions: str
    edgese: str
    created: str
    schema: int = BUNDLE_SCHEMA


class BundleResults(Record, frozen=True):
    """What a bundle leaves where it was measured; the first line of its results file.

    Attributes:
        bundle: SHA-256 of the bundle's ``contents.json``.
        ran: SHA-256 of each file that was measured with, by name, taken after measuring.
        answers: what the machine said to the bundle's properties.
        before, after: its answers to the bundle's questions.
        pinned: numbers of the cores that it was measured on; empty where it was not pinned.
        pinning: "" where it was, else why it was not.
        python: version and place of the interpreter.
        started, ended: UTC, ISO 8601.
    """

    bundle: str
    ran: dict[str, str]
    answers: dict[str, str]
    before: str
    after: str
    pinned: tuple[Count, ...]
    pinning: str
    python: str
    started: str
    ended: str
    outcome: Outcome
    schema: int = RESULTS_SCHEMA
