"""``edgese profile``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgese.records.measurement import MeasurePlan

if TYPE_CHECKING:
    from edgese.records.measurement import Profile, ProfileResult

_PLAN: Final = MeasurePlan(threads=1)

EXAMPLE: Final = "Example: edgese profile edgese-out/efficientnet_lite0-fp32.tflite --threads 1"


def profile(
    artifacts: Annotated[
        list[Path],
        typer.Argument(metavar="ARTIFACT", help="Each with its manifest beside it."),
    ],
    device: Annotated[str, typer.Option(help="Where to measure.")] = "host",
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of each runtime.  [default: physical cores, at most 4]"),
    ] = None,
    launches: Annotated[
        int, typer.Option(help="New processes of each artifact, one after the other.")
    ] = _PLAN.launches,
    blocks: Annotated[
        int, typer.Option(help="Blocks of each artifact over all launches, taken in turn.")
    ] = _PLAN.blocks,
    min_runs: Annotated[
        int, typer.Option(help="Inferences of each artifact, at least.")
    ] = _PLAN.min_runs,
    min_time: Annotated[
        float, typer.Option(help="Seconds of inference of each artifact, at least.")
    ] = _PLAN.min_time_s,
    out: Annotated[
        Path | None, typer.Option(help="Also write the result, every sample in it, here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure artifacts in their real runtimes: load, first run, latency, throughput, memory.

    Each artifact has a process of its own, launched anew several times. Several artifacts take
    turns in AB/BA blocks, so that a machine whose speed drifts disturbs all alike, and each is
    compared with the first: the ratio of their latencies with a 95 % interval over launches.
    Nothing else should run on the device meanwhile.
    """
    from edgese.cli import ui
    from edgese.measure import api
    from edgese.store import writable_file, write_record

    if out is not None:
        writable_file(out)
    with ui.bars([]) as show:
        result = api.profile(
            artifacts,
            device=device,
            threads=threads,
            launches=launches,
            blocks=blocks,
            min_runs=min_runs,
            min_time_s=min_time,
            progress=lambda stage, fraction: show("profile", stage, fraction),
        )
    if out is not None:
        write_record(result, out)
    if json:
        ui.echo_json(result)
    else:
        show_profiles(result)
    if result.failures:
        raise typer.Exit(min(failure.exit_code for failure in result.failures))


def _own_memory_mb(profile: "Profile") -> float:
    """What the artifact added to its runtime, at most."""
    return max(launch.peak_memory_mb - launch.memory_before_load_mb for launch in profile.launches)


def show_profiles(result: "ProfileResult") -> None:
    """The table of latencies, of ratios, and what a reader should know about them."""
    from edgese.cli import ui

    profiles = result.profiles
    if profiles:
        device = profiles[0].device
        ui.echo(
            f"{profiles[0].source} on {device.name}: {device.cpu}, {device.cores} cores, "
            f"{result.plan.threads} threads, load {device.load_average}"
        )
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
    for profile in profiles:
        for caution in profile.cautions:
            ui.note(f"{profile.label}: {caution.code}: {caution.message} {caution.advice}")
    for failure in result.failures:
        ui.note(f"{failure.label}: {failure.error}\n  {failure.hint}")
