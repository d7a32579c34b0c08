"""Candidates from result files alone: nothing is converted, measured or evaluated; pure."""

from collections.abc import Iterator, Mapping, Sequence

from edgese.budgets.candidates import reference_of
from edgese.budgets.judging import TRUST
from edgese.budgets.regression import same_machine
from edgese.errors import InputError
from edgese.evaluation.pairing import other_images
from edgese.models.cost import cost
from edgese.models.registry import models
from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.budget import Observation
from edgese.records.emulation import Emulation
from edgese.records.evaluation import Evaluation, EvaluationResult
from edgese.records.measurement import DeviceInfo, Launch, Profile, SustainedCurve, SustainedResult
from edgese.records.profile import ProfileResult, ProgramProfile
from edgese.records.selection import Candidate, Finding, SelectionResult
from edgese.selection import figures
from edgese.selection.deciding import Known, collapsed
from edgese.selection.published import published

_Told = Profile | ProgramProfile | Emulation | SustainedCurve


def known_of(records: Sequence[Record], device: str = "") -> tuple[list[Known], str]:
    """The candidates that results tell of, one for each artifact, and the device.

    An evaluation belongs to the artifact with its hash. Where none does, and the network, recipe
    and resolution are ones that an accuracy is published for, that one counts, and says so.

    Args:
        device: results of others are left out; "" takes the one that all are of.

    Raises:
        InputError: nothing there, or results of several devices and none named.
    """
    profiles = list(_profiles(records))
    devices = sorted({result.device for result in profiles})
    if not device and len(devices) > 1:
        raise InputError(
            f"The results are of several devices: {', '.join(devices)}.",
            hint="Name one with --device.",
        )
    device = device or next(iter(devices), "")
    found: dict[str, list[Observation]] = {}
    whose: dict[str, _Told] = {}
    for result in profiles:
        if result.device == device:
            for one, told in _told(result):
                found.setdefault(one.sha256, []).extend(told)
                whose.setdefault(one.sha256, one)
    if not whose:
        raise InputError(
            f"No artifact was measured{f' on {device}' if device else ''} in these results.",
            hint="Name files that `edgese profile --out` left"
            + (f"; they are of {', '.join(devices)}." if devices else "."),
        )
    launches = {
        one.sha256: one.launches for result in profiles for one in result.profiles if one.launches
    }
    for sha256, told in (*_beside(records, launches), *_drops(records)):
        if sha256 in found:
            found[sha256].extend(told)
    reasons = dict(_collapses(records))
    return [
        _known(whose[sha256], tuple(told), reasons.get(sha256, ""))
        for sha256, told in found.items()
    ], device


def comparable(records: Sequence[Record], device: str = "") -> tuple[list[Known], str]:
    """The candidates that results tell of, where one of them may be chosen.

    Where an accuracy was evaluated, published ones do not count: they are of other images.

    Raises:
        InputError: as `known_of`; or results that do not agree on what an artifact is, of
            different machines, or with accuracies on different images.
    """
    known, device = known_of(records, device)
    artifacts = {one.candidate.artifact for one in known}
    evaluations = [one for one in _evaluations(records) if one.artifact_sha256 in artifacts]
    _check_identities(records, evaluations)
    _check_machines(_machines(records, device))
    for other in evaluations[1:]:
        if reason := other_images(evaluations[0], other):
            raise InputError(
                f"{evaluations[0].subject} and {other.subject} were evaluated on different images: "
                f"{reason}. Their accuracies say nothing of which is better.",
                hint="Give evaluations of all candidates on the same images: "
                "`edgese evaluate FIRST SECOND ... --data FOLDER --out FILE`.",
            )
    if evaluations:
        known = [
            one._replace(figures=tuple(each for each in one.figures if each.source != "published"))
            for one in known
        ]
    return known, device


def _check_identities(records: Sequence[Record], evaluations: Sequence[Evaluation]) -> None:
    """Raise where two results name one artifact differently.

    Raises:
        InputError: they do.
    """
    seen: dict[tuple[str, str], object] = {}
    for sha256, facts in _identities(records, evaluations):
        for what, told in facts.items():
            first = seen.setdefault((sha256, what), told)
            if first != told:
                raise InputError(
                    f"The artifact {sha256[:12]}... has the {what} {first} in one result and "
                    f"{told} in another.",
                    hint="One of them was mixed or changed; measure and evaluate it again.",
                )


def _identities(
    records: Sequence[Record], evaluations: Sequence[Evaluation]
) -> Iterator[tuple[str, dict[str, object]]]:
    told = [one for result in _profiles(records) for one, _ in _told(result)]
    alone = [
        one for record in records if isinstance(record, SustainedResult) for one in record.curves
    ]
    for one in (*told, *alone):
        yield one.sha256, _identity(one.model, one.recipe, one.target, one.resolution)
    for manifest in _manifests(records):
        pixels = manifest.model.preprocessing
        yield (
            manifest.sha256,
            _identity(
                manifest.model.name,
                manifest.recipe.name,
                manifest.target,
                (pixels.height, pixels.width),
            ),
        )
    for each in evaluations:
        pixels = each.preprocessing
        yield (
            each.artifact_sha256,
            _identity(each.model, each.recipe, each.target, (pixels.height, pixels.width)),
        )


