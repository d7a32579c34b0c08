"""What there is to judge: artifacts on devices, and what is known of each; pure."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgese.budgets.inputs import Inputs, name_of, path_of
from edgese.evaluation.pairing import other_images, other_network
from edgese.records.emulation import Emulation, Estimate
from edgese.records.evaluation import Evaluation
from edgese.records.inspection import DelegateReport
from edgese.records.measurement import MeasurePlan, Profile, SustainedCurve
from edgese.records.prediction import Prediction
from edgese.records.profile import ProfileResult, ProgramProfile


class Candidate(NamedTuple):
    """One artifact on one device, and what is known of it.

    Attributes:
        name: of the artifact's file; of a prediction, the model's.
        origin: the file that it was read from.
        device: as it was asked for when it was profiled.
        label: path of the artifact as it was given; "" of a prediction.
        sha256: of the artifact; "" of a prediction that was made of a network alone.
        trained: None of a prediction.
        collapse: of an artifact's quantization, as it was measured with; "" of a prediction.
        absence: why nothing was measured; "" where it was.
        plan: that ``profile`` was measured with.
        measured: when, UTC, ISO 8601.
        beside: the baseline's artifact, where it was measured in the same job.
        repeats: the same artifact, measured alike in other runs; see `edgese.budgets.repeats`.
        delegate_name: that it ran on; "" is the artifact's own.
        delegate: what it executes of the artifact; see `edgese.budgets.recounting`, as for
            ``size_bytes``, ``macs`` and ``uncounted``: why these are not known.
        no_evaluation, no_reference: why there is none that it can be judged by, and what to do.
    """

    name: str
    origin: str
    device: str
    target: str
    resolution: tuple[int, int]
    sha256: str
    trained: bool | None
    recipe: str
    model: str
    collapse: str = ""
    label: str = ""
    delegate_name: str = ""
    absence: str = ""
    plan: MeasurePlan | None = None
    measured: str = ""
    profile: Profile | None = None
    beside: Profile | None = None
    program: ProgramProfile | None = None
    curve: SustainedCurve | None = None
    emulation: Emulation | None = None
    estimate: Estimate | None = None
    prediction: Prediction | None = None
    size_bytes: int | None = None
    macs: int | None = None
    delegate: DelegateReport | None = None
    uncounted: str = ""
    evaluation: Evaluation | None = None
    reference: Evaluation | None = None
    repeats: tuple["Candidate", ...] = ()
    no_evaluation: str = ""
    no_reference: str = ""


def candidates_of(inputs: Inputs) -> tuple[Candidate, ...]:
    """Everything in the results that can be judged, in an order that is not the files'."""
    found = [
        _described(candidate, inputs)
        for path, result in inputs.results
        for candidate in _of_result(path, result)
    ]
    return tuple(sorted(found, key=lambda one: (one.name, one.device, one.target, one.origin)))


def _of_result(path: Path, result: ProfileResult) -> Iterator[Candidate]:
    curves = {
        curve.sha256: curve
        for curve in (result.sustained.curves if result.sustained else ())
        if curve.complete
    }
    for profile in result.profiles:
        bare = _bare(path, result, profile)
        yield bare._replace(
            plan=result.plan,
            measured=result.created,
            profile=profile,
            curve=_curve(curves.get(profile.sha256), result, profile),
        )
    for program in result.programs:
        yield _bare(path, result, program)._replace(program=program)
    for estimate in result.estimates:
        yield _bare(path, result, estimate)._replace(estimate=estimate)
    predictions = list(result.predictions)
    for emulation in result.emulations:
        # Where a device is absent, both stand in for it, and are of one artifact.
        of = [one for one in predictions if _same_artifact(one, emulation)]
        if of:
            predictions.remove(of[0])
        yield _bare(path, result, emulation)._replace(
            emulation=emulation, prediction=of[0] if of else None
        )
    for one in predictions:
        yield Candidate(
            name=one.model,
            origin=str(path),
            device=one.device,
            target=one.target,
            resolution=one.resolution,
            sha256=one.artifact_sha256,
            trained=None,
            recipe=one.precision,
            model=one.model,
            absence=result.absence,
            prediction=one,
        )


