"""The figure of what each kind of operator takes."""

from typing import Final

from edgese.records.measurement import OperatorKindTime, OperatorTimes
from edgese.report import svg
from edgese.report.markup import Markup, joined, tag
from edgese.report.scale import around
from edgese.report.tables import table

# What takes less is put together.
LEAST_SHARE: Final = 0.005
MOST_OPERATORS: Final = 15


def times(found: OperatorTimes) -> Markup:
    """Kinds of operators by their share, and the most expensive single ones."""
    if found.unavailable:
        return tag("p", found.unavailable, class_="quiet")
    kinds = [kind for kind in found.kinds if kind.share >= LEAST_SHARE]
    small = found.kinds[len(kinds) :]
    if small:
        kinds.append(
            OperatorKindTime(
                operator=" and ".join(
                    [", ".join(x.operator for x in small[:-1]), small[-1].operator]
                )
                if len(small) > 1
                else small[0].operator,
                count=sum(kind.count for kind in small),
                mean_ms=sum(kind.mean_ms for kind in small),
                share=sum(kind.share for kind in small),
            )
        )
    scale = around([100 * kind.share for kind in kinds], zero=True)
    drawn = [
        svg.row(
            f"{kind.operator} x {kind.count}",
            svg.bar(100 * kind.share, scale, found.amount(kind.mean_ms)),
            f"{kind.share:.1%}",
            note=found.amount(kind.mean_ms),
        )
        for kind in kinds
    ]
    longest = sorted(found.operators, key=lambda operator: -operator.mean_ms)[:MOST_OPERATORS]
    details = tag(
        "details",
        tag("summary", f"The {len(longest)} longest of {len(found.operators)} operators"),
        table(
            ("operator", "kind", "output", "mean", "share"),
            [
                (
                    one.name,
                    one.operator,
                    f"{one.dtype} {'x'.join(map(str, one.output))}",
                    found.amount(one.mean_ms),
                    f"{one.share:.1%}",
                )
                for one in longest
            ],
            words=3,
        ),
    )
    told = tag(
        "p",
        f"{found.runs} inferences of {found.amount(found.inference_ms or 0)} while they were "
        f"recorded, of which {found.amount(found.outside_ms or 0)} are in no operator. Recording "
        "slows the runtime down: the shares count, not their sum.",
        class_="quiet",
    )
    return joined(svg.rows(drawn, scale, "%"), told, details)
