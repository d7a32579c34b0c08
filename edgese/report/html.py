"""One page with everything that is known of some artifacts, each figure labelled by its source.

The page holds its figures and styles and loads nothing: it can be mailed, kept in a CI's artifacts,
printed, and read on a phone, by day and by night.
"""

from collections.abc import Sequence

from edgese.records.emulation import Emulation, Estimate
from edgese.records.measurement import OperatorTimes, SustainedResult
from edgese.records.prediction import Prediction
from edgese.records.profile import ProfileResult
from edgese.report import curves, elsewhere, figures, operators, provenance
from edgese.report.chart import shortened
from edgese.report.markup import Markup, joined, tag
from edgese.report.shell import document, section
from edgese.report.tables import table


def profile_page(
    result: ProfileResult | None,
    *,
    emulations: Sequence[Emulation] = (),
    predictions: Sequence[Prediction] = (),
    estimates: Sequence[Estimate] = (),
    operators: Sequence[OperatorTimes] = (),
    sustained: SustainedResult | None = None,
) -> str:
    """The page as text.

    Args:
        result: None where there are only other records.
        emulations, predictions, estimates, operators: beside those that the result holds itself.
        sustained: where the result holds none.
    """
    body = sections(
        result,
        emulations=emulations,
        predictions=predictions,
        estimates=estimates,
        operators=operators,
        sustained=sustained,
    )
    sustained = sustained or (result.sustained if result else None)
    return document(_title(result, sustained), joined(_heading(result, sustained), body))


def sections(
    result: ProfileResult | None,
    *,
    emulations: Sequence[Emulation] = (),
    predictions: Sequence[Prediction] = (),
    estimates: Sequence[Estimate] = (),
    operators: Sequence[OperatorTimes] = (),
    sustained: SustainedResult | None = None,
) -> Markup:
    """Everything below the page's heading; arguments as of `profile_page`."""
    if result is not None:
        emulations = (*result.emulations, *emulations)
        predictions = (*result.predictions, *predictions)
        estimates = (*result.estimates, *estimates)
        operators = (*result.operators, *operators)
        sustained = sustained or result.sustained
    named = _names(result, emulations, estimates, operators, sustained)
    return joined(
        *_notices(result),
        *(_measured(result, named) if result and result.profiles else ()),
        _programs(result, named),
        _operators(operators, named),
        _sustained(sustained, named),
        _elsewhere(emulations, predictions, estimates, named),
        _failures(result, sustained),
        provenance.section(
            result,
            operators,
            sustained,
            emulations=emulations,
            predictions=predictions,
            estimates=estimates,
        ),
    )


def _names(
    result: ProfileResult | None,
    emulations: Sequence[Emulation],
    estimates: Sequence[Estimate],
    timed: Sequence[OperatorTimes],
    sustained: SustainedResult | None,
) -> dict[str, str]:
    """Labels without the folders that all have in common."""
    labels = {
        one.label: None
        for group in (
            result.profiles if result else (),
            result.programs if result else (),
            emulations,
            estimates,
            timed,
            sustained.curves if sustained else (),
        )
        for one in group
    }
    return dict(zip(labels, shortened(list(labels)), strict=True))


def _title(result: ProfileResult | None, sustained: SustainedResult | None) -> str:
    if result and result.profiles:
        count, device = len(result.profiles), result.profiles[0].device.name
        return f"{count} {'profile' if count == 1 else 'profiles'} on {device}"
    if sustained:
        return f"Sustained latency on {sustained.device.name}"
    return f"What is known of {result.device}" if result else "What is known without the device"


def _heading(result: ProfileResult | None, sustained: SustainedResult | None) -> Markup:
    device = (
        result.profiles[0].device
        if result and result.profiles
        else sustained.device
        if sustained
        else None
    )
    told = (
        f"{device.cpu}, {device.cores} cores, {device.architecture}, {device.system}"
        if device
        else ""
        if result and result.programs
        else "Nothing was measured."
    )
    return tag(
        "header",
        tag("h1", _title(result, sustained)),
        tag("p", told, class_="quiet"),
    )


