"""Runs of one artifact that were made alike are one candidate, judged by all of them; pure."""

from collections.abc import Sequence

import msgspec

from edgese.budgets.candidates import Candidate
from edgese.budgets.regression import like, same_machine


def with_repeats(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return each artifact on a device once: its latest run, with the others as its repeats.

    What was not measured or counted stays as it is. A run that was given twice counts once: two
    copies would say that runs do not differ.
    """
    groups: list[list[Candidate]] = []
    for one in sorted(candidates, key=_when):
        group = next((group for group in groups if _alike(group[0], one)), None)
        if group is None:
            groups.append([one])
        elif all(_content(one) != _content(other) for other in group):
            group.append(one)
    return tuple(group[-1]._replace(repeats=tuple(group[:-1])) for group in groups)


def _alike(one: Candidate, other: Candidate) -> bool:
    """Whether two are runs of the same measurement."""
    keys = ("name", "device", "target", "sha256", "resolution", "trained")
    if not one.sha256 or any(getattr(one, key) != getattr(other, key) for key in keys):
        return False
    if one.profile and other.profile and one.plan and other.plan:
        return (
            same_machine(one.profile.device, other.profile.device)
            and (one.profile.delegate, one.profile.threads, one.profile.batch)
            == (other.profile.delegate, other.profile.threads, other.profile.batch)
            and like(one.plan, other.plan)
        )
    if one.emulation and other.emulation:
        settings = ("device", "cpu", "features", "qemu", "threads", "batch", "delegate", "versions")
        return all(getattr(one.emulation, key) == getattr(other.emulation, key) for key in settings)
    return False


def _content(one: Candidate) -> bytes:
    """Return what was found, whatever file it is in."""
    return msgspec.json.encode(one.profile.launches if one.profile else one.emulation)


def _when(one: Candidate) -> tuple[str, ...]:
    return (one.measured, one.name, one.device, one.target, one.origin)