def _bare(
    path: Path, result: ProfileResult, one: Profile | ProgramProfile | Estimate | Emulation
) -> Candidate:
    return Candidate(
        name=name_of(one.label),
        label=str(path_of(one.label)),
        delegate_name="" if isinstance(one, Estimate | ProgramProfile) else one.delegate,
        origin=str(path),
        device=result.device,
        target=one.target,
        resolution=one.resolution,
        sha256=one.sha256,
        trained=one.trained,
        # A compiler's estimate is made of the artifact's file alone.
        collapse="" if isinstance(one, Estimate) else one.collapse,
        recipe=one.recipe,
        model=one.model,
        absence=result.absence,
    )


def _curve(
    curve: SustainedCurve | None, result: ProfileResult, profile: Profile
) -> SustainedCurve | None:
    """The curve of the same artifact, if it ran as the profile says."""
    if curve is None or result.sustained is None:
        return None
    then = (result.sustained.device.name, result.sustained.threads, curve.target, curve.delegate)
    now = (profile.device.name, profile.threads, profile.target, profile.delegate)
    return curve if then == now else None


def _same_artifact(prediction: Prediction, emulation: Emulation) -> bool:
    return prediction.artifact_sha256 == emulation.sha256


def _described(candidate: Candidate, inputs: Inputs) -> Candidate:
    """With what other files say of the very same artifact."""
    if not candidate.sha256:
        return candidate
    return candidate._replace(**_evaluated(candidate.sha256, inputs))


def _evaluated(sha256: str, inputs: Inputs) -> dict[str, Any]:
    """The evaluation of an artifact, and that of its network in fp32 on the same images."""
    every = [one for _, result in inputs.evaluations for one in result.evaluations]
    own = [one for one in every if one.artifact_sha256 == sha256]
    if not own:
        return {}
    for other in own[1:]:
        if reason := other_images(own[0], other):
            return {
                "no_evaluation": f"It was evaluated on several sets of images ({reason}), and "
                "nothing says which of them counts: give the evaluation of one."
            }
    # Of several on the same images that which claims least.
    found = min(own, key=lambda one: (one.top1.count, one.created))
    reference = reference_of(found, every)
    lacking = "" if reference else _no_reference(found, every)
    return {"evaluation": found, "reference": reference, "no_reference": lacking}


def reference_of(found: Evaluation, every: Sequence[Evaluation]) -> Evaluation | None:
    """The evaluation of the same network in fp32 on the same images.

    The same network has the same weights, layers, preprocessing and resolution.
    """
    references = [
        one
        for one in _in_fp32(found, every)
        if not other_network(one, found) and not other_images(one, found)
    ]
    # PyTorch itself before an artifact of it.
    references.sort(key=lambda one: (one.target != "pytorch", one.target, one.created))
    return references[0] if references else None


def _in_fp32(found: Evaluation, every: Sequence[Evaluation]) -> list[Evaluation]:
    return [
        one
        for one in every
        if one.recipe == "fp32" and one.artifact_sha256 != found.artifact_sha256
    ]


def _no_reference(found: Evaluation, every: Sequence[Evaluation]) -> str:
    """Why no evaluation is the reference of another, and how to make one."""
    pixels = found.preprocessing
    settle = (
        f"`edgese evaluate {found.model} --weights {found.weights.source} --data "
        f"{found.data.source} --out FILE` evaluates {found.model} with these weights on these "
        f"images ({pixels.height}x{pixels.width} pixels); give that file too."
    )
    if found.recipe == "fp32" and not _in_fp32(found, every):
        return f"It is in fp32 itself, and nothing was given to compare it with. {settle}"
    reasons = [
        (other_network(one, found) or other_images(one, found), one.subject)
        for one in _in_fp32(found, every)
    ]
    if not reasons:
        return f"The fp32 reference was not evaluated. {settle}"
    told = "; ".join(f"{subject}: {reason}" for reason, subject in reasons)
    return f"No fp32 evaluation that was given can be compared with it ({told}). {settle}"
