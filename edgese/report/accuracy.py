"""Accuracies with their intervals, and what they were counted on."""

from collections.abc import Sequence

from edgese.records.evaluation import Evaluation
from edgese.report import svg
from edgese.report.chart import shortened
from edgese.report.markup import Markup, joined, tag
from edgese.report.scale import around
from edgese.report.shell import section


def section_of(evaluations: Sequence[Evaluation]) -> Markup | None:
    """Top-1 of each evaluation with its Wilson interval."""
    if not evaluations:
        return None
    names = shortened([one.subject for one in evaluations])
    ends = [
        100 * edge
        for one in evaluations
        for edge in (one.top1.interval.low, one.top1.interval.high)
    ]
    scale = around(ends)
    drawn = []
    for one, name in zip(evaluations, names, strict=True):
        interval = one.top1.interval
        low, middle, high = (
            svg.SIDE * scale.place(100 * share)
            for share in (interval.low, one.top1.share, interval.high)
        )
        told = f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
        plot = svg.canvas(
            svg.grid_x(scale),
            svg.line((low, 500.0), (high, 500.0), "interval main", told),
            svg.dot((middle, 500.0), "main", f"{one.top1.share:.2%}"),
            label=f"{one.top1.share:.2%}, {told}",
            class_="plot strip",
        )
        drawn.append(
            svg.row(
                f"{name}, {one.target}, {one.recipe}",
                plot,
                f"{one.top1.share:.2%}",
                title=one.subject,
                note=f"{one.top1.count} of {one.top1.of}, {told}",
            )
        )
    return section(
        "Accuracy",
        "measured",
        "Top-1 on labelled pictures, with its 95 % Wilson interval.",
        svg.rows(drawn, scale, "%"),
    )


def provenance(evaluations: Sequence[Evaluation]) -> Markup | None:
    """The pictures, weights and packages of evaluations."""
    if not evaluations:
        return None
    return section(
        "What accuracy was counted on",
        None,
        "",
        *(
            joined(
                tag("h3", f"{one.subject}, {one.target}"),
                tag(
                    "dl",
                    *(
                        joined(tag("dt", name), tag("dd", told))
                        for name, told in (
                            ("pictures", f"{one.pictures} of {one.data.listed}, {one.data.source}"),
                            ("their hash", one.data.sha256),
                            ("weights", one.weights.source),
                            ("artifact", one.artifact_sha256),
                            ("versions", ", ".join(f"{k} {v}" for k, v in one.versions.items())),
                            ("at", one.created),
                        )
                        if told
                    ),
                ),
            )
            for one in evaluations
        ),
    )
