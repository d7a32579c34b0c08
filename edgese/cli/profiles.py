"""The tables of a profile: what was measured, emulated, predicted and estimated, never mixed."""

from typing import TYPE_CHECKING

from edgese.cli import ui
from edgese.report.chart import Bar, bars

if TYPE_CHECKING:
    from edgese.records.device import PhoneState
    from edgese.records.emulation import Emulation, EmulationCaution, Estimate
    from edgese.records.measurement import (
        Caution,
        OperatorTimes,
        Profile,
        SustainedCaution,
        SustainedResult,
    )
    from edgese.records.prediction import Prediction
    from edgese.records.profile import ProfileResult, ProgramProfile


def show_result(result: "ProfileResult") -> None:
    """Every table that the result has something for, then what a reader should know."""
    if result.absence:
        ui.echo(f"NOT MEASURED on {result.device}: {result.absence}")
    if result.profiles:
        _measured(result)
    for times in result.operators:
        _operators(times)
    if result.sustained is not None:
        _sustained(result.sustained)
    if result.programs:
        _programs(result.programs)
    if result.emulations:
        _emulated(result.emulations)
    if result.predictions:
        _predicted(result.predictions)
    if result.estimates:
        _estimated(result.estimates)
    _notes(result)


def _notes(result: "ProfileResult") -> None:
    """What a reader should know, the cautions first."""
    curves = result.sustained.curves if result.sustained else ()
    said: list[tuple[str, Caution | EmulationCaution | SustainedCaution]] = [
        *((one.label, caution) for one in result.profiles for caution in one.cautions),
        *((one.label, caution) for one in result.emulations for caution in one.cautions),
        *((one.label, caution) for one in curves for caution in one.cautions),
    ]
    for label, caution in said:
        ui.note(f"{label}: {caution.code}: {caution.message} {caution.advice}")
    for prediction in result.predictions:
        for sentence in prediction.cautions:
            ui.note(f"{prediction.model} on {prediction.device}: {sentence}")
    for note in result.notes:
        ui.note(note)
    if labels := _untrained(result):
        ui.note(
            f"UNTRAINED: random weights in {', '.join(labels)}: good for latency, worthless for "
            "answers."
        )
    for failure in result.failures:
        ui.note(f"{failure.label}: {failure.error}\n  {failure.hint}")


def _untrained(result: "ProfileResult") -> tuple[str, ...]:
    labels = [
        *(one.label for one in result.profiles if not one.trained),
        *(one.label for one in result.programs if not one.trained),
        *(one.label for one in result.emulations if not one.trained),
        *(one.label for one in result.estimates if not one.trained),
    ]
    return tuple(dict.fromkeys(labels))


def _own_memory_mb(profile: "Profile") -> float:
    """What the artifact added to its runtime, at most."""
    return max(launch.peak_memory_mb - launch.memory_before_load_mb for launch in profile.launches)


def _measured(result: "ProfileResult") -> None:
    profiles = result.profiles
    device = profiles[0].device
    ui.echo(
        f"measured on {device.name}: {device.cpu}, {device.cores} cores, "
        f"{profiles[0].threads} threads, load {device.load_average}"
    )
    if result.before is not None:
        ui.echo(_phone(result.before, result.after))
    ui.table(
        (
            "artifact",
            "load",
            "first run",
            "p50",
            "p90",
            "p99",
            "inferences",
            "pictures/s",
            "memory",
            "size",
            "MACs",
        ),
        [
            (
                profile.label,
                f"{profile.load_ms:.1f} ms",
                f"{profile.first_run_ms:.2f} ms",
                f"{profile.latency.p50_ms:.2f} ms",
                f"{profile.latency.p90_ms:.2f} ms",
                f"{profile.latency.p99_ms:.2f} ms",
                str(profile.latency.count),
                f"{profile.throughput_per_s:.1f}",
                f"{_own_memory_mb(profile):.0f} MiB",
                ui.megabytes(profile.size_bytes),
                _millions(profile.macs),
            )
            for profile in profiles
        ],
    )
    if result.ratios:
        ui.table(
            ("artifact", "beside", "time ratio", "95 %"),
            [
                (
                    ratio.artifact,
                    ratio.baseline,
                    f"{ratio.ratio:.3f}",
                    f"{ratio.interval.low:.3f} to {ratio.interval.high:.3f}",
                )
                for ratio in result.ratios
            ],
            left=2,
        )

    if len(profiles) > 1:
        ui.echo(
            bars(
                [
                    Bar(one.label, one.latency.p50_ms, one.latency.p50_ms, one.latency.p90_ms)
                    for one in profiles
                ],
                unit="ms",
            )
        )
        ui.echo("p50, and to p90\n")


def _operators(times: "OperatorTimes") -> None:
    """What each kind of operator takes, or why nobody knows."""
    if times.unavailable:
        ui.note(f"{times.label}: no times of operators: {times.unavailable}")
        return
    ui.echo(f"{times.label}: operators, recorded apart; their shares count, not their sum")
    ui.table(
        ("operator", "count", "mean", "share"),
        [
            (kind.operator, str(kind.count), times.amount(kind.mean_ms), ui.percent(kind.share, 1))
            for kind in times.kinds
        ],
    )