def _identity(
    model: str, recipe: str, target: str, resolution: tuple[int, int]
) -> dict[str, object]:
    sides = "x".join(map(str, resolution))
    return {"model": model, "recipe": recipe, "target": target, "resolution": sides}


def _machines(records: Sequence[Record], device: str) -> Iterator[DeviceInfo]:
    sustained = [one for one in records if isinstance(one, SustainedResult)]
    for result in _profiles(records):
        if result.device == device:
            yield from (one.device for one in result.profiles)
            sustained += [result.sustained] if result.sustained else []
    yield from (one.device for one in sustained)


def _check_machines(machines: Iterator[DeviceInfo]) -> None:
    """Raise where results are of different machines, whose latencies say nothing of each other.

    Raises:
        InputError: they are.
    """
    first = next(machines, None)
    for other in machines:
        if first is not None and not same_machine(first, other):
            raise InputError(
                f"The results are of different machines: {first.name} ({first.cpu}, {first.cores} "
                f"cores) and {other.name} ({other.cpu}, {other.cores} cores).",
                hint="Measure all candidates on one of them.",
            )


def _collapses(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Yield which artifacts collapsed in their quantization, and why."""
    for result in _profiles(records):
        for one, _ in _told(result):
            if not isinstance(one, SustainedCurve) and one.collapse:
                yield one.sha256, one.collapse
    for manifest in _manifests(records):
        if manifest.collapse:
            yield manifest.sha256, manifest.collapse


def _manifests(records: Sequence[Record]) -> Iterator[Manifest]:
    for record in records:
        match record:
            case Manifest():
                yield record
            case Finding(manifest=Manifest() as told):
                yield told
            case SelectionResult():
                yield from _manifests(record.findings)


def _known(one: _Told, told: tuple[Observation, ...], collapse: str) -> Known:
    candidate = Candidate(
        model=one.model,
        resolution=one.resolution,
        recipe=one.recipe,
        target=one.target,
        artifact=one.sha256,
    )
    if not any(each.quantity == "accuracy" for each in told) and _is_published(one):
        by_others = published(candidate)
        told = (*told, by_others) if by_others else told
    best = {
        each.quantity: each
        for each in sorted(told, key=lambda each: (-TRUST.index(each.source), _worst(each)))
    }
    return Known(
        candidate,
        tuple(best.values()),
        failed=collapsed(collapse),
        artifact=one.label,
        cautions=one.cautions if isinstance(one, Profile) else (),
    )


def _is_published(one: _Told) -> bool:
    """Whether an artifact is of the network that its name is known for, not of one named alike.

    Another number of classes, other layers and a user's own module have other counts, or none.
    """
    macs = getattr(one, "macs", None)
    spec = models().get(one.model)
    return spec is not None and macs == cost(spec, *one.resolution).macs


def _worst(one: Observation) -> float:
    """Of several measurements the one that claims least counts."""
    if one.quantity == "accuracy":
        return -one.low
    return float("inf") if one.high is None else one.high


def _profiles(records: Sequence[Record]) -> Iterator[ProfileResult]:
    for record in records:
        match record:
            case ProfileResult():
                yield record
            case Finding(profile=ProfileResult() as told):
                yield told
            case SelectionResult():
                yield from _profiles(record.findings)


def _told(result: ProfileResult) -> Iterator[tuple[_Told, tuple[Observation, ...]]]:
    for profile in result.profiles:
        yield profile, tuple(figures.of_profile(profile))
    for program in result.programs:
        yield program, tuple(figures.of_program(program))
    for emulation in result.emulations:
        yield emulation, (figures.of_emulation(emulation),)
    curves = result.sustained.curves if result.sustained else ()
    for curve, told in zip(curves, figures.of_sustained(result), strict=True):
        yield curve, (told,)


def _beside(
    records: Sequence[Record], launches: Mapping[str, tuple[Launch, ...]]
) -> Iterator[tuple[str, tuple[Observation, ...]]]:
    """What else is known of artifacts, by their hash.

    Args:
        launches: of profiles, by the hash of their artifacts.
    """
    for record in records:
        match record:
            case EvaluationResult():
                yield from _beside(record.evaluations, launches)
            case Manifest():
                yield record.sha256, figures.of_manifest(record)
            case SustainedResult():
                for curve in record.curves:
                    told = figures.of_curve(curve, launches.get(curve.sha256, ()))
                    yield curve.sha256, (told,)
            case Evaluation():
                yield record.artifact_sha256, figures.of_evaluation(record)
            case Finding():
                told_of = [*filter(None, (record.manifest, record.evaluation))]
                yield from _beside(told_of, launches)
            case SelectionResult():
                yield from _beside(record.findings, launches)


def _drops(records: Sequence[Record]) -> Iterator[tuple[str, tuple[Observation, ...]]]:
    """How much less accurate artifacts are than their networks in fp32."""
    every = [*_evaluations(records)]
    for one in every:
        reference = reference_of(one, every)
        if one.artifact_sha256 and reference is not None:
            yield one.artifact_sha256, figures.of_drop(reference, one)


def _evaluations(records: Sequence[Record]) -> Iterator[Evaluation]:
    for record in records:
        match record:
            case Evaluation():
                yield record
            case EvaluationResult():
                yield from record.evaluations
            case Finding():
                yield from filter(None, (record.evaluation, record.reference))
            case SelectionResult():
                yield from _evaluations(record.findings)
