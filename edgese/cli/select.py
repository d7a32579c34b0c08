"""``edgese select``."""

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
from edgese.records.measurement import MeasurePlan
from edgese.records.selection import Ranking

if TYPE_CHECKING:
    from edgese.protocols import Progress
    from edgese.records.budget import Observation
    from edgese.records.selection import Candidate, SelectionResult, Standing
    from edgese.selection.deciding import Aim
    from edgese.selection.work import Order

_PLAN: Final = MeasurePlan(threads=0)

EXAMPLE: Final = (
    "Example: edgese select efficientnet_b0..b4 --target tflite --device host --budget budget.toml"
)


def select(
    subjects: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CANDIDATE",
            help="Models, ranges such as efficientnet_b0..b4, spec files, or TOML files of "
            "[[candidate]] tables.",
        ),
    ] = None,
    family: Annotated[
        str, typer.Option(help="All of a family, or the one that a range as in b0..b4 is of.")
    ] = "",
    budget: Annotated[
        Path | None, typer.Option(help="The limits.  [default: edgese.toml's]")
    ] = None,
    device: Annotated[str, typer.Option(help="Where; `edgese devices` lists what there is.")] = "",
    resolution: Annotated[
        list[str] | None,
        typer.Option(metavar="N|HxW", help="Several times.  [default: each model's own]"),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Several times: fp32, fp16, int8, ...  [default: each target's own]"),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="What to convert to; several times.")
    ] = None,
    gates: Annotated[
        list[str] | None,
        typer.Option(
            metavar="own|none|FIELD=VALUE,...",
            help="Squeeze-and-excitation, several times: the model's own, none, or changed as in "
            "gate=hard_sigmoid or reduction=8.  [default: own]",
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            help="imagenet, or a file; {model} and {resolution} in its name stand for each "
            "candidate's.  [default: none; accuracy is then the published one]"
        ),
    ] = "",
    classes: Annotated[
        int | None, typer.Option(min=1, help="Outputs of the classifier.  [default: each model's]")
    ] = None,
    data: Annotated[
        str, typer.Option(help="Labelled pictures to judge accuracy on; needs weights, or --train.")
    ] = "",
    split: Annotated[str, typer.Option(help="Of a CSV: only rows of this split.")] = "",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Evaluate at most so many pictures.")
    ] = None,
    calibration: Annotated[
        str, typer.Option(help="Pictures for integer recipes.  [default: embedded]")
    ] = "",
    train: Annotated[
        str,
        typer.Option(
            metavar="RECIPE", help="Train candidates without weights, where they can still win."
        ),
    ] = "",
    train_data: Annotated[str, typer.Option(help="What they learn from.  [default: --data]")] = "",
    epochs: Annotated[float | None, typer.Option(help="Of a training.")] = None,
    rank: Annotated[
        Ranking,
        typer.Option(help="accuracy, or MnasNet's reward: accuracy x (latency / target) ^ w."),
    ] = "accuracy",
    latency_target: Annotated[
        float | None, typer.Option(min=0.001, metavar="MS", help="Of MnasNet's reward.")
    ] = None,
    exponent: Annotated[float, typer.Option(max=0, help="w of MnasNet's reward.")] = -0.07,
    serial: Serial = "",
    adb_server: AdbServer = "",
    address: Address = "",
    threads: Threads = None,
    launches: Launches = _PLAN.launches,
    blocks: Blocks = _PLAN.blocks,
    min_runs: MinRuns = _PLAN.min_runs,
    min_time: MinTime = _PLAN.min_time_s,
    sustained: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long each runs without a pause, where the budget limits sustained_p50_ms.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Conversions at once.  [default: half of the cores]"),
    ] = None,
    ray: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Work on a Ray cluster, a device on each node.")
    ] = "",
    everything: Annotated[
        bool,
        typer.Option("--everything", help="Measure every candidate, even if it cannot win."),
    ] = False,
    from_results: Annotated[
        list[Path] | None,
        typer.Option(
            "--from-results",
            help="Choose among what these result files tell of, several times; nothing is run.",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="What was found is kept here, and gone on with.  [default: in out]"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the result here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with figures here.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Choose the most accurate candidate that meets a budget, and say why not the others.

    Candidates are models x resolution x recipe x gates x target. Rows rule out by multiply-adds,
    size and memory; then predictions; then untrained artifacts are converted and measured, since
    latency is the same with any weights; training and accuracy come last. Only what can still win
    is looked at. A limit is met at the pessimistic end of what is known, or not at all. Ties go to
    the faster, then the smaller. Where none meets the budget, the nearest are told, and what to
    relax.

    Exit code 0: one was chosen; 1: every one misses the budget; 6: something that the budget asks
    for could not be found out of any.
    """
    from edgese.budgets.load_budget import budget_place
    from edgese.cli import ui
    from edgese.report import results_page
    from edgese.seals import sealed
    from edgese.selection.work import EMBEDDED, Order
    from edgese.store import writable_file, write_record, write_text

    for file in (out, html):
        if file is not None:
            writable_file(file)
    where = budget_place(budget)
    if from_results:
        result = _from_results(from_results, device, rank, latency_target, exponent, budget)
    else:
        chosen_device = device or "host"
        candidates = _candidates(
            subjects or [],
            family,
            resolution or [],
            recipe or [],
            target or list(project.defaults().targets),
            gates or [],
            weights,
            classes,
        )
        order = Order(
            device=chosen_device,
            folder=str(folder or project.out() / "select"),
            plan=MeasurePlan(
                threads=threads or 0,
                launches=launches,
                blocks=blocks,
                min_runs=min_runs,
                min_time_s=min_time,
            ),
            serial=serial,
            adb_server=adb_server,
            address=address,
            data=data,
            split=split,
            calibration=calibration or EMBEDDED,
            train=train,
            train_data=train_data,
            epochs=epochs,
            limit=limit,
            sustained_s=seconds_of(sustained) if sustained else 0.0,
        )
        with ui.quiet_libraries(), ui.bars([]) as show:
            result = _selected(
                candidates,
                _aim(budget, chosen_device, rank, latency_target, exponent),
                order,
                where,
                everything=everything,
                workers=workers,
                ray=ray,
                say=lambda stage, fraction: show("select", stage, fraction),
            )
    if out is not None:
        write_record(sealed(result), out)
    if html is not None:
        write_text(results_page([result]), html)
    if json:
        ui.echo_json(result)
    else:
        show_selection(result)
    if code := exit_code(result):
        raise typer.Exit(code)


def exit_code(result: "SelectionResult") -> int:
    """0 where one was chosen, 1 where all miss the budget, 6 where it is open whether one does."""
    from edgese.errors import MeasurementError

    decision = result.decision
    if decision.chosen:
        return 0
    open_ = any(one.state in ("unclear", "failed") for one in decision.standings)
    return MeasurementError.exit_code if open_ else 1


def _aim(
    budget: Path | None, device: str, rank: Ranking, latency_target: float | None, exponent: float
) -> "Aim":
    from edgese.budgets.load_budget import load_budget
    from edgese.errors import ConfigError
    from edgese.records.budget import RELATIVE
    from edgese.selection.deciding import LATENCY, Aim

    # Limits beside a baseline are a gate's business.
    found = tuple(
        one for one in load_budget(budget).limits_on(device) if one.quantity not in RELATIVE
    )
    if latency_target is None:
        # The paper's target is the latency that one aims at; so is the tightest limit.
        latency_target = min((one.bound for one in found if one.quantity == LATENCY), default=None)
    if rank == "mnasnet" and not latency_target:
        raise ConfigError(
            "MnasNet's reward needs a latency to aim at, and the budget has none.",
            hint="Give --latency-target MS.",
        )
    return Aim(found, ranking=rank, target_ms=latency_target or 0.0, exponent=exponent)


def _candidates(
    subjects: list[str],
    family: str,
    resolutions: list[str],
    recipes: list[str],
    targets: list[str],
    gates: list[str],
    weights: str,
    classes: int | None,
) -> "tuple[Candidate, ...]":
    from edgese.errors import ConfigError
    from edgese.selection.candidates import OWN, enumerated

    if not targets:
        raise ConfigError(
            "No target was named for the candidates.",
            hint="Give --target tflite, onnxruntime, executorch or coreml; several times for more.",
        )
    if not subjects and not family:
        subjects = [project.subject(None)]
    return enumerated(
        subjects,
        family=family,
        resolutions=[sides for text in resolutions if (sides := resolution_of(text))],
        recipes=recipes,
        targets=targets,
        gates=[OWN if text == "own" else text for text in gates],
        weights=weights,
        classes=classes,
    )


def _selected(
    candidates: "tuple[Candidate, ...]",
    aim: "Aim",
    order: "Order",
    budget: str,
    *,
    everything: bool,
    workers: int | None,
    ray: str,
    say: "Progress",
) -> "SelectionResult":
    from edgese.machine import cores
    from edgese.selection.api import select as run

    return run(
        candidates,
        aim,
        order,
        budget=budget,
        everything=everything,
        workers=workers or max(1, cores() // 2),
        ray=ray,
        progress=say,
    )


def _from_results(
    files: list[Path],
    device: str,
    rank: Ranking,
    latency_target: float | None,
    exponent: float,
    budget: Path | None,
) -> "SelectionResult":
    from edgese.budgets.inputs import checked
    from edgese.budgets.load_budget import budget_place
    from edgese.results import read_result
    from edgese.selection.deciding import decide
    from edgese.selection.outcome import result_of
    from edgese.selection.results import comparable

    known, found = comparable([checked(read_result(file), file) for file in files], device)
    aim = _aim(budget, found, rank, latency_target, exponent)
    return result_of(decide(known, aim), aim, device=found, budget=budget_place(budget))


def show_selection(result: "SelectionResult") -> None:
    """The candidates, what was spent, what is chosen, or the nearest misses."""
    from edgese.cli import ui
    from edgese.selection.limits import in_words

    decision = result.decision
    limits = ", ".join(map(in_words, result.limits))
    ui.echo(f"{len(decision.standings)} candidates on {result.device}; limits: {limits or 'none'}")
    if result.rounds:
        ui.table(
            ("round", "looked at", "ruled out", "from before", "time"),
            [
                (
                    one.round,
                    str(one.looked_at),
                    str(one.ruled_out),
                    str(one.resumed) if one.resumed else "-",
                    f"{one.seconds:.2f} s",
                )
                for one in result.rounds
            ],
        )
    ui.table(
        ("candidate", "state", "accuracy", "p50", "size", "MACs", "why"),
        [
            (
                one.label,
                one.state,
                _told(one.figure("accuracy"), 100, "%", 2),
                _told(one.figure("latency_p50_ms"), 1, "ms", 2),
                _told(one.figure("size_bytes"), 1e-6, "MB", 1),
                _told(one.figure("macs"), 1e-6, "M", 0),
                one.reason,
            )
            for one in sorted(decision.standings, key=_place)
        ],
        left=2,
        last_left=True,
    )
    for note in result.notes:
        ui.note(note)
    if result.budget:
        ui.note(f"budget: {result.budget}")
    if (chosen := decision.winner) is not None:
        ui.echo(f"Chosen: {decision.chosen}" + (f" ({chosen.artifact})" if chosen.artifact else ""))
        for caution in decision.cautions:
            ui.note(f"CAUTION: {caution}")
        return
    ui.echo("None of them meets the budget.")
    for name in decision.missing:
        ui.echo(f"{name} could not be found out of any, from a source that the budget accepts.")
    for near in decision.nearest:
        relax = ", ".join(
            f"{one.limit.quantity} {one.limit.bound:g} to {one.needed:.6g}" for one in near.relax
        )
        ui.echo(f"Near: {near.label}, beyond by a factor of {near.excess:.3f}; relax {relax}")


_ORDER: Final = ("chosen", "meets", "unclear", "cannot win", "misses", "failed")
# What a figure that nobody measured is marked with.
_MARKS: Final = {"expected": "~", "predicted": "~", "published": "*", "bounded": ">"}


def _place(one: "Standing") -> tuple[int, float, str]:
    return _ORDER.index(one.state), -(one.merit or 0.0), one.label


def _told(figure: "Observation | None", factor: float, unit: str, digits: int) -> str:
    if figure is None:
        return "-"
    mark = _MARKS.get(figure.source, "")
    return f"{mark}{figure.value * factor:.{digits}f} {unit}"
