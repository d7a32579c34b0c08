"""The work on one candidate: converting, measuring, training, evaluating."""

import hashlib
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from edgese import catalog, store
from edgese.conversion.run import Report
from edgese.devices import ANYHOW, Reach
from edgese.errors import DeviceAbsent, EdgeseError, InputError, StoreError
from edgese.models.weights import resolve_weights
from edgese.protocols import Progress
from edgese.records.base import Record
from edgese.records.evaluation import Evaluation, EvaluationResult
from edgese.records.measurement import MeasurePlan
from edgese.records.profile import ProfileResult
from edgese.records.selection import Candidate, Finding
from edgese.seals import sealed
from edgese.selection.candidates import spec_of
from edgese.selection.scheduler import Step, Work
from edgese.store import read_manifest, sha256_of
from edgese.version import __version__

EMBEDDED: Final = "embedded"
RANDOM: Final = "none"
# Latency depends on where grids stand, and not on which they are: the recipe that finds them in the
# least time serves for all that have the same operators.
_QUICK: Final = "int8-quick"
_ARTIFACTS: Final = "artifacts"
# What a drop in accuracy is told beside.
_REFERENCE: Final = "fp32"

# Bytes of images that are read to tell whether they are the same.
_READ_WHOLE: Final = 2**28


class Order(Record, frozen=True):
    """What all candidates of a selection have in common; it travels to workers as it is.

    Attributes:
        plan: 0 threads are as many as `edgese.measure.plan.default_threads` says.
        folder: for artifacts, trainings and findings.
        measure: False converts alone: the device is not there, and nothing of it is accepted.
        data: labelled pictures that accuracy is judged on; "" where there are none.
        calibration: pictures for integer recipes.
        train: name of a training recipe for candidates without weights; "" trains nothing.
        train_data: what they learn from.
        limit: of pictures that are evaluated; None is all.
        drop: evaluates each network in fp32 too, on the same pictures.
        sustained_s: how long an artifact runs without a pause, where the budget limits that.
    """

    device: str
    plan: MeasurePlan
    folder: str
    measure: bool = True
    serial: str = ""
    adb_server: str = ""
    address: str = ""
    data: str = ""
    split: str = ""
    calibration: str = EMBEDDED
    train: str = ""
    train_data: str = ""
    epochs: float | None = None
    limit: int | None = None
    drop: bool = False
    sustained_s: float = 0.0

    @property
    def is_timed(self) -> bool:
        """Whether the device is one that has times."""
        return catalog.device_facts(self.device).transport not in ("qemu", "vela")

    @property
    def reach(self) -> Reach:
        """How to get to the device."""
        return ANYHOW._replace(serial=self.serial, adb_server=self.adb_server, address=self.address)


def asked(step: Step, order: Order) -> str:
    """Hash of everything that the answer of a step depends on, except what it cannot change."""
    weights = step.candidate.weights
    told: dict[str, Any] = order.to_dict() | {"folder": "", "work": step.work}
    if step.work == "look":
        told["plan"] = _look_of(order.plan).to_dict()
    if step.work != "sustained":
        told["sustained_s"] = 0.0
    if step.work != "accuracy":
        # Latency is the same whatever is learnt and evaluated later.
        told |= dict.fromkeys(("data", "split", "train", "train_data", "epochs", "limit", "drop"))
    else:
        told |= {"data": _identity(order.data), "train_data": _identity(order.train_data)}
    told |= {
        "candidate": step.candidate.to_dict(),
        "weights": sha256_of(Path(weights)) if weights and Path(weights).is_file() else weights,
        "calibration": _identity(order.calibration),
        "machine": platform.node() if order.device == "host" else "",
        "edgese": __version__,
    }
    return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()


