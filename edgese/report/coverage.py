"""What delegates take of artifacts, from manifests and inspections."""

from collections.abc import Sequence

from edgese.records.artifact import Manifest
from edgese.records.inspection import Inspection
from edgese.report.chart import shortened
from edgese.report.markup import Markup, joined, tag
from edgese.report.shell import section
from edgese.report.tables import table


def coverage(manifests: Sequence[Manifest], inspections: Sequence[Inspection]) -> Markup | None:
    """A row for each delegate of each artifact, and a reason for each operator left out."""
    if not manifests and not inspections:
        return None
    seen = {one.sha256 for one in inspections}
    read = [one for one in manifests if one.sha256 not in seen]
    names = dict(
        zip(
            [one.label for one in inspections],
            shortened([one.label for one in inspections]),
            strict=True,
        )
    )
    rows = [
        *(
            (
                one.artifact,
                f"{one.target}, {one.delegate}",
                "the file",
                str(sum(one.operators.operators.values())),
                str(one.operators.partitions),
                str(sum(kind.count for kind in one.operators.outside)),
            )
            for one in read
        ),
        *(
            (
                names[one.label],
                each.title,
                each.basis,
                str(each.operators),
                "?" if each.partitions is None else str(each.partitions),
                "?" if each.taken is None else str(each.operators - each.taken),
            )
            for one in inspections
            for each in one.delegates
        ),
    ]
    reasons = [
        *(
            (one.artifact, kind.operator, str(kind.count), kind.reason)
            for one in read
            for kind in one.operators.outside
        ),
        *(
            (
                names[one.label],
                left.operator,
                "?" if left.count is None else str(left.count),
                f"{each.title}: {left.code}: {left.reason}",
            )
            for one in inspections
            for each in one.delegates
            for left in each.left_out
        ),
    ]
    return section(
        "What delegates take",
        None,
        "One piece is everything without a way back to the processor; what is outside stays on it.",
        table(
            ("artifact", "executed by", "told by", "operators", "pieces", "outside"), rows, words=3
        ),
        joined(
            tag("h3", "Outside"),
            table(("artifact", "operator", "count", "why"), reasons, words=2, last_words=True),
        )
        if reasons
        else None,
    )
