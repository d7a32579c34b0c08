"""What a gate and a comparison said, on the page."""

from collections.abc import Sequence

from edgese.records.budget import Comparison, GateResult
from edgese.report.builds import next_text
from edgese.report.markup import Markup, joined, tag
from edgese.report.shell import section
from edgese.report.tables import table


def gate(result: GateResult) -> Markup:
    """Every cell with its verdict and the numbers that decided."""
    untrusted = [
        tag("li", tag("b", one.origin), tag("br"), f"{one.message} {one.hint}".strip())
        for one in result.untrusted
    ]
    return section(
        "Gate",
        None,
        f"All verdicts together are wrong in at most {result.error_rate:.0%} of all cases.",
        tag("p", result.verdict, class_=f"answer verdict {result.verdict}"),
        table(
            ("artifact", "limit", "verdict", "found", "interval", "bound", "why"),
            [
                (
                    f"{cell.name} on {cell.device}",
                    cell.judged.limit,
                    cell.judged.verdict,
                    "" if cell.judged.value is None else f"{cell.judged.value:.4g}",
                    ""
                    if cell.judged.interval is None
                    else f"{cell.judged.interval.low:.4g} to {cell.judged.interval.high:.4g}",
                    f"{'at most' if cell.judged.at_most else 'at least'} {cell.judged.bound:g}",
                    "; ".join(filter(None, (cell.judged.reason, next_text(cell.judged)))),
                )
                for cell in result.cells
            ],
            words=3,
            last_words=True,
        ),
        joined(tag("h3", "Not trusted"), tag("ul", *untrusted, class_="cautions"))
        if untrusted
        else None,
        *(tag("p", note, class_="quiet") for note in result.notes),
    )


def comparison(result: Comparison) -> Markup:
    """Two artifacts that took turns."""
    ratio = result.ratio
    return section(
        "Comparison",
        result.profiles[0].source,
        "",
        tag("p", f"{ratio.artifact} is {_told(result.verdict)} {ratio.baseline}.", class_="answer"),
        tag(
            "p",
            f"Time ratio {ratio.ratio:.3f} ({ratio.interval.low:.3f} to {ratio.interval.high:.3f}, "
            f"{ratio.interval.confidence:.0%}, {ratio.launches} launches); differences within "
            f"{result.margin:.1%} do not matter.",
            class_="quiet",
        ),
    )


def _told(verdict: str) -> str:
    return "not told apart from" if verdict == "cannot tell" else f"{verdict} than"


def sections(records: Sequence[GateResult | Comparison]) -> Markup:
    """All of them, in their order."""
    return joined(*(gate(r) if isinstance(r, GateResult) else comparison(r) for r in records))
