"""What rows, manifests, profiles, predictions and evaluations say of a candidate; pure."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Final

from edgese.budgets.evidence import (
    LEAST_COUNT_SPREAD,
    over_launches,
    over_one_process,
    paired,
    proportion,
)
from edgese.measure.statistics import LEAST_SPREAD
from edgese.measure.summary import OF_LAUNCH, p50_ms
from edgese.models.cost import cost
from edgese.models.operators import operators
from edgese.records.artifact import Manifest
from edgese.records.budget import Observation, ObservationSource
from edgese.records.emulation import Emulation
from edgese.records.evaluation import Evaluation
from edgese.records.measurement import Launch, Profile, SustainedCurve
from edgese.records.model import ModelSpec
from edgese.records.prediction import Prediction
from edgese.records.profile import ProfileResult, ProgramProfile
from edgese.records.selection import Finding

# Of one weight in a file; whatever a format adds comes on top.
_WEIGHT_BYTES: Final = {"fp32": 4, "fp16": 2, "int8": 1, "int8_weights": 1}
_CONFIDENCE: Final = 0.95


def of_rows(spec: ModelSpec, precision: str) -> tuple[Observation, ...]:
    """Multiply-adds, and the least that file and memory can be: the weights alone.

    Args:
        precision: of the recipe.
    """
    pixels = spec.preprocessing
    weights = sum(step.weights for step in operators(spec, pixels.height, pixels.width))
    size = weights * _WEIGHT_BYTES[precision]
    return (
        _exact("macs", cost(spec).macs, "counted"),
        Observation(
            quantity="size_bytes",
            value=size,
            low=size,
            high=None,
            source="bounded",
            told=f"{weights:,} weights",
        ),
        Observation(
            quantity="memory_mb",
            value=size / 2**20,
            low=size / 2**20,
            high=None,
            source="bounded",
            told="its weights",
        ),
    )


def of_finding(finding: Finding) -> tuple[Observation, ...]:
    """Everything that a piece of work found."""
    return (
        *(of_manifest(finding.manifest) if finding.manifest else ()),
        *(of_profiles(finding.profile) if finding.profile else ()),
        *(of_evaluation(finding.evaluation) if finding.evaluation else ()),
        *(
            of_drop(finding.reference, finding.evaluation)
            if finding.reference and finding.evaluation
            else ()
        ),
    )


def of_manifest(manifest: Manifest) -> tuple[Observation, ...]:
    """Size and coverage of a file."""
    report = manifest.operators
    return (
        _exact("size_bytes", manifest.size_bytes, "read"),
        _exact("partitions", report.partitions, "read"),
        _exact("cpu_operators", sum(kind.count for kind in report.outside), "read"),
    )


def of_profiles(result: ProfileResult) -> tuple[Observation, ...]:
    """Of a result about one artifact."""
    found: list[Observation] = []
    for profile in result.profiles:
        found += of_profile(profile)
    for program in result.programs:
        found += of_program(program)
    for emulation in result.emulations:
        found.append(of_emulation(emulation))
    for prediction in result.predictions:
        found += of_prediction(prediction)
    found += of_sustained(result)
    return tuple(found)


def of_profile(profile: Profile) -> Iterator[Observation]:
    """Latencies with Student's interval over launches, memory, and the file's size."""
    told = f"{profile.device.name}, {profile.threads} threads, {len(profile.launches)} launches"
    values = {
        "latency_p50_ms": profile.latency.p50_ms,
        "latency_p90_ms": profile.latency.p90_ms,
        "load_ms": profile.load_ms,
        "first_run_ms": profile.first_run_ms,
    }
    for quantity, value in values.items():
        of_launch = OF_LAUNCH[quantity]
        low, high = _over_launches([of_launch(one) for one in profile.launches], value)
        yield Observation(
            quantity=quantity, value=value, low=low, high=high, source=profile.source, told=told
        )
    peaks = [OF_LAUNCH["memory_mb"](one) for one in profile.launches]
    low, high = _over_launches(peaks, profile.peak_memory_mb)
    yield Observation(
        quantity="memory_mb",
        value=profile.peak_memory_mb,
        low=low,
        high=high,
        source=profile.source,
        told=told,
    )
    yield _exact("size_bytes", profile.size_bytes, "read")
    if profile.macs is not None:
        yield _exact("macs", profile.macs, "counted")


def _over_launches(
    values: Sequence[float], middle: float, least: float = LEAST_SPREAD
) -> tuple[float, float | None]:
    """The ends of a figure that each launch gives once, ``middle`` included.

    One launch says nothing of how launches differ, so its figure has no upper end.

    Args:
        least: see `edgese.budgets.evidence.over_launches`.
    """
    interval = over_launches(values, least).interval(_CONFIDENCE) if values else None
    if interval is None:
        return 0.0, None
    return min(interval.low, middle), max(interval.high, middle)


def of_program(program: ProgramProfile) -> Iterator[Observation]:
    """Of a runtime's own program: one process, which does not say how processes differ."""
    told = f"{program.device}, {program.threads} threads, {program.program}"
    for quantity, value in (
        ("latency_p50_ms", program.run.p50_ms),
        ("latency_p90_ms", program.run.p90_ms),
        ("first_run_ms", program.run.first_run_ms),
        ("memory_mb", program.run.memory_mb),
    ):
        if value is not None:
            low, high = _over_launches([value], value)
            yield Observation(
                quantity=quantity, value=value, low=low, high=high, source="measured", told=told
            )


