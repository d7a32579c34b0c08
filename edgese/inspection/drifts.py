"""How far a delegate's logits lead away from the processor's."""

from typing import TYPE_CHECKING, Final

from edgese.errors import DeviceError
from edgese.records.inspection import Arithmetic, Drift

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Sound files were seen at 0.989 and above, random int8 ones among them; one at 0.46.
_NEAR: Final = 0.98


def drift(
    arithmetic: Arithmetic,
    logits: "NDArray[np.float32]",
    beside: "NDArray[np.float32]",
    *,
    of: str,
) -> Drift:
    """What there is between a delegate's logits and the processor's.

    Args:
        logits, beside: (pictures, classes).
        of: the delegate, for the message.

    Raises:
        DeviceError: logits are not finite.
    """
    import numpy as np

    from edgese.conversion.parity import cosines

    a, b = logits.astype(np.float64), beside.astype(np.float64)
    if not np.isfinite(a).all():
        raise DeviceError(
            f"{np.count_nonzero(~np.isfinite(a))} of the logits of {of} are not finite in "
            f"{arithmetic}.",
            hint="Activations that leave fp16's range (65,504) do this; the recipe fp16 of another "
            "target tells whether they do.",
        )
    return Drift(
        arithmetic=arithmetic,
        pictures=len(a),
        max_abs_diff=float(np.abs(a - b).max()),
        cosine=float(cosines(a, b).min()),
        top1_agreement=float(np.mean(a.argmax(1) == b.argmax(1))),
        logit_std=float(b.std()),
    )


def far_off(drifts: tuple[Drift, ...]) -> str:
    """What is to be said where a delegate computes something else; "" where it does not."""
    worst = min(drifts, key=lambda each: each.cosine)
    if worst.cosine >= _NEAR:
        return ""
    return (
        f"Its logits are far from the processor's (cosine {worst.cosine:.3f} in "
        f"{worst.arithmetic}): do not ship this file for it before its accuracy is measured there."
    )
