"""The section of trainings: what was trained, and its curves."""

from collections.abc import Sequence

from edgese.records.training import TrainingResult
from edgese.report import svg
from edgese.report.markup import Markup, joined, tag
from edgese.report.scale import Scale, around
from edgese.report.shell import section
from edgese.report.tables import table

_Line = tuple[str, list[float | None]]


def section_of(trainings: Sequence[TrainingResult]) -> Markup | None:
    """Return a table of trainings, with loss and accuracy of each over its epochs."""
    if not trainings:
        return None
    return section(
        "Training",
        None,
        "Accuracy is that of the network in PyTorch, on validation images.",
        table(
            ("model", "recipe", "epochs", "top-1", "images", "time", "weights"),
            [
                (
                    one.model.name,
                    one.log.recipe.name,
                    str(len(one.log.epochs)),
                    f"{one.log.val.share:.2%}" if one.log.val else "-",
                    str(one.train.pictures),
                    f"{one.seconds:.0f} s",
                    one.weights,
                )
                for one in trainings
            ],
            words=2,
            last_words=True,
        ),
        *(_curves(one) for one in trainings if one.log.epochs),
    )


def _curves(training: TrainingResult) -> Markup:
    rows = training.log.epochs
    loss: list[_Line] = [
        ("training", [row.train_loss for row in rows]),
        ("validation", [row.val_loss for row in rows]),
    ]
    accuracy: list[_Line] = [
        ("training", [_percent(row.train_top1) for row in rows]),
        ("validation", [_percent(row.val_top1) for row in rows]),
        ("same as the teacher", [_percent(row.val_agreement) for row in rows]),
    ]
    epochs = [row.epoch for row in rows]
    return joined(
        tag("h3", f"{training.model.name}, {training.log.recipe.name}"),
        _panel("loss", "", epochs, loss),
        _panel("top-1", "%", epochs, accuracy),
    )


def _panel(title: str, unit: str, epochs: Sequence[int], lines: Sequence[_Line]) -> Markup | None:
    """A figure of values over epochs; None where no line has a value."""
    known = [(name, values) for name, values in lines if any(v is not None for v in values)]
    if not known:
        return None
    x = Scale(epochs[0] - 0.5, epochs[-1] + 0.5)
    y = around([value for _, values in known for value in values if value is not None], wide=1e9)
    drawn, keys = [], []
    for number, (name, values) in enumerate(known):
        points = [
            (svg.SIDE * x.place(epoch), svg.SIDE * (1 - y.place(value)))
            for epoch, value in zip(epochs, values, strict=True)
            if value is not None
        ]
        drawn.append(svg.curve(points, f"curve c{number}"))
        drawn += [svg.dot(point, f"curve c{number}") for point in points]
        keys.append(tag("span", tag("i", class_=f"key c{number}"), name))
    plot = svg.canvas(svg.grid_y(y), *drawn, label=f"{title} over epochs")
    return joined(
        tag("div", *keys, class_="legend"),
        svg.panel(title, plot, x, y, x_unit="epoch", y_unit=unit),
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