def perform(
    step: Step, order: Order, artifact: str = "", progress: Progress | None = None
) -> Finding:
    """Does a piece of work; what goes wrong with the candidate alone is in what it returns.

    Args:
        artifact: that was made of the candidate before.

    Raises:
        DeviceAbsent: the device has gone.
    """
    start = time.perf_counter()
    found = Finding(asked=asked(step, order), candidate=step.candidate)
    work = _WORK[step.work]
    try:
        found = work(found, order, artifact, progress or _silent)
    except DeviceAbsent:
        raise
    except EdgeseError as error:
        found = msgspec.structs.replace(
            found, error=error.message, hint=error.hint, exit_code=error.exit_code or 70
        )
    return msgspec.structs.replace(found, seconds=round(time.perf_counter() - start, 3))


def kept(step: Step, order: Order) -> Finding | None:
    """What an earlier run found of just this; None where it did not, or failed."""
    path = _file(asked(step, order), order, step.work)
    try:
        found = store.read_sealed(Finding, path, remake="edgese select")
    except EdgeseError:  # missing, cut, changed or of another version: it is found out anew
        return None
    whole = found.asked == asked(step, order) and not found.exit_code
    # What another machine made is there, and was vouched for when it came.
    made = not found.artifact or bool(found.worker) or _is_there(found)
    return found if whole and made else None


def keep(found: Finding, order: Order, work: Work) -> None:
    """Stores what was found, in one step."""
    path = _file(found.asked, order, work)
    store.make_folder(path.parent)
    store.write_record(sealed(found), path)


def made(candidate: Candidate, order: Order, report: Progress | None = None) -> Path:
    """The artifact that latency is measured of, converted where it is not there yet.

    Of an integer recipe it has random weights, whatever weights there are: those take minutes to
    quantize, and are left for candidates that can still win.

    Raises:
        ConversionError: it cannot be converted.
        Others as `edgese.conversion.api.convert`.
    """
    quick = catalog.recipe(candidate.recipe).precision == "int8"
    return _converted(
        candidate,
        order,
        weights=RANDOM if quick else candidate.weights or RANDOM,
        recipe=_QUICK if quick else candidate.recipe,
        report=report or _silent,
    )


def _measured(found: Finding, order: Order, before: str, progress: Progress) -> Finding:
    artifact = _here(found.candidate, order, before, progress)
    return msgspec.structs.replace(
        found,
        artifact=str(artifact),
        manifest=read_manifest(artifact),
        profile=_profiled(artifact, order, progress) if order.measure else None,
    )


def _here(candidate: Candidate, order: Order, before: str, progress: Progress) -> Path:
    """What was made before, unless it lies on another machine of a cluster; else it is made."""
    path = Path(before)
    return path if before and path.exists() else made(candidate, order, progress)


def _looked_at(found: Finding, order: Order, _: str, progress: Progress) -> Finding:
    """Two launches, some inferences: they rule out what is far too slow, and choose nothing."""
    return _measured(found, msgspec.structs.replace(order, plan=_look_of(order.plan)), "", progress)


def _look_of(plan: MeasurePlan) -> MeasurePlan:
    return msgspec.structs.replace(plan, launches=2, blocks=2, min_runs=10, min_time_s=0.2)


def _sustained(found: Finding, order: Order, artifact: str, progress: Progress) -> Finding:
    path = _here(found.candidate, order, artifact, progress)
    return msgspec.structs.replace(
        found,
        artifact=str(path),
        manifest=read_manifest(path),
        profile=_profiled(path, order, progress, sustained_s=order.sustained_s),
    )


def _profiled(
    artifact: Path, order: Order, progress: Progress, *, sustained_s: float | None = None
) -> ProfileResult:
    from edgese.measure.api import profile

    plan = order.plan
    return profile(
        [artifact],
        device=order.device,
        reach=order.reach,
        threads=plan.threads or None,
        launches=plan.launches,
        blocks=plan.blocks,
        min_runs=plan.min_runs,
        min_time_s=plan.min_time_s,
        sustained_s=sustained_s,
        progress=progress,
    )


