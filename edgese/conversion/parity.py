"""How close an artifact's outputs are to PyTorch's for the same pictures. Pure."""

from typing import TYPE_CHECKING, Final

import numpy as np

from edgese.records.artifact import Parity, ParityBound

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Stands for an infinite ratio, which JSON does not have.
NOISELESS_DB: Final = 999.0


def compared(
    actual: "NDArray[np.float32]",
    reference: "NDArray[np.float32]",
    bound: ParityBound,
    step: float | None = None,
) -> Parity:
    """An artifact's logits beside PyTorch's, and whether they are within the bound.

    Args:
        actual, reference: (pictures, classes).
        step: of the output's grid, where it has one.
    """
    if actual.shape != reference.shape:
        return _failed(reference, f"its output has shape {actual.shape}, not {reference.shape}")
    if not np.isfinite(actual).all():
        return _failed(
            reference, f"{np.count_nonzero(~np.isfinite(actual))} outputs are not finite"
        )
    # Sums over a thousand classes need more digits than what is compared.
    a, r = actual.astype(np.float64), reference.astype(np.float64)
    cosine, sqnr_db = float(cosines(a, r).min()), sqnr(a, r)
    reasons = []
    if cosine < bound.min_cosine:
        reasons.append(f"the smallest cosine is {cosine:.6f}, below {bound.min_cosine:g}")
    if sqnr_db < bound.min_sqnr_db:
        reasons.append(f"the SQNR is {sqnr_db:.1f} dB, below {bound.min_sqnr_db:g} dB")
    # Half a step of tolerance: codes are whole, and floats hold them inexactly.
    within = None if step is None else float(np.mean(np.abs(a - r) <= 1.5 * step))
    if within is not None and within < bound.min_within_step:
        reasons.append(
            f"{within:.1%} of the outputs are within one step of the grid, below "
            f"{bound.min_within_step:.0%}"
        )
    return Parity(
        verdict="failed" if reasons else "passed",
        reason=" and ".join(reasons),
        pictures=len(r),
        cosine=cosine,
        max_abs_diff=float(np.abs(a - r).max()),
        sqnr_db=sqnr_db,
        top1_agreement=float(np.mean(a.argmax(1) == r.argmax(1))),
        within_step=within,
    )


def cosines(a: "NDArray[np.float64]", b: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """The cosine of each row of ``a`` with that of ``b``, in -1..1; two zero rows are equal, so 1.

    Args:
        a, b: (rows, columns).
    """
    # Scaled first: the square of a large or tiny value would leave the range.
    a, b = _scaled(a), _scaled(b)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dots = np.einsum("ij,ij->i", a, b)
    both_zero = ~a.any(1) & ~b.any(1)
    ratios: NDArray[np.float64] = np.where(both_zero, 1.0, 0.0)
    np.divide(dots, norms, out=ratios, where=norms > 0)
    return np.clip(ratios, -1.0, 1.0)


def sqnr(actual: "NDArray[np.float64]", reference: "NDArray[np.float64]") -> float:
    """Signal to quantization noise in dB, 10 log10(sum r^2 / sum (a - r)^2), within +-999."""
    noise = float(np.square(actual - reference).sum())
    signal = float(np.square(reference).sum())
    if noise == 0:
        return NOISELESS_DB
    if signal == 0:
        return -NOISELESS_DB
    ratio_db = 10 * (np.log10(signal) - np.log10(noise))
    return float(np.clip(ratio_db, -NOISELESS_DB, NOISELESS_DB))


def _scaled(rows: "NDArray[np.float64]") -> "NDArray[np.float64]":
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scaled = np.zeros_like(rows)
    np.divide(rows, largest, out=scaled, where=largest > 0)
    return scaled


def _failed(reference: "NDArray[np.float32]", reason: str) -> Parity:
    return Parity(verdict="failed", reason=reason, pictures=len(reference))