def _notices(result: ProfileResult | None) -> tuple[Markup, ...]:
    """What is missing, before anything else."""
    if result is None:
        return ()
    said = [f"Not measured on the device: {result.absence}"] if result.absence else []
    if result.sweep is not None and not result.complete:
        done, planned = result.sweep.done, len(result.sweep.groups)
        said.append(f"The sweep is not complete: {done} of {planned} groups are measured.")
    said += result.notes
    return tuple(tag("p", one, class_="notice") for one in said)


def _programs(result: ProfileResult | None, named: dict[str, str]) -> Markup | None:
    if result is None or not result.programs:
        return None

    def told(value: float | None, unit: str = "ms") -> str:
        return "" if value is None else f"{value:.2f} {unit}"

    return section(
        "The runtimes' own programs",
        "measured",
        "Warm-up, input and what is timed are each program's own choice.",
        table(
            ("artifact", "program", "load", "mean", "p50", "p90", "p99", "inferences", "memory"),
            [
                (
                    named[one.label],
                    f"{one.run.tool} {one.run.delegate}".strip(),
                    *(
                        told(value)
                        for value in (
                            one.run.load_ms,
                            one.run.mean_ms,
                            one.run.p50_ms,
                            one.run.p90_ms,
                            one.run.p99_ms,
                        )
                    ),
                    f"{one.run.count:,}",
                    told(one.run.memory_mb, "MiB"),
                )
                for one in result.programs
            ],
            words=2,
        ),
    )


def _measured(result: ProfileResult, named: dict[str, str]) -> tuple[Markup | None, ...]:
    profiles = result.profiles
    names = [named[profile.label] for profile in profiles]
    source = profiles[0].source
    few = f"{profiles[0].threads} {'thread' if profiles[0].threads == 1 else 'threads'}"
    return (
        section(
            "Latency",
            source,
            f"The shape is the distribution of all counted inferences with {few}; the strokes are "
            "p50 (long), p90 and p99.",
            figures.latency(profiles, names),
            provenance.latency_table(profiles, names),
        ),
        section(
            "Time beside the baseline",
            source,
            "Below 1 is faster. The line is the interval over launches "
            f"({result.ratios[0].interval.confidence:.0%}); where it crosses 1, the two cannot be "
            "told apart.",
            figures.ratios(result.ratios, named),
        )
        if result.ratios
        else None,
        section(
            "What to know",
            source,
            "",
            tag(
                "ul",
                *(
                    _caution(name, caution.code, caution.message, caution.advice)
                    for profile, name in zip(profiles, names, strict=True)
                    for caution in profile.cautions
                ),
                class_="cautions",
            ),
        )
        if any(profile.cautions for profile in profiles)
        else None,
        _drift(result, named),
        section(
            "Memory",
            source,
            "Resident at the peak: grey is the runtime before it loads the artifact, colour what "
            "the artifact adds.",
            figures.memory(profiles, names),
        ),
    )


def _drift(result: ProfileResult, named: dict[str, str]) -> Markup | None:
    # A runtime's own program may tell figures and no samples.
    sampled = [profile for profile in result.profiles if profile.launches]
    if not sampled:
        return None
    return section(
        "Over the time of the job",
        sampled[0].source,
        "Medians of blocks beside the artifact's own p50. Upright lines are new processes.",
        figures.drift(sampled, [named[profile.label] for profile in sampled]),
    )


def _operators(found: Sequence[OperatorTimes], named: dict[str, str]) -> Markup | None:
    if not found:
        return None
    return section(
        "Operators",
        found[0].source,
        "Share of one inference by kind of operator, as the runtime itself records it.",
        *(
            joined(tag("h3", named[one.label], title=one.label), operators.times(one))
            for one in found
        ),
    )