def _rated(found: Finding, order: Order, artifact: str, progress: Progress) -> Finding:
    """The accuracy of a candidate with its weights, which are trained where there are none."""
    from edgese.evaluation.api import evaluate

    path = Path(artifact)
    of_random = catalog.recipe(found.candidate.recipe).precision == "int8"
    if of_random or not found.candidate.weights or not (path.is_file() or path.is_dir()):
        path = _trained(found.candidate, order, progress=progress)
    told = evaluate(path, order.data, split=order.split, limit=order.limit, progress=progress)
    # What is delivered is another file than the one of random weights, so it is measured itself.
    again = order.measure and str(path) != artifact
    return msgspec.structs.replace(
        found,
        artifact=str(path),
        manifest=read_manifest(path),
        profile=_profiled(path, order, progress) if again else None,
        evaluation=told,
        reference=_reference(found.candidate, told, order, progress) if order.drop else None,
    )


def _reference(
    candidate: Candidate, told: Evaluation, order: Order, progress: Progress
) -> Evaluation:
    """The accuracy in fp32 with the same weights, in the same runtime, on the same pictures."""
    from edgese.evaluation.api import evaluate

    if candidate.recipe == _REFERENCE:
        return told
    full = msgspec.structs.replace(candidate, recipe=_REFERENCE)
    path = _trained(full, order, progress=progress)
    asked_for = [read_manifest(path).sha256, told.data.sha256, _identity(order.data), order.limit]
    name = hashlib.sha256(msgspec.json.encode(asked_for)).hexdigest()[:24]
    file = Path(order.folder, "findings", f"reference-{name}.json")
    try:
        (known,) = store.read_sealed(EvaluationResult, file, remake="edgese select").evaluations
        if known.artifact_sha256 == asked_for[0]:
            return known
    except (EdgeseError, ValueError):  # missing, cut or changed: it is evaluated anew
        pass
    found = evaluate(path, order.data, split=order.split, limit=order.limit, progress=progress)
    store.make_folder(file.parent)
    store.write_record(sealed(EvaluationResult(evaluations=(found,), agreements=())), file)
    return found


def _trained(candidate: Candidate, order: Order, *, progress: Progress) -> Path:
    """The artifact with weights that answers can be expected of."""
    weights = candidate.weights or _learnt(candidate, order, progress)
    recipe = catalog.recipe(candidate.recipe)
    if not (recipe.quantization and recipe.quantization.training):
        return _converted(
            candidate, order, weights=weights, recipe=candidate.recipe, report=progress
        )
    from edgese.quantization.api import quantize

    made = quantize(
        _subject(candidate),
        order.calibration,
        weights=weights,
        recipe=candidate.recipe,
        resolution=candidate.resolution,
        classes=candidate.classes or None,
        train=order.train_data or None,
        epochs=order.epochs,
        out=Path(order.folder, _ARTIFACTS, *_slug(candidate)),
        progress=progress,
    )
    return _converted(candidate, order, program=made.program, report=progress)


def _learnt(candidate: Candidate, order: Order, progress: Progress) -> str:
    """Weights of a training from scratch; one that was finished before is not repeated."""
    from edgese.records.training import Advance, TrainingResult
    from edgese.training.api import RESULT, sound, train
    from edgese.training.checkpoint import CHECKPOINT

    name = hashlib.sha256(
        msgspec.json.encode(
            [
                _network(candidate),
                order.train,
                order.epochs,
                _identity(order.train_data or order.data),
                __version__,
            ]
        )
    ).hexdigest()
    folder = Path(order.folder, "trainings", name[:16])
    if (folder / RESULT).is_file():
        told = store.read_sealed(TrainingResult, folder / RESULT, remake="edgese train")
        if Path(told.weights).is_file() and sha256_of(Path(told.weights)) == told.sha256:
            return sound(told).weights
        raise StoreError(
            f"{told.weights} is not what {folder / RESULT} says that the training left.",
            hint=f"Remove {folder}, and it is trained again.",
        )

    def tell(advance: Advance) -> None:
        progress(f"train, epoch {advance.epoch} of {advance.epochs}", advance.step / advance.steps)

    return train(
        spec_of(candidate),
        order.train_data or order.data,
        recipe=order.train,
        weights=RANDOM,
        out=folder,
        epochs=order.epochs,
        resume=(folder / CHECKPOINT).is_file(),
        progress=tell,
    ).weights


