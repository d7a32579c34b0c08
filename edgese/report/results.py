"""One page of results of several kinds: which variant, why, and everything that it rests on."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from edgese.budgets.regression import same_machine
from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.budget import Comparison, GateResult
from edgese.records.evaluation import Evaluation, EvaluationResult
from edgese.records.inspection import Inspection
from edgese.records.measurement import SustainedResult
from edgese.records.profile import ProfileResult
from edgese.records.selection import Decision, Finding, SelectionResult
from edgese.records.training import TrainingResult
from edgese.report import accuracy, gating, pareto, training
from edgese.report.coverage import coverage
from edgese.report.html import sections
from edgese.report.markup import Markup, joined, tag
from edgese.report.shell import document, section
from edgese.report.tables import table
from edgese.selection.deciding import Aim, decide
from edgese.selection.limits import in_words
from edgese.selection.outcome import result_of
from edgese.selection.results import known_of

_CAPTION: Final = (
    "Up and to the left is better. Lines are intervals; the stepped line joins what nothing else "
    "beats in both; numbers are those of the table."
)
_Kind = TypeVar("_Kind", bound=Record)


def results_page(records: Sequence[Record]) -> str:
    """The page as text.

    Args:
        records: as `edgese.results.read_result` gives them.
    """
    every = list(_unfolded(records))
    selections = _of(every, SelectionResult)
    profiles = _merged(_of(every, ProfileResult))
    content = joined(
        *(_selection(one) for one in selections),
        *(() if selections else (_compared(every, device) for device in profiles)),
        gating.sections([one for one in every if isinstance(one, GateResult | Comparison)]),
        accuracy.section_of(_evaluations(every)),
        training.section_of(_of(every, TrainingResult)),
        *(
            joined(
                tag("h2", f"On {device}", class_="part") if len(profiles) > 1 else None,
                sections(one),
            )
            for device, one in profiles.items()
        ),
        *(sections(None, sustained=one) for one in _of(every, SustainedResult)),
        coverage(_unique(_of(every, Manifest)), _of(every, Inspection)),
        accuracy.provenance(_evaluations(every)),
    )
    title = _title(selections, profiles)
    heading = tag("header", tag("h1", title), tag("p", _subtitle(selections), class_="quiet"))
    return document(title, joined(heading, content))


def _title(selections: Sequence[SelectionResult], profiles: dict[str, ProfileResult]) -> str:
    if selections:
        return f"Which variant on {', '.join(dict.fromkeys(one.device for one in selections))}"
    return f"Results on {', '.join(profiles)}" if profiles else "Results"


def _subtitle(selections: Sequence[SelectionResult]) -> str:
    if not selections:
        return ""
    first = selections[0]
    return f"edgese {first.edgese}, {first.created}" + (
        f"; budget {first.budget}" if first.budget else ""
    )


def _selection(result: SelectionResult) -> Markup:
    decision = result.decision
    limits = ", ".join(map(in_words, result.limits))
    drawn = pareto.points(decision.standings, judged=True)
    return joined(
        section(
            "Decision",
            None,
            "",
            _answer(decision),
            tag("p", f"Limits: {limits}." if limits else "No limits.", class_="quiet"),
            tag("ul", *(tag("li", one) for one in decision.cautions), class_="cautions")
            if decision.cautions
            else None,
            *(tag("p", note, class_="quiet") for note in result.notes),
            _rounds(result),
        ),
        section(
            "Accuracy and latency",
            None,
            _CAPTION,
            pareto.figure(drawn, result.limits),
            pareto.legend(drawn, result.limits),
            pareto.candidates(result, judged=True),
        )
        if drawn
        else section("Candidates", None, "", pareto.candidates(result, judged=True)),
    )


def _answer(decision: Decision) -> Markup:
    if (chosen := decision.winner) is not None:
        return joined(
            tag("p", tag("b", decision.chosen), class_="answer"),
            tag("p", tag("span", chosen.artifact, class_="hash")) if chosen.artifact else None,
            tag("p", f"It is followed by {_listed(decision.runners_up)}.", class_="quiet")
            if decision.runners_up
            else None,
        )
    near = tag(
        "ul",
        *(
            tag(
                "li",
                tag("b", one.label),
                tag("br"),
                "would be chosen with "
                + ", ".join(
                    f"{each.limit.quantity} at {each.needed:.4g} in place of {each.limit.bound:g}"
                    for each in one.relax
                ),
            )
            for one in decision.nearest
        ),
        class_="cautions",
    )
    missing = [
        tag("p", f"{name} is not known of any candidate.", class_="notice")
        for name in decision.missing
    ]
    return joined(
        tag("p", "No candidate meets the budget.", class_="answer none"),
        *missing,
        near if decision.nearest else None,
    )


def _rounds(result: SelectionResult) -> Markup | None:
    if not result.rounds:
        return None
    again = any(one.resumed for one in result.rounds)
    return table(
        ("round", "looked at", "ruled out", *(("from before",) if again else ()), "time"),
        [
            (
                one.round,
                str(one.looked_at),
                str(one.ruled_out),
                *((str(one.resumed),) if again else ()),
                f"{one.seconds:.1f} s",
            )
            for one in result.rounds
        ],
    )


def _compared(records: Sequence[Record], device: str) -> Markup | None:
    """Accuracy over latency without a budget, where any accuracy is known."""
    if not any(one.profiles for one in _of(records, ProfileResult) if one.device == device):
        return None
    known, _ = known_of(records, device)
    result = result_of(decide(known, Aim(())), Aim(()), device=device, budget="")
    drawn = pareto.points(result.decision.standings, judged=False)
    if not drawn:
        return None
    return section(
        f"Accuracy and latency on {device}",
        None,
        _CAPTION,
        pareto.figure(drawn, ()),
        pareto.legend(drawn, ()),
        pareto.candidates(result, judged=False),
    )


def _unfolded(records: Sequence[Record]) -> Iterator[Record]:
    """Selections and findings with what they hold."""
    for record in records:
        yield record
        match record:
            case SelectionResult():
                yield from _unfolded(record.findings)
            case Finding():
                yield from filter(None, (record.manifest, record.profile, record.evaluation))


def _of(records: Iterable[Record], kind: type[_Kind]) -> list[_Kind]:
    return [record for record in records if isinstance(record, kind)]


def _unique(manifests: Sequence[Manifest]) -> list[Manifest]:
    return list({one.sha256: one for one in manifests}.values())


def _evaluations(records: Sequence[Record]) -> list[Evaluation]:
    found = _of(records, Evaluation)
    for result in _of(records, EvaluationResult):
        found += result.evaluations
    return found


def _merged(results: Sequence[ProfileResult]) -> dict[str, ProfileResult]:
    """One result for each device; what several measurements found stands side by side."""
    merged: dict[str, ProfileResult] = {}
    for one in results:
        name = _machine(one, merged)
        first = merged.get(name)
        merged[name] = (
            one
            if first is None
            else msgspec.structs.replace(
                first,
                created=max(first.created, one.created),
                absence=first.absence or one.absence,
                plan=first.plan if first.plan == one.plan else None,
                before=None,
                after=None,
                sustained=first.sustained or one.sustained,
                complete=first.complete and one.complete,
                **{
                    name: getattr(first, name) + getattr(one, name)
                    for name in (
                        "profiles",
                        "ratios",
                        "failures",
                        "programs",
                        "emulations",
                        "predictions",
                        "estimates",
                        "operators",
                        "notes",
                    )
                },
            )
        )
    return merged


def _machine(result: ProfileResult, merged: dict[str, ProfileResult]) -> str:
    """The name of a result's machine, with its processor where another machine has that name."""
    first = merged.get(result.device)
    if first is None or not first.profiles or not result.profiles:
        return result.device
    then, now = first.profiles[0].device, result.profiles[0].device
    return result.device if same_machine(then, now) else f"{result.device}, {now.cpu}"


def _listed(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{'; '.join(labels[:-1])}; and {labels[-1]}"