def _sustained(result: SustainedResult | None, named: dict[str, str]) -> Markup | None:
    if result is None or not result.curves:
        return None
    names = [named[curve.label] for curve in result.curves]
    axes = curves.axes_of(result.curves)
    several = 1 < len(result.curves) <= curves.MOST_OVERLAID
    order = (
        tag(
            "p",
            "The order by p50 changes: "
            + "; ".join(
                f"{named[swap.behind]} passes {named[swap.ahead]}"
                + (f" after {swap.crossed_s:.0f} s" if swap.crossed_s is not None else "")
                for swap in result.swaps
            )
            + ".",
            class_="notice",
        )
        if result.swaps
        else None
    )
    warnings = [
        _caution(name, caution.code, caution.message, caution.advice)
        for curve, name in zip(result.curves, names, strict=True)
        for caution in curve.cautions
    ]
    return section(
        "Without a pause",
        result.curves[0].source,
        f"Each artifact ran alone for {result.seconds:g} s in windows of {result.window_s:g} s. "
        "The line is p50, the band p10 to p90; the broken line is p50 of the beginning, the "
        "upright one when latency left it for good.",
        order,
        tag("div", curves.overlaid(result.curves, names), class_="wide") if several else None,
        tag(
            "div",
            *(
                curves.single(curve, name, axes)
                for curve, name in zip(result.curves, names, strict=True)
            ),
            class_="panels",
        ),
        table(
            ("artifact", f"first {result.curves[0].span_s:.0f} s", "last", "ratio", "fell off"),
            [
                (
                    name,
                    f"{curve.first.p50_ms:.2f} ms",
                    f"{curve.last.p50_ms:.2f} ms",
                    f"{curve.ratio:.3f}",
                    "no" if curve.fell_off_s is None else f"after {curve.fell_off_s:.0f} s",
                )
                for curve, name in zip(result.curves, names, strict=True)
            ],
        ),
        tag("ul", *warnings, class_="cautions") if warnings else None,
    )


def _elsewhere(
    emulations: Sequence[Emulation],
    predictions: Sequence[Prediction],
    estimates: Sequence[Estimate],
    named: dict[str, str],
) -> Markup:
    def names(found: Sequence[Emulation] | Sequence[Estimate]) -> list[str]:
        return [named[one.label] for one in found]

    warnings = [
        *(
            _caution(f"{named[one.label]} on {one.device}", c.code, c.message, c.advice)
            for one in emulations
            for c in one.cautions
        ),
    ]
    return joined(
        section(
            "Instructions",
            "emulated",
            "Of one inference on an emulated processor: a count, not a time.",
            elsewhere.emulations(emulations, names(emulations)),
            tag("ul", *warnings, class_="cautions") if warnings else None,
        )
        if emulations
        else None,
        section(
            "Expected latency",
            "predicted",
            "From published measurements of other networks or devices. Nothing was run.",
            elsewhere.predictions(predictions),
            tag(
                "ul",
                *(
                    _caution(f"{one.model} on {one.device}", "PREDICTED", said, "")
                    for one in predictions
                    for said in one.cautions
                ),
                class_="cautions",
            )
            if any(one.cautions for one in predictions)
            else None,
        )
        if predictions
        else None,
        section(
            "Compiler's estimate",
            "estimated",
            "The accelerator alone, as its vendor's compiler computes it. Nothing was run.",
            elsewhere.estimates(estimates, names(estimates)),
        )
        if estimates
        else None,
    )


def _failures(result: ProfileResult | None, sustained: SustainedResult | None) -> Markup | None:
    failures = [
        *(result.failures if result else ()),
        *(sustained.failures if sustained else ()),
    ]
    if not failures:
        return None
    return section(
        "Not measured",
        None,
        "",
        tag(
            "ul",
            *(_caution(one.label, "FAILED", one.error, one.hint) for one in failures),
            class_="cautions",
        ),
    )


def _caution(name: str, code: str, message: str, advice: str) -> Markup:
    return tag(
        "li", tag("b", name), " ", tag("code", code), tag("br"), f"{message} {advice}".strip()
    )
