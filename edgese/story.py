"""The end of the demonstration: three variants on real pictures, and the one that fits a budget."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from edgese import store
from edgese.budgets.load_budget import load_budget
from edgese.data.classes import ClassNames
from edgese.data.digits import DIGITS, digit_pictures
from edgese.data.folders import write_digits
from edgese.errors import MissingDependency
from edgese.measure.plan import FEWEST_LAUNCHES
from edgese.records.measurement import MeasurePlan
from edgese.records.selection import SelectionResult, Story
from edgese.records.training import Advance, TrainingResult
from edgese.report import results_page
from edgese.seals import sealed
from edgese.selection.api import select
from edgese.selection.candidates import enumerated
from edgese.selection.deciding import Aim
from edgese.selection.work import Order
from edgese.targets import target_module
from edgese.training.api import RESULT, WEIGHTS, sound, train
from edgese.training.checkpoint import CHECKPOINT

MODELS: Final = ("efficientnet_b0", "efficientnet_b1", "efficientnet_b2")
# Digits have 8 px; larger pictures would only be blurred more, and trained for longer.
RESOLUTION: Final = 32
TRAINING: Final = "digits-efficientnet"
CLASSES: Final = 10
RECIPE: Final = "int8"
# Enough for the ranges of so small a network.
CALIBRATION: Final = 128
# In the order in which they are preferred; the first that runs here is measured.
TARGETS: Final = ("tflite", "onnxruntime", "executorch")
# Room for B1, whose file takes 7.8 MB, and not for B2, whose takes 9.1.
BUDGET: Final = """\
[[budget]]
device = "host"
latency_p50_ms = 20.0
size_mb = 8.5
accuracy = 0.8
"""

Report = Callable[[str, str, float], None]


def tell(out: Path, on_progress: Report) -> Story:
    """Trains B0 to B2 on handwritten digits, and chooses the one that fits a budget, in int8.

    Each is trained, quantized, converted and measured on this host, although the budget alone would
    spare the largest; an interrupted story goes on where it was.

    Args:
        out: folder for everything.

    Raises:
        MissingDependency: no runtime that executes here is installed.
        Others as of `edgese.training.api.train` and `edgese.selection.api.select`.
    """
    target = next((name for name in TARGETS if not target_module(name).unavailable()), "")
    if not target:
        raise MissingDependency(
            "No runtime that executes on this machine is installed.",
            hint="pip install 'edgese[tflite]'",
        )
    pictures, calibration = _pictures(out / "digits")
    trainings = tuple(_trained(model, out / "trainings", on_progress) for model in MODELS)
    budget = out / "budget.toml"
    store.write_text(BUDGET, budget)
    result = select(
        enumerated(
            MODELS,
            resolutions=[(RESOLUTION, RESOLUTION)],
            recipes=[RECIPE],
            targets=[target],
            weights=str(out / "trainings" / "{model}" / WEIGHTS),
            classes=CLASSES,
        ),
        Aim(load_budget(budget).limits_on("host")),
        Order(
            device="host",
            plan=MeasurePlan(
                threads=1, launches=FEWEST_LAUNCHES, blocks=2 * FEWEST_LAUNCHES, min_time_s=0.5
            ),
            folder=str(out / "select"),
            data=str(pictures),
            calibration=str(calibration),
        ),
        budget=str(budget),
        everything=True,
        progress=lambda stage, fraction: on_progress("select", stage, fraction),
    )
    page = out / "report.html"
    store.write_text(results_page([result]), page)
    store.write_record(sealed(result), out / "selection.json")
    return Story(trainings=_accuracies(trainings), selection=result, page=str(page))


def artifact_of(result: SelectionResult) -> str:
    """The file that was chosen; "" where none was."""
    label = result.decision.chosen
    return next((one.artifact for one in result.decision.standings if one.label == label), "")


def _pictures(folder: Path) -> tuple[Path, Path]:
    """The validation digits, and some of the others to calibrate with."""
    learnt, held = digit_pictures(ClassNames(classes=CLASSES))
    write_digits(held, folder / "validation", range(held.info.pictures))
    step = max(1, learnt.info.pictures // CALIBRATION)
    write_digits(learnt, folder / "calibration", range(0, step * CALIBRATION, step))
    return folder / "validation", folder / "calibration"


def _trained(model: str, folder: Path, on_progress: Report) -> TrainingResult:
    place = folder / model
    if (place / RESULT).is_file():
        return sound(store.read_record(TrainingResult, place / RESULT, remake="edgese demo"))

    def advance(now: Advance) -> None:
        on_progress("train", f"{model}, epoch {now.epoch} of {now.epochs}", now.step / now.steps)

    return train(
        model,
        DIGITS,
        recipe=TRAINING,
        weights="none",
        classes=CLASSES,
        resolution=RESOLUTION,
        out=place,
        # More threads gain little of so small pictures, and lose much on a busy machine.
        threads=1,
        resume=(place / CHECKPOINT).is_file(),
        progress=advance,
    )


def _accuracies(trainings: tuple[TrainingResult, ...]) -> dict[str, float]:
    found = {}
    for one in trainings:
        last = one.log.epochs[-1]
        if last.val_top1 is not None:
            found[one.model.name] = last.val_top1
    return found
