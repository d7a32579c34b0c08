"""``edgese profile``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgese import project
from edgese.cli.parsing import resolution_of, seconds_of
from edgese.cli.plan_options import (
    AdbServer,
    Address,
    Blocks,
    Launches,
    MinRuns,
    MinTime,
    Serial,
    Threads,
)
from edgese.errors import ConfigError
from edgese.records.budget import NOISE_RUNS
from edgese.records.measurement import GROUP, MeasurePlan

if TYPE_CHECKING:
    from edgese.records.budget import Noise

_PLAN: Final = MeasurePlan(threads=0)

EXAMPLE: Final = (
    "Example: edgese profile efficientnet_b0 --target tflite --recipe int8 --device arm64-a76"
)


def profile(
    subjects: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SUBJECT",
            help="Artifacts with their manifests; or a model's name, a spec file or a stored "
            "program, which is converted first; default: edgese.toml's.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where; `edgese devices` lists what there is.")
    ] = "host",
    require_device: Annotated[
        bool,
        typer.Option("--require-device", help="Let nothing stand in for a device that is absent."),
    ] = False,
    serial: Serial = "",
    adb_server: AdbServer = "",
    address: Address = "",
    runner: Annotated[
        Path | None,
        typer.Option(
            help="The runtime's own benchmark program for the device: benchmark_model, "
            "executor_runner or onnxruntime_perf_test, built by you."
        ),
    ] = None,
    delegate: Annotated[str, typer.Option(help="With --runner: gpu, nnapi, xnnpack, cpu.")] = "",
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="Of a model: what to convert it to; several times."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Of a model: fp32, fp16, int8, ...; default: the target's.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Of a model.  [default: none, random ones, since latency is the same with any]"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Of a model with an integer recipe: calibration pictures.  [default: embedded]"
        ),
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Of a model: input size in pixels.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Of a model: outputs of the classifier.")
    ] = None,
    threads: Threads = None,
    launches: Launches = _PLAN.launches,
    blocks: Blocks = _PLAN.blocks,
    min_runs: MinRuns = _PLAN.min_runs,
    min_time: MinTime = _PLAN.min_time_s,
    operators: Annotated[
        bool,
        typer.Option(
            "--operators",
            help="Also tell what each operator takes (ONNX Runtime); of an emulated processor, "
            "its instructions, in a whole emulated machine.",
        ),
    ] = False,
    sustained: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Also run each artifact for so long without a pause, as in 10m."
        ),
    ] = None,
    group: Annotated[
        int,
        typer.Option(
            min=2, help="Artifacts that are measured together at most; the first is in each group."
        ),
    ] = GROUP,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write the result, every sample in it, here, after each group."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the groups that --out lacks.")
    ] = False,
    calibrate_noise: Annotated[
        bool,
        typer.Option(
            "--calibrate-noise",
            help="Measure one artifact again and again: how far the device is off from itself.",
        ),
    ] = False,
    runs: Annotated[int, typer.Option(help="With --calibrate-noise: how often.")] = NOISE_RUNS,
    noise: Annotated[
        Path | None,
        typer.Option(
            help="With --calibrate-noise: where to keep it.  [default: noise.json of the project]"
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with figures here.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure artifacts in their real runtimes, on this host, a phone, a board; or emulated.

    Each artifact has a process of its own, launched anew several times. Several artifacts take
    turns in AB/BA blocks, so that a machine whose speed drifts disturbs all alike, and each is
    compared with the first: the ratio of their latencies with a 95 % interval over launches.
    Nothing else should run on the device meanwhile.

    Of an emulated processor (arm64-a76) instructions are told, and never times. Where a phone or a
    board is not there, its emulated class is counted and its latency predicted, and both say so;
    --require-device refuses that.
    """
    from edgese.budgets.measuring import Measuring
    from edgese.cli import ui
    from edgese.cli.noise import calibrate
    from edgese.cli.profiles import show_result
    from edgese.cli.subjects import artifacts_of
    from edgese.devices import Reach
    from edgese.measure import api
    from edgese.report import profile_page
    from edgese.store import writable_file, write_text

    for file in (out, html):
        if file is not None:
            writable_file(file)
    others = (out, html, runner, sustained, resume or None, operators or None)
    _check_noise(calibrate_noise, noise, [one for one in others if one is not None])
    seconds = None if sustained is None else seconds_of(sustained)
    named = subjects or [project.subject(None)]
    with ui.bars([]) as show:
        artifacts = artifacts_of(
            named,
            targets=target or list(project.defaults().targets),
            recipe=recipe,
            weights=weights,
            data=data,
            resolution=resolution_of(resolution),
            classes=classes,
            out=project.out(),
            progress=show,
        )
        if calibrate_noise:
            how = Measuring(
                serial=serial,
                adb_server=adb_server,
                address=address,
                threads=threads,
                launches=launches,
                blocks=blocks,
                min_runs=min_runs,
                min_time_s=min_time,
            )
            found = calibrate(artifacts, device, how, runs=runs, place=noise, show=show)
            _told_noise(*found, json=json)
            return
        result = api.profile(
            artifacts,
            device=device,
            reach=Reach(serial=serial, adb_server=adb_server, address=address),
            require_device=require_device,
            runner=runner,
            delegate=delegate,
            operators=operators,
            sustained_s=seconds,
            group=group,
            out=out,
            resume=resume,
            threads=threads,
            launches=launches,
            blocks=blocks,
            min_runs=min_runs,
            min_time_s=min_time,
            strict=False,
            progress=lambda stage, fraction: show("profile", stage, fraction),
        )
    if html is not None:
        write_text(profile_page(result), html)
    if json:
        ui.echo_json(result)
    else:
        show_result(result)
    if result.failures:
        raise typer.Exit(min(failure.exit_code for failure in result.failures))


def _check_noise(calibrating: bool, noise: Path | None, others: list[object]) -> None:
    """Refuses what would be read and have no effect."""
    if calibrating and others:
        raise ConfigError(
            "--calibrate-noise measures one artifact again and again, and nothing else.",
            hint="Leave --out, --html, --runner, --sustained, --operators and --resume out; "
            "--noise says where it is kept.",
        )
    if noise is not None and not calibrating:
        raise ConfigError(
            "--noise says where --calibrate-noise keeps what it finds.",
            hint="Give both, or neither; `edgese gate --noise` reads it.",
        )


def _told_noise(noise: "Noise", path: Path, *, json: bool) -> None:
    from edgese.cli import ui
    from edgese.cli.noise import show_noise

    if json:
        ui.echo_json(noise)
    else:
        show_noise(noise, path)
