"""``edgese evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgese import project
from edgese.cli.parsing import resolution_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgese.records.evaluation import Agreement, Evaluation, Proportion

EXAMPLE: Final = (
    "Example: edgese evaluate edgese-out/efficientnet_lite0-fp32.tflite --data pictures"
)

# Images that are named where many could not be read.
_NAMED: Final = 5


def evaluate(
    subjects: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARTIFACT|MODEL",
            help="Artifacts, run in their own runtimes, or a model's name or spec file, run in "
            "PyTorch; default: edgese.toml's model.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of class folders, or a CSV with columns file and label."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="For models: a .safetensors or .pth file, or 'imagenet'.")
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            min=1, help="For models: outputs of the classifier.  [default: the weights' or model's]"
        ),
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(
            metavar="N|HxW",
            help="For models: input size in pixels.  [default: the weights' or model's]",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Only rows whose column split has this value.")] = "",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the runtime.  [default: all cores]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many pictures, evenly spread.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on a picture that cannot be read.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write the result, every prediction in it, here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure accuracy on labelled pictures: of artifacts in their real runtimes, or in PyTorch.

    Top-1 and top-5 come with 95 % Wilson intervals. With several subjects, each is also held
    against the first, picture by picture: how often the first class is the same, and McNemar's
    exact p for the difference. Every single prediction is kept in the JSON.
    """
    from edgese.cli import ui
    from edgese.errors import ConfigError
    from edgese.evaluation.api import evaluate as run
    from edgese.evaluation.comparison import agreement
    from edgese.evaluation.subjects import Subject, find_subject, is_artifact
    from edgese.records.evaluation import EvaluationResult
    from edgese.seals import sealed
    from edgese.store import writable_file, write_record

    if data is None:
        raise ConfigError(
            "No pictures were named.",
            hint="Give --data FOLDER (one folder a class) or --data FILE.csv (file, label).",
        )
    names = subjects or [project.subject(None)]
    # An artifact holds its own weights; those that are named are for the models among the subjects.
    artifacts = set(filter(is_artifact, names))
    of_models = {"--weights": weights, "--classes": classes, "--resolution": resolution}
    given = [option for option, value in of_models.items() if value is not None]
    if given and artifacts.issuperset(names):
        raise ConfigError(
            f"{' and '.join(given)} were given for artifacts, which have their own inside.",
            hint="Leave them out, or name a model too.",
        )
    if out is not None:
        writable_file(out)
    with ui.quiet_libraries(), ui.bars(names) as show:
        # All are looked at before the first one takes its minutes.
        found = [
            find_subject(name)
            if name in artifacts
            else find_subject(
                name,
                weights or project.weights(name),
                classes=classes,
                resolution=resolution_of(resolution),
            )
            for name in names
        ]

        # Only to be compared with each other.
        logits: list[dict[str, NDArray[np.float32]]] = [
            {} for _ in (found if len(found) > 1 else ())
        ]

        def evaluated(index: int, subject: Subject) -> "Evaluation":
            return run(
                subject,
                data,
                split=split,
                threads=threads,
                limit=limit,
                strict=strict,
                progress=lambda stage, fraction: show(subject.name, stage, fraction),
                logits=logits[index] if logits else None,
            )

        evaluations = []
        for index, subject in enumerate(found):
            evaluations.append(evaluated(index, subject))
            show(subject.name, "done", 1.0)
    result = sealed(
        EvaluationResult(
            evaluations=tuple(evaluations),
            agreements=tuple(
                agreement(evaluations[0], other, (logits[0], of))
                for other, of in zip(evaluations[1:], logits[1:], strict=True)
            ),
        )
    )
    if out is not None:
        write_record(result, out)
    if json:
        ui.echo_json(result)
    else:
        show_evaluations(result.evaluations, result.agreements)


def show_evaluations(
    evaluations: "Sequence[Evaluation]", agreements: "Sequence[Agreement]"
) -> None:
    """The table of accuracies, of agreements, and the pictures that could not be read."""
    from edgese.cli import ui

    ui.table(
        ("subject", "runs in", "recipe", "pictures", "top-1", "95 %", "top-5", "95 %", "time"),
        [
            (
                evaluation.subject,
                evaluation.target,
                evaluation.recipe,
                str(evaluation.pictures)
                if evaluation.pictures == evaluation.data.listed
                else f"{evaluation.pictures} of {evaluation.data.listed}",
                *_proportion(evaluation.top1),
                *_proportion(evaluation.top5),
                f"{evaluation.seconds:.0f} s",
            )
            for evaluation in evaluations
        ],
        left=3,
    )
    if agreements:
        ui.table(
            ("beside the first", "same top-1", "differing", "difference", "McNemar p", "KL"),
            [
                (
                    pair.second,
                    f"{pair.same_top1} of {pair.pictures}",
                    str(pair.pictures - pair.same_top1),
                    f"{100 * pair.top1_difference:+.2f} points",
                    f"{pair.p_value:.3f}",
                    "-" if pair.kl is None else f"{pair.kl:.4f}",
                )
                for pair in agreements
            ],
        )
    for target, by in dict.fromkeys((each.target, each.by) for each in evaluations if each.by):
        ui.note(f"{target}: executed by {by}.")
    if evaluations[0].data.labelled_by == "order":
        ui.note("The folders' names are no classes of the model; they were taken in sorted order.")
    _show_missing(evaluations)


def _show_missing(evaluations: "Sequence[Evaluation]") -> None:
    """Images that could not be read, and what else the accuracies are not about."""
    from edgese.cli import ui

    unreadable = {
        picture.file: picture for evaluation in evaluations for picture in evaluation.unreadable
    }
    if unreadable:
        listed = evaluations[0].data.listed
        ui.note(f"{len(unreadable)} of {listed} images could not be read, and count as wrong:")
        for picture in list(unreadable.values())[:_NAMED]:
            ui.note(f"  {picture.reason}")
        if len(unreadable) > _NAMED:
            ui.note(f"  and {len(unreadable) - _NAMED} more; --json names all")
        for one in evaluations:
            if one.unreadable:
                best = (one.top1.count + len(one.unreadable)) / one.top1.of
                ui.note(
                    f"  {one.subject}: top-1 is {ui.percent(one.top1.share, 2)} so, and would be "
                    f"{ui.percent(best, 2)} if all of them were right."
                )
    first = evaluations[0].data
    if first.repeated:
        ui.note(f"{first.repeated} of the images are copies of others, file for file.")
    if first.classes_without:
        ui.note(f"Of {first.classes_without} of the model's classes there is no image.")


def _proportion(proportion: "Proportion | None") -> tuple[str, str]:
    from edgese.cli import ui

    if proportion is None:
        return "-", ""
    interval = proportion.interval
    return (
        ui.percent(proportion.share, 2),
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f}",
    )
