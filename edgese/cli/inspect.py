"""``edgese inspect``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgese.records.inspection import DelegateReport, Inspection, LeftOut

EXAMPLE: Final = "Example: edgese inspect edgese-out/efficientnet_lite0-fp32.tflite --delegate gpu"

_SHOWN: Final = 8


def inspect(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT", help="What `edgese convert` made.")
    ],
    delegate: Annotated[
        str,
        typer.Option(
            help="One alone: xnnpack, gpu or ethos-u for TFLite; vulkan or coreml for ExecuTorch; "
            "nnapi, coreml, coreml-neuralnetwork or qnn for ONNX Runtime; neural-engine for "
            "Core ML; or another that `targets/` has.  [default: its own, and all that can be "
            "asked here]"
        ),
    ] = "",
    vulkan: Annotated[
        str,
        typer.Option(
            help="Driver that TFLite's GPU delegate is asked on: swiftshader, lavapipe (fp16, as "
            "phones have) or system (this machine's GPU).  [default: the first that is there]"
        ),
    ] = "",
    soc: Annotated[
        str,
        typer.Option(
            help="Snapdragon that Qualcomm's compiler is asked about: sm8650, or a device that has "
            "one, as in galaxy_s24.  [default: one of each architecture]"
        ),
    ] = "",
    drift: Annotated[
        bool | None,
        typer.Option(
            "--drift/--no-drift",
            help="Run pictures through the GPU delegate, or Qualcomm's simulator, as well, and "
            "tell how far its arithmetic leads away.  [default: with --delegate gpu or qnn]",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show an artifact's operators, what delegates take of them, and why the rest is left out.

    Every answer says what it rests on: asked (the delegate, its partitioner or its compiler
    answered here), read (the file tells), checked (a tool of the runtime held it against lists),
    documented (what is published). The GPU delegate is TFLite's own; where there is no GPU it runs
    on a software one (edgese emulator setup --gpu-only), whose times mean nothing and are not told.
    Qualcomm's compiler and simulator are a package of Qualcomm's (pip install 'edgese[qualcomm]').
    """
    from edgese.cli import ui
    from edgese.inspection.api import inspect as run

    with ui.quiet_libraries(), ui.bars([artifact.name]) as show:
        found = run(
            artifact,
            delegate,
            vulkan=vulkan,
            soc=soc,
            drift=drift,
            progress=lambda stage, fraction: show(artifact.name, stage, fraction),
        )
    if json:
        ui.echo_json(found)
    else:
        _show(found)


def _show(found: "Inspection") -> None:
    from edgese.cli import ui

    height, width = found.resolution
    total = sum(found.operators.values())
    kinds = sorted(found.operators.items(), key=lambda pair: (-pair[1], pair[0]))
    ui.echo(
        f"{found.label}: {found.model} for {found.target}, {found.recipe}, {height}x{width}, "
        f"{total} operators: {', '.join(f'{count} {kind}' for kind, count in kinds)}"
    )
    ui.table(
        ("delegate", "rests on", "answered by", "takes", "pieces", "of operators"),
        [
            (
                each.title,
                each.basis,
                each.by,
                "?" if each.taken is None else f"{each.taken} of {each.operators}",
                "?" if each.partitions is None else str(each.partitions),
                _sizes(each.partition_sizes),
            )
            for each in found.delegates
        ],
        left=3,
    )
    _show_left_out(found.delegates)
    _show_compiled(found.delegates)
    _show_drifts(found.delegates)
    for each in found.delegates:
        for note in each.notes:
            ui.echo(f"{each.title}: {note}")
    for missing in found.not_asked:
        ui.note(f"{missing.delegate} was not asked: {missing.reason} {missing.remedy}".rstrip())


def _show_left_out(delegates: "tuple[DelegateReport, ...]") -> None:
    rows = [(each.title, one) for each in delegates for one in each.left_out]
    _show_reasons("left out by", rows)
    wrong = [(each.title, one) for each in delegates for one in each.faults]
    _show_reasons("computed wrongly by", wrong)


def _show_reasons(heading: str, rows: "Sequence[tuple[str, LeftOut]]") -> None:
    from edgese.cli import ui

    if not rows:
        return
    ui.table(
        (heading, "operator", "code", "reason", "count"),
        [
            (
                title,
                one.operator,
                one.code,
                one.reason,
                "?" if one.count is None else str(one.count),
            )
            for title, one in rows
        ],
        left=4,
    )
    advice: dict[tuple[str, str], None] = dict.fromkeys((one.code, one.advice) for _, one in rows)
    for code, text in advice:
        ui.echo(f"{code}: {text}")
    ui.echo()


def _show_compiled(delegates: "tuple[DelegateReport, ...]") -> None:
    from edgese.cli import ui

    rows = [
        (
            each.title,
            one.soc,
            one.architecture,
            str(one.taken),
            str(one.partitions),
            "-" if one.size_bytes is None else f"{one.size_bytes / 1e6:.1f} MB",
        )
        for each in delegates
        for one in each.compiled
    ]
    if rows:
        ui.table(("compiled by", "for", "architecture", "takes", "pieces", "size"), rows, left=3)


def _show_drifts(delegates: "tuple[DelegateReport, ...]") -> None:
    from edgese.cli import ui

    rows = [
        (
            each.title,
            drift.arithmetic,
            f"{drift.max_abs_diff:.1e}",
            f"{drift.logit_std:.2g}",
            f"{drift.cosine:.7f}",
            ui.percent(drift.top1_agreement, 0),
            str(drift.pictures),
        )
        for each in delegates
        for drift in each.drifts
    ]
    if rows:
        ui.table(
            ("beside the CPU", "in", "max diff", "logits' std", "cosine", "top-1 same", "pictures"),
            rows,
            left=2,
        )


def _sizes(sizes: tuple[int, ...]) -> str:
    if len(sizes) <= _SHOWN:
        return ", ".join(map(str, sizes)) or "-"
    return f"{min(sizes)} to {max(sizes)}"
