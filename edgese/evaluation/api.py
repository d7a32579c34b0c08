"""``edgese evaluate``, as functions."""

import hashlib
import platform
import time
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from edgese import bounds
from edgese.data.classes import ClassNames
from edgese.data.listing import labelled, limited, recorded
from edgese.data.pictures import read_picture
from edgese.data.preprocessing import preprocess
from edgese.errors import ConfigError, InputError, stage
from edgese.evaluation.pipeline import ahead
from edgese.evaluation.scoring import TOP, likeliest, top1, top5
from edgese.evaluation.subjects import Subject, find_subject
from edgese.machine import cores
from edgese.models.registry import architecture
from edgese.parallel import own_settings
from edgese.paths import as_path
from edgese.protocols import Predictor, Progress
from edgese.records.artifact import ModelCard
from edgese.records.data import DataSet, Picture
from edgese.records.evaluation import Evaluation, EvaluationData, Prediction, Score, Unreadable
from edgese.records.model import ModelSpec, Preprocessing
from edgese.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


@own_settings()
def evaluate(
    subject: str | Path | Subject,
    data: str | Path,
    *,
    weights: str | Path | None = None,
    classes: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    split: str = "",
    threads: int | None = None,
    batch: int = 8,
    limit: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
    logits: "dict[str, NDArray[np.float32]] | None" = None,
) -> Evaluation:
    """The accuracy of an artifact in its real runtime, or of a model in PyTorch.

    Args:
        subject: an artifact with its manifest beside it, a model's name, a spec file, or what
            `edgese.evaluation.subjects.find_subject` made of one.
        data: class folders, or a CSV with the columns file and label.
        weights, classes, resolution: of a model; see `find_subject`.
        split: of a CSV with a column split, only this one.
        threads: that the runtime computes with; all cores by default.
        batch: pictures that are handed over at once. A runtime may take them one by one.
        limit: at most so many pictures, evenly spread over the list.
        strict: an image that cannot be read is an error; otherwise it counts as wrong, and is named
            in the result.
        logits: is given each picture's logits by its file; `agreement` takes them.

    Raises:
        ConfigError: what cannot be evaluated here or at all; see `find_subject`.
        InputError: no picture, a wrong row, no readable picture, or, with ``strict``, an unreadable
            one; an artifact that computes no number.
        StoreError: the artifact is not the one that its manifest describes.
        MissingDependency: the runtime is not installed.
    """
    counts = {"batch": batch, "threads": threads}
    if wrong := [f"{name} is {n}" for name, n in counts.items() if n is not None and n < 1]:
        raise ConfigError(f"{' and '.join(wrong)}.", hint="Give 1 or more.")
    found = (
        subject
        if isinstance(subject, Subject)
        else find_subject(subject, weights, classes=classes, resolution=resolution)
    )
    names = ClassNames(classes=found.card.classes, labels=found.card.labels)
    listed = labelled(as_path(data, "data"), names, split)
    if limit is not None:
        listed = limited(listed, limit)
    threads = threads or cores()
    predictor = found.load(threads)

    start = time.perf_counter()
    predictions: list[Prediction] = []
    unreadable: list[Unreadable] = []
    prepared = _prepared(
        listed, found.card.preprocessing, workers=threads, waiting=2 * (batch + threads)
    )
    with closing(prepared):
        while group := list(islice(prepared, batch)):
            readable = []
            for one in group:
                if not isinstance(one.values, InputError):
                    readable.append((one.picture, one.values, one.sha256))
                elif strict:
                    raise one.values
                else:
                    unreadable.append(
                        Unreadable(
                            file=recorded(one.picture.file), reason=recorded(one.values.message)
                        )
                    )
            if readable:
                predictions += _predictions(predictor, readable, found, logits)
            if progress is not None:
                done = len(predictions) + len(unreadable)
                progress("evaluating", done / len(listed.pictures))
    if not predictions:
        raise InputError(
            f"None of the {len(unreadable)} pictures of {data} can be read. "
            f"The first: {unreadable[0].reason}",
            hint="Look at a few of the files.",
        )
    return Evaluation(
        subject=found.name,
        model=found.card.name,
        target=found.target,
        recipe=found.recipe,
        delegate=found.delegate,
        artifact_sha256=found.artifact_sha256,
        weights=found.weights,
        preprocessing=found.card.preprocessing,
        data=EvaluationData(
            source=recorded(listed.source),
            split=listed.split,
            labelled_by=listed.labelled_by,
            listed=len(listed.pictures),
            sha256=listed.sha256(),
            repeated=len(predictions) - len({one.sha256 for one in predictions}),
            classes_without=found.card.classes - len({one.label for one in listed.pictures}),
        ),
        pictures=len(predictions),
        top1=top1(predictions, len(unreadable)),
        top5=top5(predictions, found.card.classes, len(unreadable)),
        predictions=tuple(predictions),
        unreadable=tuple(unreadable),
        seconds=round(time.perf_counter() - start, 3),
        threads=threads,
        versions=_versions(("numpy", "pillow", *found.packages)),
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        by=found.by,
        architecture=_architecture(found.spec),
    )