def _converted(
    candidate: Candidate,
    order: Order,
    *,
    report: Progress,
    weights: str = "",
    recipe: str = "",
    program: str = "",
) -> Path:
    from edgese.conversion.api import convert
    from edgese.conversion.outcome import error_of

    integer = bool(recipe) and catalog.recipe(recipe).is_integer
    random = weights == RANDOM
    # A spec that was changed does not tell its resolution and its classes in its name.
    named = not random or bool(candidate.weights or candidate.gates)
    (row,) = convert(
        program or (_like_its_weights(candidate) if random else _subject(candidate)),
        [candidate.target],
        weights=weights or None,
        recipe=recipe or None,
        resolution=None if program else candidate.resolution,
        classes=None if program else candidate.classes or None,
        data=(EMBEDDED if random else order.calibration) if integer else None,
        out=Path(order.folder, _ARTIFACTS, *(_slug(candidate) if named else ())),
        strict=False,
        progress=_reporting(report),
    )
    if not row.artifact:
        raise error_of(row, candidate.label)
    return Path(row.artifact)


def _subject(candidate: Candidate) -> Any:  # noqa: ANN401  # a name, or a spec with other gates
    # By its name, so that the classes and the preprocessing that weights bring are taken.
    return spec_of(candidate) if candidate.gates else candidate.model


def _like_its_weights(candidate: Candidate) -> Any:  # noqa: ANN401  # as `_subject`
    """The network with as many classes as its weights have, for random ones in their place."""
    if not candidate.weights:
        return _subject(candidate)
    return resolve_weights(
        spec_of(candidate), candidate.weights, classes=candidate.classes or None
    ).spec


def _network(candidate: Candidate) -> dict[str, Any]:
    return spec_of(candidate).to_dict()


def _slug(candidate: Candidate) -> tuple[str]:
    """A folder for artifacts whose names do not tell everything of them."""
    told = msgspec.json.encode(candidate)
    return (hashlib.sha256(told).hexdigest()[:12],)


def _reporting(progress: Progress) -> Report:
    def report(target: str, stage: str, fraction: float) -> None:
        progress(f"{target}: {stage}", fraction)

    return report


def _file(key: str, order: Order, work: Work) -> Path:
    return Path(order.folder, "findings", f"{work}-{key[:24]}.json")


def _is_there(found: Finding) -> bool:
    try:
        return found.manifest is not None and (
            read_manifest(Path(found.artifact)).sha256 == found.manifest.sha256
        )
    except EdgeseError:
        return False


def _identity(source: str) -> str:
    """What tells one folder or file of images from another.

    Of many, sizes and times stand for the contents.
    """
    path = Path(source)
    if path.is_file():
        return sha256_of(path)
    if not path.is_dir():
        return source
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    small = sum(file.stat().st_size for file in files) <= _READ_WHOLE
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        told = sha256_of(file) if small else f"{stat.st_size} {stat.st_mtime_ns}"
        name = f"{file.relative_to(path)}\0{told}\n"
        digest.update(name.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


_WORK: Final[dict[Work, Callable[[Finding, Order, str, Progress], Finding]]] = {
    "look": _looked_at,
    "artifact": _measured,
    "sustained": _sustained,
    "accuracy": _rated,
}


def _silent(stage: str, fraction: float) -> None:
    del stage, fraction


def check_inputs(order: Order) -> None:
    """Refuses pictures that are not there before any work.

    Raises:
        InputError: as said.
    """
    for source in (order.data, order.train_data):
        if source and source != "digits" and not Path(source).exists():
            raise InputError(f"There are no pictures {source}.", hint="Name a folder or a CSV.")
