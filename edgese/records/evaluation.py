"""Accuracy: evaluations, and what others published."""

from typing import Annotated

import msgspec

from edgese.records.artifact import WeightsInfo
from edgese.records.base import Interval, Record
from edgese.records.bounds import Count, Finite, Percent, Positive, Seconds, Share, Side
from edgese.records.data import LabelledBy
from edgese.records.model import Preprocessing

EVALUATION_SCHEMA = 2


class Proportion(Record, frozen=True):
    """How many of the images, as a share in 0..1, with its Wilson interval.

    Images that could not be read are among ``of`` and not among ``count``: they count as wrong. The
    interval goes from all of them being wrong to all of them being right.
    """

    count: Count
    of: Positive
    share: Share
    interval: Interval


class Score(Record, frozen=True):
    """A class and what softmax gives it.

    Attributes:
        name: "" where nobody named it.
        probability: in 0..1.
    """

    index: Count
    name: str
    probability: Share


class Prediction(Record, frozen=True):
    """What came out for one picture.

    Attributes:
        file: relative to the data set's root.
        label: index of its true class.
        classes: indices of the five likeliest classes, the likeliest first; fewer where the model
            has fewer. Of equal ones the lower index comes first.
        probabilities: softmax of each, in 0..1.
        sha256: of the file's contents.
    """

    file: str
    label: Count
    classes: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)]
    probabilities: Annotated[tuple[Share, ...], msgspec.Meta(min_length=1)]
    sha256: str = ""


class Unreadable(Record, frozen=True):
    """A picture that was left out, and why."""

    file: str
    reason: str


class EvaluationData(Record, frozen=True):
    """What was evaluated on.

    Attributes:
        source: the folder or CSV file that was named.
        split: of the CSV; "" is all of it.
        labelled_by: how classes were recognised, see `edgese.records.data.DataSet`.
        listed: images that were asked for, unreadable ones included.
        sha256: over their files' names and labels; what the files hold, predictions say.
        repeated: images that were read whose contents are those of another one.
        classes_without: classes of the model of which no image was listed.
    """

    source: str
    split: str
    labelled_by: LabelledBy
    listed: Positive
    sha256: str
    repeated: Count = 0
    classes_without: Count = 0


class Evaluation(Record, frozen=True):
    """A model's accuracy on labelled pictures, in one runtime.

    Attributes:
        subject: path of the artifact, or the name or spec file of the model.
        target: the runtime; "pytorch" for the reference.
        recipe, delegate: of the artifact; "fp32" and "" in PyTorch.
        artifact_sha256: "" in PyTorch.
        pictures: how many could be read, and were classified.
        top1: the likeliest class is the true one.
        top5: the true one is among the five likeliest; None with five classes or fewer.
        unreadable: images that could not be read; they count as wrong, see `Proportion`.
        seconds: wall time, reading and preparing the pictures included. Not a latency.
        threads: that the runtime computed with.
        versions: of Python, Pillow, numpy and the packages of the runtime.
        created: UTC, ISO 8601.
        by: what executed the artifact in the runtime's place; "" where the runtime itself did.
        architecture: hash of what the network's spec says of its layers; "" for a user's own
            module, whose weights' hash tells it apart.
    """

    subject: str
    model: str
    target: str
    recipe: str
    delegate: str
    artifact_sha256: str
    weights: WeightsInfo
    preprocessing: Preprocessing
    data: EvaluationData
    pictures: Positive
    top1: Proportion
    top5: Proportion | None
    predictions: tuple[Prediction, ...]
    unreadable: tuple[Unreadable, ...]
    seconds: Seconds
    threads: Positive
    versions: dict[str, str]
    edgese: str
    created: str
    by: str = ""
    architecture: str = ""
    schema: int = EVALUATION_SCHEMA


class Agreement(Record, frozen=True):
    """Two evaluations of the same pictures, picture by picture.

    Attributes:
        first, second: their subjects.
        pictures: how many both classified.
        left_out: images that one of them could not read.
        same_top1: on how many the likeliest class is the same, right or wrong.
        differing: files on which it is not.
        only_first_right, only_second_right: pictures that one alone classifies correctly.
        top1_difference: accuracy of the second less that of the first, on these pictures.
        p_value: McNemar's exact test, two-sided: how probable a difference as large as this would
            be if both were equally good.
        kl: Kullback-Leibler divergence of the classes that the second predicts from those of the
            first, in nats, mean over the pictures. It resolves far smaller differences than
            accuracy does. None where the logits were not kept.
    """

    first: str
    second: str
    pictures: Positive
    same_top1: Count
    differing: tuple[str, ...]
    only_first_right: Count
    only_second_right: Count
    top1_difference: Annotated[float, msgspec.Meta(ge=-1, le=1)]
    p_value: Share
    kl: Finite | None = None
    left_out: Count = 0


class EvaluationResult(Record, frozen=True):
    """What ``edgese evaluate`` leaves; each further subject is held against the first.

    Attributes:
        seal: see `edgese.seals`.
    """

    evaluations: tuple[Evaluation, ...]
    agreements: tuple[Agreement, ...]
    seal: str = ""
    schema: int = EVALUATION_SCHEMA


class PublishedAccuracy(Record, frozen=True):
    """Top-1 of a model with a recipe, in percent.

    Attributes:
        resolution: height and width; None is the model's own.
        source: a key of ``urls``.
    """

    model: str
    recipe: str
    top1: Percent
    source: str
    resolution: tuple[Side, Side] | None = None
    dataset: str = "imagenet-1k"


class AccuracyTable(Record, frozen=True):
    """calibration/accuracy/published.toml.

    Attributes:
        urls: where a source can be read, by the words that specs and ``accuracy`` use for it.
        pictures: how many a data set's accuracy is counted on, by its name.
    """

    urls: dict[str, str]
    pictures: dict[str, Count]
    accuracy: tuple[PublishedAccuracy, ...] = ()