def classify(
    predictor: Predictor, card: ModelCard, pictures: Sequence["Image"], count: int = TOP
) -> tuple[tuple[Score, ...], ...]:
    """The likeliest classes of each picture, with their names, the likeliest first.

    Args:
        predictor: as `Subject.load` gives it.
        card: of the same subject.
        pictures: RGB, as `edgese.data.pictures.read_picture` gives them.
    """
    import numpy as np

    logits = predictor(np.stack([preprocess(p, card.preprocessing) for p in pictures]))
    return tuple(
        tuple(
            Score(index=i, name=card.labels[i] if card.labels else "", probability=share)
            for i, share in zip(classes, shares, strict=True)
        )
        for classes, shares in likeliest(logits, count)
    )


class _Prepared(NamedTuple):
    """An image with its values or with what is wrong with it, and the hash of its file."""

    picture: Picture
    values: "NDArray[np.float32] | InputError"
    sha256: str


def _prepared(
    data: DataSet, preprocessing: Preprocessing, *, workers: int, waiting: int
) -> Generator[_Prepared]:
    """Each image in order."""

    def prepare(picture: Picture) -> _Prepared:
        path = Path(data.root, picture.file)
        content = _content(path)
        sha256 = hashlib.sha256(content).hexdigest() if content is not None else ""
        try:
            return _Prepared(picture, _values(path, content, preprocessing), sha256)
        except InputError as error:
            return _Prepared(picture, error, sha256)

    return ahead(prepare, data.pictures, workers=workers, waiting=waiting)


def _content(path: Path) -> bytes | None:
    """The bytes of a file; None where `read_picture` says what is wrong with it."""
    try:
        return bounds.content(path, "image", bounds.IMAGE_BYTES)
    except InputError:
        return None


def _values(
    path: Path, content: bytes | None, preprocessing: Preprocessing
) -> "NDArray[np.float32]":
    image = read_picture(path, content)
    try:
        with stage(f"prepare the image {path}"):
            return preprocess(image, preprocessing)
    except InputError as error:
        raise InputError(f"{path}: {error.message}", hint=error.hint) from error


def _architecture(spec: ModelSpec | None) -> str:
    """What tells networks with the same weights apart, such as an activation."""
    if spec is None:
        return ""
    return hashlib.sha256(msgspec.json.encode(architecture(spec))).hexdigest()


def _predictions(
    predictor: Predictor,
    pictures: Sequence[tuple[Picture, "NDArray[np.float32]", str]],
    subject: Subject,
    kept: "dict[str, NDArray[np.float32]] | None",
) -> list[Prediction]:
    import numpy as np

    logits = predictor(np.stack([values for _, values, _ in pictures]))
    expected = (len(pictures), subject.card.classes)
    if logits.shape != expected:
        raise InputError(
            f"{subject.name} gave an output of shape {logits.shape}; {expected} was expected.",
            hint="Artifact and manifest do not belong together; convert the model again.",
        )
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        file = pictures[int(np.argmin(finite))][0].file
        raise InputError(
            f"{subject.name} computes NaN or infinity for {file}.",
            hint="Its numbers overflow; take the recipe fp32."
            if subject.recipe != "fp32"
            else "Its weights, mean or std are out of range; look at them.",
        )
    if kept is not None:
        kept.update(
            (recorded(picture.file), row)
            for (picture, _, _), row in zip(pictures, logits, strict=True)
        )
    rows = likeliest(logits)
    return [
        Prediction(
            file=recorded(picture.file),
            label=picture.label,
            classes=classes,
            probabilities=probabilities,
            sha256=sha256,
        )
        for (picture, _, sha256), (classes, probabilities) in zip(pictures, rows, strict=True)
    ]


def _versions(packages: Sequence[str]) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in packages:
        # Converters are among a target's packages, and executing an artifact needs none.
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
