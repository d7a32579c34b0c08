"""Profiles artifacts: `profile` is what ``edgese profile`` does."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from edgese import catalog
from edgese.devices import ANYHOW, Reach, find_device, vela
from edgese.errors import ConfigError, DeviceAbsent, MissingDependency, error_kind
from edgese.measure.emulation import emulated
from edgese.measure.fallback import find_fallbacks
from edgese.measure.guests import operator_instructions
from edgese.measure.operators import operator_times
from edgese.measure.programs import by_program
from edgese.measure.run_groups import run_groups
from edgese.measure.sustained import check_length, sustained
from edgese.paths import Paths, as_optional_path, as_paths, check_type
from edgese.protocols import Device, Progress
from edgese.records.device import DeviceFacts
from edgese.records.measurement import GROUP, MeasurePlan, SustainedResult
from edgese.records.profile import ProfileResult
from edgese.seals import sealed
from edgese.store import write_record
from edgese.version import __version__

_DEFAULTS: Final = MeasurePlan(threads=0)


def profile(
    artifacts: Paths,
    *,
    device: str | Device = "host",
    reach: Reach = ANYHOW,
    require_device: bool = False,
    runner: str | Path | None = None,
    delegate: str = "",
    operators: bool = False,
    sustained_s: float | None = None,
    group: int = GROUP,
    out: str | Path | None = None,
    resume: bool = False,
    threads: int | None = None,
    launches: int = _DEFAULTS.launches,
    blocks: int = _DEFAULTS.blocks,
    min_runs: int = _DEFAULTS.min_runs,
    min_time_s: float = _DEFAULTS.min_time_s,
    warmup_runs: int = _DEFAULTS.warmup_runs,
    warmup_time_s: float = _DEFAULTS.warmup_time_s,
    timeout_s: float = _DEFAULTS.timeout_s,
    strict: bool = True,
    progress: Progress | None = None,
) -> ProfileResult:
    """Measures latency and memory of artifacts in their real runtimes, or says what stands in.

    Several artifacts are measured in interleaved blocks, so that what disturbs the machine disturbs
    all of them, and each in several processes after another; ratios are told against the first
    artifact. All are loaded at the same time.

    On an emulated processor instructions are counted, and an Ethos-U is estimated by Vela. Where a
    phone or a board is not there, the emulated processor that its file names is counted on, and its
    latency is predicted; both are told apart from what is measured.

    Args:
        artifacts: paths of artifacts with their manifests, or one; one may be there twice.
        device: a name, or something that behaves like a module in `edgese.devices`.
        reach: how to get to it.
        require_device: nothing stands in for a device that is not there.
        runner: the runtime's own benchmark program for the device, instead of edgese's runner.
        delegate: that such a program is to use; "" for its default.
        operators: also what each operator takes, where the runtime tells; on an emulated
            processor how many instructions it executes, in a whole emulated machine.
        sustained_s: also runs each artifact for so long without a pause, to see how it goes on.
        group: artifacts that are measured together at most, the first one among them each time.
        out: where the result is written: in the end, after each group, and now and then while it is
            sustained.
        resume: goes on with the groups that ``out`` lacks.
        threads: for each runtime; None takes the physical cores, at most four.
        launches: new processes of each artifact, one after the other.
        blocks: of each artifact, over all its launches; a multiple of them.
        min_runs, min_time_s: of each artifact over all its blocks; the larger of the two counts,
            the time as the pace of the first warm-up predicts it.
        warmup_runs, warmup_time_s: of each launch before it counts; both are reached.
        timeout_s: for all of it.
        strict: raises where one of several artifacts could not be measured, once the others are,
            and ``out`` is written. False returns what was measured, and the others are in
            ``failures``.

    Raises:
        ConfigError: no artifact, an unknown device, or a setting that cannot be.
        InputError: an artifact or its manifest is missing or not readable.
        StoreError: an artifact is not the one that its manifest describes.
        MissingDependency: a runtime, or what reaches the device, is not installed.
        DeviceAbsent: it is not there, and was required, or nothing can stand in for it.
        DeviceError: the device cannot execute one of the targets, broke down, or could measure
            none of the artifacts; with ``strict``, not all of them.
    """
    result_file = as_optional_path(out, "out")
    found = _profiled(
        as_paths(artifacts, "artifacts"),
        device,
        reach=reach,
        require_device=require_device,
        runner=as_optional_path(runner, "runner"),
        delegate=delegate,
        group=group,
        more=_More(operators=operators, sustained_s=sustained_s, resume=resume, out=result_file),
        plan=MeasurePlan(
            threads=threads or 0,
            launches=launches,
            blocks=blocks,
            min_runs=min_runs,
            min_time_s=min_time_s,
            warmup_runs=warmup_runs,
            warmup_time_s=warmup_time_s,
            timeout_s=timeout_s,
        ),
        threads=threads,
        progress=progress,
    )
    if result_file is not None:
        write_record(found, result_file)
    return sound(found) if strict else found


def sound(result: ProfileResult) -> ProfileResult:
    """Return a result that has all that was to be measured.

    Raises:
        EdgeseError: of the kind of the lowest exit code among its failures; it names them all.
    """
    failures = (*result.failures, *(result.sustained.failures if result.sustained else ()))
    if not failures:
        return result
    reasons = "\n".join(f"{failure.label}: {failure.error}" for failure in failures)
    raise error_kind(min(failure.exit_code for failure in failures))(
        f"{len(failures)} of the artifacts could not be measured.\n{reasons}",
        hint="\n".join(
            (
                *dict.fromkeys(failure.hint for failure in failures if failure.hint),
                "strict=False returns what was measured of the others instead of raising.",
            )
        ),
    )


def _profiled(
    artifacts: Sequence[Path],
    device: str | Device,
    *,
    reach: Reach,
    require_device: bool,
    runner: Path | None,
    delegate: str,
    group: int,
    more: "_More",
    plan: MeasurePlan,
    threads: int | None,
    progress: Progress | None,
) -> ProfileResult:
    """What there is to tell of the artifacts on the device, sealed."""
    _check(artifacts, threads, runner, delegate, more)
    check_type("device", device, str, Device)
    if not isinstance(device, str):
        place, name = device, ""
    else:
        name, facts = device, catalog.device_facts(device)
        if facts.transport in ("qemu", "vela"):
            _check_computed(facts, runner, more)
            return sealed(_computed(artifacts, facts, threads or 1, plan.timeout_s, more, progress))
        try:
            place = find_device(device, reach._replace(threads=threads or reach.threads))
        except (DeviceAbsent, MissingDependency) as error:
            if require_device or runner is not None or more.needs_device:
                raise
            return sealed(
                find_fallbacks(
                    artifacts,
                    facts,
                    error,
                    threads=threads,
                    timeout_s=plan.timeout_s,
                    progress=progress,
                )
            )
    if runner is not None:
        return sealed(
            by_program(
                artifacts, place, runner, delegate, plan, name or place.info().name, progress
            )
        )
    found = run_groups(
        artifacts,
        place,
        plan,
        name=name,
        size=group,
        out=more.out,
        resume=more.resume,
        progress=progress,
    )
    return sealed(_with_more(found, artifacts, place, threads, more, progress))


@dataclass(frozen=True, kw_only=True)
class _More:
    """What was asked for beside latency."""

    operators: bool
    sustained_s: float | None
    resume: bool
    out: Path | None

    @property
    def needs_device(self) -> bool:
        """Whether nothing that stands in can give it; nor may that take a half result's place."""
        return self.operators or self.sustained_s is not None or self.resume


