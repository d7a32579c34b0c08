"""``edgese demo``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from edgese.records.selection import Story

EXAMPLE: Final = "Example: edgese demo --out edgese-out/demo"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the artifacts.")] = Path("edgese-out/demo"),
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Run the main job on an embedded default, without a network.

    EfficientNet-Lite0 with its ImageNet weights becomes an artifact for each of the four targets,
    in fp32, and from one quantized program in int8, each verified beside PyTorch; every runtime
    classifies two photographs; int8 is timed beside fp32. The calibration pictures are crops of
    these two photographs, which says nothing of accuracy: `edgese evaluate` does. Last, three
    variants are trained on handwritten digits, quantized and measured, one is chosen under a
    budget, and a page is written.
    """
    from edgese.cli import ui
    from edgese.cli.convert import show_outcomes
    from edgese.cli.profiles import show_result
    from edgese.demonstration import demonstrate

    with ui.quiet_libraries(), ui.bars([]) as show:
        shown = demonstrate(out, show)
    if json:
        ui.echo_json(shown)
        return
    ui.echo("EfficientNet-Lite0 with its ImageNet weights, on four targets in fp32 and int8:")
    show_outcomes(shown.outcomes)
    ui.echo("What each runtime sees in scikit-learn's two photographs:")
    ui.table(
        ("runs in", "recipe", *shown.recognized[0].pictures),
        [
            (
                row.target,
                row.recipe,
                *(f"{score.name} ({ui.percent(score.probability)})" for score in row.classes),
            )
            for row in shown.recognized
        ],
        left=4,
    )
    for pair in shown.profiles:
        show_result(pair)
    _show_story(shown.story)


def _show_story(story: "Story") -> None:
    """Which of three trained variants fits a budget, and where to read more."""
    from edgese.cli import ui
    from edgese.cli.select import show_selection

    ui.echo("Which variant fits a budget? Trained on scikit-learn's handwritten digits, int8:")
    ui.table(
        ("trained", "top-1 in PyTorch"),
        [(name, ui.percent(share, 2)) for name, share in story.trainings.items()],
    )
    show_selection(story.selection)
    ui.echo(f"All of it on one page: {story.page}")
