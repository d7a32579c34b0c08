"""Two evaluations of the same pictures, held against each other."""

from typing import TYPE_CHECKING

from edgese.errors import InputError
from edgese.evaluation.pairing import asked_of
from edgese.paths import check_type
from edgese.records.evaluation import Agreement, Evaluation
from edgese.statistics import mcnemar

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    Logits = Mapping[str, NDArray[np.float32]]


def agreement(
    first: Evaluation, second: Evaluation, logits: "tuple[Logits, Logits] | None" = None
) -> Agreement:
    """How often two evaluations have the same likeliest class, and which is right more often.

    Pictures that one of them could not read are left out of the comparison.

    Args:
        logits: of both, by file, for the divergence.

    Raises:
        InputError: they are of different pictures or labels, or share no readable one.
    """
    check_type("first", first, Evaluation)
    check_type("second", second, Evaluation)
    others = {prediction.file: prediction for prediction in second.predictions}
    pairs = [(p, others[p.file]) for p in first.predictions if p.file in others]
    changed = [a.file for a, b in pairs if a.sha256 != b.sha256]
    if first.data.sha256 != second.data.sha256 or changed:
        what = f"{changed[0]} has other contents" if changed else "their files or labels differ"
        raise InputError(
            f"{first.subject} was evaluated on {first.data.source} ({first.data.listed} pictures) "
            f"and {second.subject} on {second.data.source} ({second.data.listed} pictures), and "
            f"{what}.",
            hint="Evaluate both on the same data, with the same split and limit.",
        )
    if not pairs:
        raise InputError(
            f"{first.subject} and {second.subject} have no readable picture in common.",
            hint="Evaluate both again on pictures that can be read.",
        )
    right = [(a.classes[0] == a.label, b.classes[0] == b.label) for a, b in pairs]
    only_first, only_second = right.count((True, False)), right.count((False, True))
    differing = tuple(a.file for a, b in pairs if a.classes[0] != b.classes[0])
    return Agreement(
        first=first.subject,
        second=second.subject,
        pictures=len(pairs),
        same_top1=len(pairs) - len(differing),
        differing=differing,
        only_first_right=only_first,
        only_second_right=only_second,
        top1_difference=(only_second - only_first) / len(pairs),
        p_value=mcnemar(only_first, only_second),
        kl=_divergence([a.file for a, _ in pairs], logits) if logits else None,
        left_out=len(asked_of(first) | asked_of(second)) - len(pairs),
    )


def _divergence(files: list[str], logits: "tuple[Logits, Logits]") -> float:
    import numpy as np

    from edgese.statistics import mean_kl

    reference, found = (np.stack([of[file] for file in files]) for of in logits)
    return mean_kl(found, reference)
