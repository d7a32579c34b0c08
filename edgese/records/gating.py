"""What ``edgese gate`` and ``edgese compare`` leave."""

from typing import Final, Literal

from edgese.records.base import Record
from edgese.records.bounds import ExitCode, Finite, NotNegative, Share
from edgese.records.evaluation import Agreement
from edgese.records.measurement import MeasurePlan, Profile, Ratio
from edgese.records.verdict import Judged, Verdict

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
