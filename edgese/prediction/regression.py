"""The regression: log latency as work, facts of the device, and effects of groups, shrunk.

The work of a network by kind is added up with weights that are found first (`unit_costs`, shared by
all devices). What is left is linear: how fast a device is, and which kinds of work it is slower or
faster at, follow from its facts; each kind of core, chip, board and setting deviates from that, and
so does each network. Deviations are shrunk by a ridge penalty whose strength is the effect's
expected size, as in a mixed model, so that a group with few rows stays near what its facts say, and
one measurement of an unseen device moves everything that is predicted for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Names = NDArray[np.str_]

# Of log latency, between runs of one thing.
NOISE: Final = 0.06
# Rows that are further off count less, in proportion: throttled or mistyped ones.
_OUTLIER: Final = 0.12
_INTERCEPT: Final = 10.0
_PASSES: Final = 2


@dataclass(frozen=True)
class Effect:
    """A deviation: one for each level of ``group`` ("" is all rows), for each entry of ``over``.

    Attributes:
        over: "one" is a plain offset, "shares" one for each kind of work, "facts" one for each
            fact, "facts x shares" one for each pair.
        size: expected standard deviation, in log latency.
    """

    group: str
    over: Literal["one", "shares", "facts", "facts x shares"]
    size: float


@dataclass(frozen=True)
class Rows:
    """Measurements, or what is to be predicted, in columns of equal length.

    Attributes:
        base: log of latency but for what the fit adds; see `base_and_shares`.
        shares: (N, kinds) of the work by kind.
        facts: (N, facts).
        groups: names of levels by group.
        log_ms: None for what is to be predicted.
    """

    base: "Floats"
    shares: "Floats"
    facts: "Floats"
    groups: Mapping[str, "Names"]
    log_ms: "Floats | None" = None


@dataclass(frozen=True)
class Fitted:
    """A fit that predicts."""

    effects: tuple[Effect, ...]
    levels: Mapping[str, "Names"]
    centres: tuple["Floats", "Floats"]
    coefficients: "Floats"

    def log_ms(self, rows: Rows) -> "Floats":
        """Log of the predicted latencies."""
        columns = _design(rows, self.effects, self.levels, self.centres)
        predicted: Floats = rows.base + columns @ self.coefficients
        return predicted


def fit(rows: Rows, effects: tuple[Effect, ...]) -> Fitted:
    """Fits the effects by ridge regression, rows that are far off counting less."""
    import numpy as np
    from sklearn.kernel_ridge import KernelRidge

    assert rows.log_ms is not None  # noqa: S101  # only measurements can be fitted
    levels = {
        effect.group: np.unique(rows.groups[effect.group]) for effect in effects if effect.group
    }
    centres = rows.shares.mean(0), rows.facts.mean(0)
    columns = _design(rows, effects, levels, centres)
    wanted = rows.log_ms - rows.base
    # There are more columns than rows: the dual problem is the smaller one, and its kernel the same
    # in every pass.
    kernel = columns @ columns.T
    weights = np.ones(len(wanted))
    for _ in range(_PASSES):
        ridge = KernelRidge(alpha=NOISE**2, kernel="precomputed")
        ridge.fit(kernel, wanted, sample_weight=weights)
        off = np.abs(wanted - kernel @ ridge.dual_coef_)
        weights = 1 / np.maximum(1, off / _OUTLIER)
    return Fitted(effects, levels, centres, columns.T @ ridge.dual_coef_)


def base_and_shares(work: "Floats", costs: "Floats") -> tuple["Floats", "Floats"]:
    """Log of the summed work of each row (N, kinds), and each kind's share in it."""
    import numpy as np

    weighted = work * costs
    total = weighted.sum(1, keepdims=True)
    return np.log(total[:, 0]), weighted / total


def unit_costs(
    work: "Floats", log_ms: "Floats", setting: "Names", *, strictness: float = 3.0
) -> "Floats":
    """What one unit of each kind of work costs beside what its prior weight says.

    Settings may each be as fast as they are; only how latencies within one compare is looked at.

    Args:
        work: (N, kinds).
        setting: which rows ran on the same device in the same way.
        strictness: of the pull towards 1.
    """
    import numpy as np
    from scipy.optimize import least_squares

    _, index = np.unique(setting, return_inverse=True)
    counts = np.bincount(index)

    def centred(values: "Floats") -> "Floats":
        within: Floats = values - (np.bincount(index, values) / counts)[index]
        return within

    def residuals(logs: "Floats") -> "Floats":
        left = centred(log_ms - np.log(work @ np.exp(logs)))
        return np.concatenate([left, np.sqrt(strictness) * logs])

    def slopes(logs: "Floats") -> "Floats":
        _, shares = base_and_shares(work, np.exp(logs))
        within = [centred(-shares[:, kind]) for kind in range(len(logs))]
        return np.vstack([np.column_stack(within), np.sqrt(strictness) * np.eye(len(logs))])

    start = np.zeros(work.shape[1])
    found = least_squares(residuals, start, jac=slopes, loss="soft_l1", f_scale=0.2, ftol=1e-5)
    costs: Floats = np.exp(found.x)
    return costs


def _design(
    rows: Rows,
    effects: Sequence[Effect],
    levels: Mapping[str, "Names"],
    centres: tuple["Floats", "Floats"],
) -> "Floats":
    """Columns whose coefficients are all expected to be of size 1; unseen levels are zeros."""
    import numpy as np

    one = np.ones((len(rows.base), 1))
    shares, facts = rows.shares - centres[0], rows.facts - centres[1]
    spread = {
        "one": one,
        "shares": shares,
        "facts": facts,
        "facts x shares": _products(facts, shares),
    }
    blocks = [_INTERCEPT * one]
    for effect in effects:
        block = spread[effect.over]
        if effect.group:
            names = rows.groups[effect.group]
            block = _products((names[:, None] == levels[effect.group][None, :]) * 1.0, block)
        blocks.append(effect.size * block)
    return np.hstack(blocks)


def _products(left: "Floats", right: "Floats") -> "Floats":
    """Every column of one times every column of the other."""
    product: Floats = (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)
    return product
