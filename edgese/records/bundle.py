"""What travels to a device that is elsewhere, and what comes back."""

from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.bounds import Count
from edgese.records.device import DeviceFacts
from edgese.records.measurement import MeasurePlan, Outcome

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