def of_sustained(result: ProfileResult) -> Iterator[Observation]:
    """What latency becomes without a pause, of every curve of a result."""
    for curve in result.sustained.curves if result.sustained else ():
        own = [one for one in result.profiles if one.sha256 == curve.sha256]
        yield of_curve(curve, own[0].launches if own else ())


def of_curve(curve: SustainedCurve, launches: Sequence[Launch]) -> Observation:
    """The p50 of a curve's end.

    Args:
        launches: of a profile of the same artifact. A curve is one process; how processes differ,
            and so where its upper end is, only several say. A curve that was cut has none either.
    """
    value = curve.last.p50_ms
    low, high = 0.0, None
    if launches and curve.complete:
        each = over_one_process(value, [p50_ms(one) for one in launches])
        if (interval := each.interval(_CONFIDENCE)) is not None:
            low, high = interval.low, interval.high
    return Observation(
        quantity="sustained_p50_ms",
        value=value,
        low=low,
        high=high,
        source=curve.source,
        told="one process without a pause",
    )


def of_emulation(emulation: Emulation) -> Observation:
    """Instructions of one inference, over processes."""
    processes = [fmean(process) for process in emulation.totals if process]
    total = emulation.instructions.total
    low, high = _over_launches(processes, total, LEAST_COUNT_SPREAD)
    return Observation(
        quantity="instructions",
        value=total,
        low=low,
        high=high,
        source="emulated",
        told=f"{emulation.device}, QEMU {emulation.qemu}",
    )


def of_prediction(prediction: Prediction) -> Iterator[Observation]:
    """The latency that published measurements say, with its 90 % interval."""
    yield Observation(
        quantity="latency_p50_ms",
        value=prediction.latency_ms,
        low=prediction.interval.low,
        high=prediction.interval.high,
        source="predicted",
        told=f"{prediction.rows} published measurements, "
        f"{prediction.interval.confidence:.0%} interval",
    )


def of_evaluation(evaluation: Evaluation) -> tuple[Observation, ...]:
    """Accuracy with the gate's interval; what could not be read is counted both ways."""
    top1 = evaluation.top1
    figure = proportion(top1.count, len(evaluation.unreadable), top1.of)
    interval = figure.interval(_CONFIDENCE)
    if interval is None:
        return ()
    return (
        Observation(
            quantity="accuracy",
            value=figure.value,
            low=interval.low,
            high=interval.high,
            source="evaluated",
            told=f"{top1.count} of {top1.of} images of {evaluation.data.source}"
            + (f", {len(evaluation.unreadable)} unread" if evaluation.unreadable else ""),
        ),
    )


def of_drop(reference: Evaluation, other: Evaluation) -> tuple[Observation, ...]:
    """How much less accurate it is than in fp32, with the gate's interval.

    Args:
        reference: of the same network in fp32, on the same pictures.
    """
    pairs = paired(reference, other)
    interval = pairs.interval(_CONFIDENCE)
    if interval is None:
        return ()
    return (
        Observation(
            quantity="accuracy_drop",
            value=pairs.value,
            low=interval.low,
            high=interval.high,
            source="evaluated",
            told=f"compared with {reference.subject} on {other.data.listed} images",
        ),
    )


def _exact(quantity: str, value: float, source: ObservationSource, told: str = "") -> Observation:
    return Observation(
        quantity=quantity, value=value, low=value, high=value, source=source, told=told
    )
