"""Two evaluations joined image by image: by what their files hold, never by names alone; pure."""

from collections.abc import Mapping
from typing import NamedTuple

from edgese.records.evaluation import Evaluation


class Answers(NamedTuple):
    """What came of one image in two evaluations; None is not known."""

    first: bool | None
    second: bool | None


def outcomes(evaluation: Evaluation) -> tuple[bool | None, ...]:
    """Whether each image was classified rightly; None where that is not known.

    Copies of one image are one image: they are no evidence of their own. Where they have different
    labels, nobody can tell which of them is right.
    """
    by_image: dict[str, set[bool | None]] = {}
    for one in evaluation.predictions:
        image = one.sha256 or f"file {one.file}"
        by_image.setdefault(image, set()).add(one.classes[0] == one.label)
    for left in evaluation.unreadable:
        by_image.setdefault(f"file {left.file}", set()).add(None)
    return tuple(found.pop() if len(found) == 1 else None for found in by_image.values())


def other_images(first: Evaluation, second: Evaluation) -> str:
    """How the images of two evaluations differ, as a clause; "" where they are the same.

    Images are the same where files of the same names have the same contents and labels. Of those
    that one of the two could not read, the name is all that is known.
    """
    names = [asked_of(one) for one in (first, second)]
    if names[0] != names[1]:
        only = min(names[0] ^ names[1])
        return f"only one of them was asked about {only}"
    if first.data.labelled_by != second.data.labelled_by:
        return f"one has labels by {first.data.labelled_by}, one by {second.data.labelled_by}"
    others = {one.file: one for one in second.predictions}
    for one in first.predictions:
        other = others.get(one.file)
        if other is None:
            continue
        if not one.sha256 or one.sha256 != other.sha256:
            return f"{one.file} does not have the same contents in both"
        if one.label != other.label:
            return f"{one.file} does not have the same label in both"
    return ""


def other_network(first: Evaluation, second: Evaluation) -> str:
    """How the networks of two evaluations differ beside their recipes; "" where they do not."""
    if not first.weights.sha256 or not second.weights.sha256:
        return "nobody wrote down which weights they have"
    pairs = {
        "model": (first.model, second.model),
        "weights": (first.weights.sha256, second.weights.sha256),
        "layers": (first.architecture, second.architecture),
        "resolution": (_resolution(first), _resolution(second)),
        "preprocessing": (first.preprocessing, second.preprocessing),
    }
    if first.weights.sha256 != second.weights.sha256:
        pairs = {"weights": pairs["weights"]}
    for what, (one, other) in pairs.items():
        if one != other:
            told = f" ({one:.12}, {other:.12})" if isinstance(one, str) else ""
            return f"they are not of the same {what}{told}"
    return ""


def paired_answers(first: Evaluation, second: Evaluation) -> tuple[Answers, ...]:
    """The answers of both to each image, of two evaluations of the same images.

    Copies of one image are one, as in `outcomes`.
    """
    answers = [_answers(one) for one in (first, second)]
    images = {one.file: one.sha256 for one in (*first.predictions, *second.predictions)}
    by_image: dict[str, set[Answers]] = {}
    for file in sorted(asked_of(first)):
        image = images.get(file) or f"file {file}"
        found = Answers(answers[0].get(file), answers[1].get(file))
        by_image.setdefault(image, set()).add(found)
    return tuple(
        found.pop() if len(found) == 1 else Answers(None, None) for found in by_image.values()
    )


def _answers(evaluation: Evaluation) -> Mapping[str, bool]:
    return {one.file: one.classes[0] == one.label for one in evaluation.predictions}


def asked_of(evaluation: Evaluation) -> set[str]:
    """The files that were to be classified, whether they could be read or not."""
    read = {one.file for one in evaluation.predictions}
    return read | {one.file for one in evaluation.unreadable}


def _resolution(evaluation: Evaluation) -> str:
    return f"{evaluation.preprocessing.height}x{evaluation.preprocessing.width}"