def _sustained(result: "SustainedResult") -> None:
    span = result.curves[0].span_s if result.curves else 0
    ui.echo(f"without a pause, {result.seconds:g} s each, {result.threads} threads")
    ui.table(
        ("artifact", f"p50 of first {span:.0f} s", f"of last {span:.0f} s", "ratio", "fell off"),
        [
            (
                curve.label,
                f"{curve.first.p50_ms:.2f} ms",
                f"{curve.last.p50_ms:.2f} ms",
                f"{curve.ratio:.3f}",
                "-" if curve.fell_off_s is None else f"after {curve.fell_off_s:.0f} s",
            )
            for curve in result.curves
        ],
    )
    for swap in result.swaps:
        ui.note(
            f"{swap.behind} is slower than {swap.ahead} at first ({swap.first_ratio:.2f}), and "
            f"faster in the end ({swap.last_ratio:.2f})."
        )


def _phone(before: "PhoneState", after: "PhoneState | None") -> str:
    """What a phone or a board said of itself, in one line."""
    said = [f"{before.model or before.serial}, {before.build or before.system}"]
    if before.pinned:
        said.append(f"pinned to cores {', '.join(map(str, before.pinned))}")
    elif before.pinning:
        said.append(f"not pinned: {before.pinning}")
    if before.battery_percent is not None:
        said.append(f"battery {before.battery_percent} %")
    warm = before.skin_c if before.skin_c is not None else before.battery_c
    if warm is not None:
        later = None if after is None else (after.skin_c or after.battery_c)
        said.append(f"{warm:g} °C" + (f" to {later:g} °C" if later is not None else ""))
    return "; ".join(said)


def _programs(programs: "tuple[ProgramProfile, ...]") -> None:
    first = programs[0]
    ui.echo(
        f"measured on {first.device} by {first.program}, {first.threads} threads: its figures, not "
        "those of edgese's runner"
    )
    ui.table(
        ("artifact", "delegate", "nodes taken", "first run", "mean", "p50", "p90", "inferences"),
        [
            (
                one.label,
                one.run.delegate or "its default",
                "-" if one.run.nodes is None else f"{one.run.delegated} of {one.run.nodes}",
                *(_ms(value) for value in (one.run.first_run_ms, one.run.mean_ms)),
                *(_ms(value) for value in (one.run.p50_ms, one.run.p90_ms)),
                str(one.run.count),
            )
            for one in programs
        ],
        left=2,
    )


def _emulated(emulations: "tuple[Emulation, ...]") -> None:
    first = emulations[0]
    ui.echo(
        f"emulated: instructions of one inference on {first.device} ({first.cpu}, QEMU "
        f"{first.qemu}), {first.threads} threads; no time follows from them"
    )
    ui.table(
        (
            "artifact",
            "instructions",
            "beside the first",
            "spread",
            "loads",
            "products by",
            "most in",
        ),
        [
            (
                one.label,
                _millions(one.instructions.total),
                f"{one.instructions.total / first.instructions.total:.3f}",
                f"{one.spread:.4%}",
                ui.percent(one.instructions.loads / one.instructions.total, 0),
                ", ".join(one.dispatch) or "-",
                f"{one.kernels[0].name} ({one.kernels[0].share:.0%})" if one.kernels else "-",
            )
            for one in emulations
        ],
        last_left=True,
    )


def _predicted(predictions: "tuple[Prediction, ...]") -> None:
    ui.echo(
        f"predicted for {predictions[0].device} from published measurements of other networks and "
        "devices; not measured on it"
    )
    ui.table(
        ("model", "runtime", "recipe", "threads", "latency", "90 %", "rests on"),
        [
            (
                one.model,
                f"{one.target}, {one.delegate}",
                one.precision,
                "-" if one.threads is None else str(one.threads),
                f"{one.latency_ms:.1f} ms",
                f"{one.interval.low:.1f} to {one.interval.high:.1f} ms",
                f"{one.rows} measurements",
            )
            for one in predictions
        ],
        left=3,
    )


def _estimated(estimates: "tuple[Estimate, ...]") -> None:
    first = estimates[0]
    ui.echo(
        f"estimated by {first.compiler} for {first.device}: {first.accelerator}, {first.system}, "
        f"{first.memory_mode}; the accelerator alone, and not measured"
    )
    ui.table(
        ("artifact", "cycles", f"at {first.clock_mhz:g} MHz", "SRAM", "on it", "on the processor"),
        [
            (
                one.label,
                _millions(one.cycles),
                f"{one.latency_ms:.2f} ms",
                f"{one.sram_bytes / 1024:.0f} KiB",
                f"{one.npu_operators} operators",
                f"{one.cpu_operators} operators",
            )
            for one in estimates
        ],
    )
    for one in estimates:
        for fallback in one.fallbacks:
            ui.note(f"{one.label}: {fallback.operator}: {fallback.reason}")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms"


def _millions(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:.2f} M"
