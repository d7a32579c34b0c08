"""What a run writes down after each epoch: log.json, log.csv, curve.png."""

import csv
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from edgese import store
from edgese.records.training import EpochRow, TrainingLog

LOG: Final = "log.json"
TABLE: Final = "log.csv"
CURVE: Final = "curve.png"

_COLUMNS: Final = tuple(field.name for field in msgspec.structs.fields(EpochRow))


def write_log(folder: Path, log: TrainingLog) -> None:
    """Writes the log as JSON, and its epochs as CSV, in one step.

    Raises:
        OutputError: the folder cannot be written, or is full.
    """
    with store.staging(folder / LOG, folder / TABLE) as (record, table):
        record.write_text(log.to_json() + "\n", encoding="utf-8")
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            # None is an empty cell.
            writer.writerows([getattr(row, name) for name in _COLUMNS] for row in log.epochs)


def draw_curve(folder: Path, log: TrainingLog) -> None:
    """Draws loss and accuracy over the epochs; does nothing where matplotlib is not installed.

    Raises:
        OutputError: the folder cannot be written, or is full.
    """
    if find_spec("matplotlib") is None:
        return
    # pyplot would look for a screen, and keep every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = log.epochs
    epochs = [row.epoch for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    lines = (
        (loss, "training", [row.train_loss for row in rows]),
        (loss, "validation", [row.val_loss for row in rows]),
        (accuracy, "training", _percent([row.train_top1 for row in rows])),
        (accuracy, "validation", _percent([row.val_top1 for row in rows])),
        (accuracy, "same as the teacher", _percent([row.val_agreement for row in rows])),
    )
    for axes, name, values in lines:
        if any(value is not None for value in values):
            # matplotlib takes NaN for a gap, and None for an error.
            drawn = [float("nan") if value is None else value for value in values]
            axes.plot(epochs, drawn, marker=".", label=name)
    for axes, title in ((loss, "loss"), (accuracy, "top-1, %")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.suptitle(f"{log.depends.get('model', '')} {log.recipe.name}".strip())
    with store.staging(folder / CURVE) as (partial,):
        figure.savefig(partial, format="png", dpi=120)


def _percent(shares: Sequence[float | None]) -> list[float | None]:
    return [None if share is None else 100 * share for share in shares]
