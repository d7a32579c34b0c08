"""A study: measurements of one kind, how they are fitted, and what that says anything about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgese.prediction import regression
from edgese.prediction.regression import Effect, Fitted, Rows
from edgese.prediction.work import KINDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Names = NDArray[np.str_]
    Index = NDArray[np.intp]

# A kind of work may have this much more of the whole than in any measured network.
_MORE_SHARE: Final = 0.15
# The whole may be this many times more or less than any measured network's.
_FURTHER: Final = 4.0


@dataclass(frozen=True)
class Query:
    """Things to predict, in columns of equal length; a study's own rows are some as well.

    Attributes:
        work: (N, kinds); see `work.KINDS`.
        facts: (N, facts).
        groups: names of levels by group.
        base: log of what another fit predicts, where a study starts from that.
    """

    work: "Floats"
    facts: "Floats"
    groups: Mapping[str, "Names"]
    base: "Floats | None" = None

    def take(self, index: "Index") -> "Query":
        """Some of the rows."""
        return Query(
            self.work[index],
            self.facts[index],
            {name: levels[index] for name, levels in self.groups.items()},
            None if self.base is None else self.base[index],
        )


@dataclass(frozen=True)
class Study:
    """Measurements, and the effects that are fitted to them.

    Attributes:
        name: of the fit, as in `edgese.records.prediction.Evidence`.
        device, network: groups that are left out to see how good it is; "setting" is a group too
            where costs of work are found.
        costs: what units of work cost, where that is not found from these rows.
        sources: urls of the measurements.
    """

    name: str
    precision: str
    rows: Query
    log_ms: "Floats"
    effects: tuple[Effect, ...]
    sources: tuple[str, ...]
    device: str = "soc"
    network: str = "network"
    costs: "Floats | None" = None


@dataclass(frozen=True)
class Model:
    """A study, fitted."""

    costs: "Floats"
    fitted: Fitted

    def log_ms(self, query: Query) -> "Floats":
        """Log of the predicted latencies."""
        return self.fitted.log_ms(_columns(query, self.costs))


def fitted(study: Study, index: "Index | None" = None) -> Model:
    """Fits a study to its rows, or to some of them."""
    import numpy as np

    chosen = np.arange(len(study.log_ms)) if index is None else index
    rows, log_ms = study.rows.take(chosen), study.log_ms[chosen]
    costs = study.costs
    if costs is None:
        costs = regression.unit_costs(rows.work, log_ms, rows.groups["setting"])
    return Model(costs, regression.fit(_columns(rows, costs, log_ms), study.effects))


def with_rows(study: Study, rows: Query, log_ms: "Floats") -> Study:
    """The study with more measurements."""
    import numpy as np

    mine = study.rows
    base = None
    if mine.base is not None and rows.base is not None:
        base = np.concatenate([mine.base, rows.base])
    joined = Query(
        np.vstack([mine.work, rows.work]),
        np.vstack([mine.facts, rows.facts]),
        {name: np.concatenate([mine.groups[name], rows.groups[name]]) for name in mine.groups},
        base,
    )
    return Study(
        study.name,
        study.precision,
        joined,
        np.concatenate([study.log_ms, log_ms]),
        study.effects,
        study.sources,
        study.device,
        study.network,
        study.costs,
    )


def outside(study: Study, work: "Floats") -> str:
    """Why a network is unlike all measured ones, as the end of a sentence; "" where it is not."""
    import numpy as np

    seen = study.rows.work
    shares = seen / seen.sum(1, keepdims=True)
    mine = work / work.sum()
    over = mine - shares.max(0) - _MORE_SHARE
    if over.max() > 0:
        kind = KINDS[int(np.argmax(over))].replace("_", " of ")
        return (
            f"{mine[np.argmax(over)]:.0%} of its work is {kind}, and no network that was measured "
            f"has more than {shares.max(0)[np.argmax(over)]:.0%}"
        )
    total, least, most = work.sum(), seen.sum(1).min(), seen.sum(1).max()
    if total > most * _FURTHER:
        return f"it is {total / most:.1f} times as large as the largest network that was measured"
    if total < least / _FURTHER:
        return f"it is {least / total:.1f} times smaller than the smallest that was measured"
    return ""


def columns(
    work: Sequence["Floats"],
    facts: Sequence[Sequence[float]],
    groups: Mapping[str, Sequence[str]],
    base: Sequence[float] | None = None,
) -> Query:
    """A query from lists."""
    import numpy as np

    return Query(
        np.array(work),
        np.array(facts, dtype=float).reshape(len(work), -1),
        {name: np.array(levels) for name, levels in groups.items()},
        None if base is None else np.array(base),
    )


def _columns(query: Query, costs: "Floats", log_ms: "Floats | None" = None) -> Rows:
    base, shares = regression.base_and_shares(query.work, costs)
    return Rows(
        base if query.base is None else query.base, shares, query.facts, query.groups, log_ms
    )
