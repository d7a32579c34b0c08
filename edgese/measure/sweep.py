"""Many artifacts in several interleaved jobs, whose results outlive an interruption.

All artifacts of a job are loaded at the same time, and a job is all or nothing. So many artifacts
are shared out over groups. The baseline is in each of them, because only ratios of what took turns
are honest; what was measured in two groups is compared through its own group's baseline.

::

    result = started(subjects, plan, info, size, RUNNER.read_bytes())
    if resume:
        result = resumed(out, result)
    for group in missing(result):
        measured = <one interleaved job over subjects[place] for place in group>
        result = extended(result, measured)
        write_record(result, out)
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from edgese.errors import ConfigError, StoreError
from edgese.measure.job import Subject
from edgese.records.measurement import (
    DeviceInfo,
    MeasurePlan,
    Profile,
    ProfileFailure,
)
from edgese.records.profile import ProfileResult, Sweep, SweepArtifact
from edgese.store import read_record
from edgese.version import __version__

_REMAKE: Final = "edgese profile ARTIFACT... --out FILE"
# What changes from minute to minute on one machine, and so tells nothing about which it is.
_PASSING: Final = {"load_average"}


def groups(count: int, size: int) -> tuple[tuple[int, ...], ...]:
    """Shares artifacts out evenly over as few groups as possible; the first one is in each.

    Args:
        count: of artifacts.
        size: of a group at most, the baseline included.

    Raises:
        ConfigError: no artifact, or groups that hold nothing beside the baseline.
    """
    if count < 1:
        raise ConfigError("No artifact was named.", hint="Name one or more to profile.")
    if size < 2:
        raise ConfigError(
            f"Groups of {size} were asked for; each holds the baseline and another artifact.",
            hint="Give 2 or more.",
        )
    if count == 1:
        return ((0,),)
    number = -(-(count - 1) // (size - 1))
    least, more = divmod(count - 1, number)
    found, start = [], 1
    for index in range(number):
        end = start + least + (index < more)
        found.append((0, *range(start, end)))
        start = end
    return tuple(found)


def started(
    subjects: Sequence[Subject],
    plan: MeasurePlan,
    info: DeviceInfo,
    size: int,
    runner: bytes,
    name: str = "",
) -> ProfileResult:
    """A result that holds nothing yet but what is to be measured.

    Args:
        plan: as `edgese.measure.plan.checked` gives it for the largest group.
        runner: content of ``runner.py``.
        name: of the device, as it was asked for; "" for its own.

    Raises:
        ConfigError: see `groups`.
    """
    return ProfileResult(
        device=name or info.name,
        plan=plan,
        edgese=__version__,
        created=_now(),
        complete=False,
        sweep=Sweep(
            device=info,
            artifacts=tuple(
                SweepArtifact(label=subject.label, sha256=subject.manifest.sha256)
                for subject in subjects
            ),
            groups=groups(len(subjects), size),
            done=0,
            runner_sha256=hashlib.sha256(runner).hexdigest(),
        ),
    )


def resumed(path: Path, fresh: ProfileResult) -> ProfileResult:
    """What an interrupted sweep left, if it is of the very same measurement; else ``fresh``.

    Args:
        path: of the result; where there is none, the sweep starts.

    Raises:
        InputError: the file is not a readable result.
        StoreError: it is of another plan, device, runner, edgese, or of other artifacts.
    """
    if not path.exists():
        return fresh
    found = read_record(ProfileResult, path, remake=_REMAKE)
    if found.sweep is None or fresh.sweep is None:
        raise StoreError(
            f"{path} holds a result that was not measured in groups, so it cannot be resumed.",
            hint="Name another file, or measure without --resume.",
        )
    pairs = {
        "plan": (found.plan, fresh.plan),
        "device": (_lasting(found.sweep.device), _lasting(fresh.sweep.device)),
        "artifacts": (found.sweep.artifacts, fresh.sweep.artifacts),
        "groups": (found.sweep.groups, fresh.sweep.groups),
        "runner": (found.sweep.runner_sha256, fresh.sweep.runner_sha256),
        "edgese": (found.edgese, fresh.edgese),
    }
    other = [name for name, (then, now) in pairs.items() if then != now]
    if other:
        raise StoreError(
            f"{path} cannot be resumed: {_and(other)} changed since ({_change(*pairs[other[0]])}).",
            hint="Resume with what it was started with, or name another file and start anew.",
        )
    return found


def missing(result: ProfileResult) -> tuple[tuple[int, ...], ...]:
    """The groups that are not measured yet, as positions of their artifacts."""
    return result.sweep.groups[result.sweep.done :] if result.sweep else ()


def extended(result: ProfileResult, measured: ProfileResult) -> ProfileResult:
    """The result with its next group, which is complete where that was the last.

    From the second group on, the baseline is called "LABEL (group 2)" in profiles and ratios; each
    profile of it is kept, so that a machine that changed from group to group is seen.

    Args:
        measured: of one interleaved job over the artifacts of the group, in their order.

    Raises:
        StoreError: packages that execute a target are not those of the groups before.
    """
    sweep = result.sweep
    if sweep is None or sweep.done == len(sweep.groups):
        raise ValueError("The result has no group that is missing.")
    _same_versions(result.profiles, measured.profiles)
    baseline = sweep.artifacts[0].label
    name = f"{baseline} (group {sweep.done + 1})" if sweep.done else baseline
    profiles = tuple(
        msgspec.structs.replace(profile, label=name) if profile.label == baseline else profile
        for profile in measured.profiles
    )
    ratios = tuple(
        msgspec.structs.replace(
            ratio, baseline=name if ratio.baseline == baseline else ratio.baseline
        )
        for ratio in measured.ratios
    )
    failures = tuple(
        _renamed(failure, name) if failure.label == baseline else failure
        for failure in measured.failures
    )
    done = sweep.done + 1
    return msgspec.structs.replace(
        result,
        profiles=result.profiles + profiles,
        ratios=result.ratios + ratios,
        failures=result.failures + failures,
        before=result.before or measured.before,
        after=measured.after,
        created=_now(),
        seal="",
        complete=done == len(sweep.groups),
        sweep=msgspec.structs.replace(sweep, done=done),
    )


def _renamed(failure: ProfileFailure, label: str) -> ProfileFailure:
    return msgspec.structs.replace(failure, label=label)


def _same_versions(before: Sequence[Profile], after: Sequence[Profile]) -> None:
    known = {profile.target: profile.versions for profile in before}
    for profile in after:
        then = known.get(profile.target, profile.versions)
        if then != profile.versions:
            changed = sorted(
                name
                for name in then.keys() | profile.versions.keys()
                if then.get(name) != profile.versions.get(name)
            )
            told = ", ".join(
                f"{name} {then.get(name, 'missing')} then, {profile.versions.get(name, 'missing')} "
                "now"
                for name in changed
            )
            raise StoreError(
                f"{profile.label} was executed by other packages than the groups before: {told}.",
                hint="Install what was there, or name another file and start anew.",
            )


def _lasting(info: DeviceInfo) -> dict[str, object]:
    fields = msgspec.structs.asdict(info)
    return {name: value for name, value in fields.items() if name not in _PASSING}


def _change(then: object, now: object) -> str:
    """The first thing that differs, as short as it can be told."""
    if isinstance(then, msgspec.Struct) and isinstance(now, msgspec.Struct):
        return _change(msgspec.structs.asdict(then), msgspec.structs.asdict(now))
    if isinstance(then, dict) and isinstance(now, dict):
        key = next(key for key in then if then[key] != now.get(key))
        return f"{key} was {then[key]!r}, is {now.get(key)!r}"
    if isinstance(then, tuple) and isinstance(now, tuple):
        return _first_item(then, now)
    return f"it was {then}, is {now}"


def _first_item(then: tuple[object, ...], now: tuple[object, ...]) -> str:
    if len(then) != len(now):
        return f"there were {len(then)}, there are {len(now)}"
    old, new = next((a, b) for a, b in zip(then, now, strict=True) if a != b)
    if isinstance(old, SweepArtifact) and isinstance(new, SweepArtifact):
        if old.label != new.label:
            return f"{new.label} stands where {old.label} stood"
        return f"{new.label} has another hash"
    return f"{old} was planned, {new} is"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