def _with_more(
    found: ProfileResult,
    artifacts: Sequence[Path],
    place: Device,
    threads: int | None,
    more: _More,
    progress: Progress | None,
) -> ProfileResult:
    """The result with operators' times, and with how latency goes on; after the timed blocks."""
    if more.operators:
        told = tuple(
            operator_times(artifact, place, threads=threads, progress=progress)
            for artifact in artifacts
        )
        found = msgspec.structs.replace(found, operators=told)
    if more.sustained_s is None:
        return found

    def save(curve: SustainedResult) -> None:
        if more.out is not None:
            write_record(msgspec.structs.replace(found, sustained=curve), more.out)

    curve = sustained(
        artifacts,
        place,
        seconds=more.sustained_s,
        threads=threads,
        save=save,
        progress=progress,
    )
    return msgspec.structs.replace(found, sustained=curve)


def _check(
    artifacts: Sequence[Path],
    threads: int | None,
    runner: Path | None,
    delegate: str,
    more: _More,
) -> None:
    if not artifacts:
        raise ConfigError("No artifact was named.", hint="Name one or more to profile.")
    if threads is not None and threads < 1:
        raise ConfigError(f"{threads} threads were asked for.", hint="Give 1 or more.")
    if delegate and runner is None:
        raise ConfigError(
            f"The delegate {delegate!r} was asked for, and an artifact is measured with its own.",
            hint="--delegate goes with --runner; `edgese convert --delegate` fixes it at "
            "conversion, where the target can.",
        )
    if runner is not None and more.needs_device:
        raise ConfigError(
            f"{runner.name} measures in its own way, and what edgese's runner can do was asked "
            "for as well.",
            hint="Leave --operators, --sustained and --resume out, or --runner.",
        )
    if more.sustained_s is not None:
        check_length(more.sustained_s)
    if more.resume and more.out is None:
        raise ConfigError("There is nothing to resume from.", hint="Give --out FILE as well.")


def _check_computed(facts: DeviceFacts, runner: Path | None, more: _More) -> None:
    operators = more.operators and facts.transport != "qemu"
    if runner is not None or more.sustained_s is not None or more.resume or operators:
        raise ConfigError(
            f"{facts.title} runs no program of yours, and has no times.",
            hint="Leave --runner, --sustained and --resume out"
            + (", and --operators" if operators else "")
            + ", or name another device.",
        )


def _computed(
    artifacts: Sequence[Path],
    facts: DeviceFacts,
    threads: int,
    timeout_s: float,
    more: _More,
    progress: Progress | None,
) -> ProfileResult:
    """Of what is no machine: an emulated processor, or an accelerator that a compiler knows."""
    result = ProfileResult(
        device=facts.name,
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if facts.transport == "vela":
        told = tuple(vela.estimated(artifact, facts) for artifact in artifacts)
        return msgspec.structs.replace(result, estimates=told)
    counted = emulated(
        artifacts, facts.name, threads=threads, timeout_s=timeout_s, progress=progress
    )
    result = msgspec.structs.replace(result, emulations=counted)
    if not more.operators:
        return result
    return msgspec.structs.replace(
        result,
        operators=operator_instructions(
            artifacts, facts.name, timeout_s=timeout_s, progress=progress
        ),
    )
