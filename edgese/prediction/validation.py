"""How good predictions are: devices and networks are left out of a fit and predicted by it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgese.prediction import accelerators, ncnn, npu, xnnpack
from edgese.prediction.study import Study, fitted
from edgese.records.prediction import DeviceKnown, Evidence, NetworkKnown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Index = NDArray[np.intp]

CONFIDENCE: Final = 0.9
# Networks that a user has measured on the device, in the cases with anchors.
# Each single one is tried, and all are counted together: which one it is makes a difference.
ANCHORS: Final = {
    "fp32": ("mobilenet_v2@224x224", "resnet18@224x224", "efficientnet_b0@224x224"),
    "int8": ("mobilenet@224x224", "resnet18@224x224", "resnet50_v1@224x224"),
}
# Leaving out each device with each network would take hundreds of fits; groups are left out
# together in so many parts.
_PARTS: Final = 5


@dataclass(frozen=True)
class Residuals:
    """Log of prediction over truth where the truth was left out.

    Attributes:
        group: what was left out with each: the unit that intervals must generalize over.
        network: of each.
    """

    off: "Floats"
    group: "NDArray[np.str_]"
    network: "NDArray[np.str_]"


def networks_left_out(study: Study) -> Residuals:
    """Each network is predicted from the others, on devices that were measured with those."""
    return _left_out(study, _splits(study.rows.groups[study.network]), study.network)


def devices_left_out(study: Study, anchors: Sequence[str] = ()) -> Residuals:
    """Each chip is predicted from the others: its facts alone, or with some networks measured.

    All boards of a chip are left out together.
    """
    return _left_out(study, _splits(study.rows.groups[study.device]), study.device, anchors)


def both_left_out(study: Study, anchors: Sequence[str] = ()) -> Residuals:
    """Each chip is predicted from the others, for networks that were measured nowhere."""
    import numpy as np

    chips, names = study.rows.groups[study.device], study.rows.groups[study.network]
    others = np.array([name for name in names if name not in anchors])
    parts = [
        (np.isin(chips, some_chips), np.isin(names, some_names))
        for some_chips in _parts(chips)
        for some_names in _parts(others)
    ]
    splits = [
        (
            np.flatnonzero(~(chip | name) | (chip & np.isin(names, anchors))),
            np.flatnonzero(chip & name),
        )
        for chip, name in parts
    ]
    return _left_out(study, splits, study.device)


def spread(residuals: Residuals, confidence: float = CONFIDENCE) -> float:
    """The absolute log error that ``confidence`` of predictions for a new group stay within.

    Split-conformal with groups: each group counts alike however many rows it has, and the group
    that is to come counts as one more whose errors are larger than all. Infinite where there are
    too few groups for that confidence.
    """
    import numpy as np

    off, reached = _reached(residuals)
    at = int(np.searchsorted(reached, confidence - 1e-12))
    return float(off[at]) if at < len(off) else float("inf")


def quantiles(residuals: Residuals) -> tuple[float, ...]:
    """Return the `spread` at each confidence k / (groups + 1), as factors.

    They are rounded up, since an interval may be too wide and must not be too narrow.
    """
    import numpy as np

    off, reached = _reached(residuals)
    groups = len(np.unique(residuals.group))
    levels = np.arange(1, groups + 1) / (groups + 1)
    at = np.searchsorted(reached, levels - 1e-12)
    return tuple(float(np.ceil(factor * 1e4) / 1e4) for factor in np.exp(off[at]))


def _reached(residuals: Residuals) -> tuple["Floats", "Floats"]:
    """Return absolute errors in rising order, and the confidence that each of them reaches."""
    import numpy as np

    _, index, counts = np.unique(residuals.group, return_inverse=True, return_counts=True)
    weights = 1 / counts[index] / (len(counts) + 1)
    order = np.argsort(np.abs(residuals.off))
    return np.abs(residuals.off)[order], np.cumsum(weights[order])


def coverage(residuals: Residuals) -> float:
    """Share of truths inside intervals that were made without the truth's own group."""
    import numpy as np

    inside = 0
    for train, test in _splits(residuals.group):
        others = Residuals(residuals.off[train], residuals.group[train], residuals.network[train])
        inside += int((np.abs(residuals.off[test]) <= spread(others)).sum())
    return inside / len(residuals.off)


def evidence(
    study: Study,
    residuals: Residuals,
    device: DeviceKnown,
    network: NetworkKnown,
    *,
    anchors: int = 0,
) -> Evidence:
    """The figures of one way of leaving out."""
    import numpy as np

    ratio = np.abs(np.expm1(residuals.off))
    return Evidence(
        fit=study.name,
        precision=study.precision,
        device=device,
        network=network,
        count=len(ratio),
        groups=len(np.unique(residuals.group)),
        within_10=round(float((ratio <= 0.1).mean()), 4),
        within_20=round(float((ratio <= 0.2).mean()), 4),
        coverage=round(coverage(residuals), 4),
        spread=round(float(np.exp(spread(residuals))), 4),
        anchors=anchors,
        quantiles=quantiles(residuals),
    )


def everything(fit: str = "") -> Iterator[tuple[str, Study, Residuals, Evidence]]:
    """Every way of leaving out that a prediction can rest on, with what it found; takes minutes.

    Args:
        fit: only this one; "" is all.

    Where the devices are too few for a 90 % interval of their own (XNNPACK's three), only networks
    are left out; see `edgese.prediction.cases` for what an unseen device's interval is then.
    """
    for precision in ncnn.PRECISIONS if fit in ("", ncnn.NAME) else ():
        study = ncnn.study(precision)
        yield from _all_of(study)
        yield from _anchored(study, [(anchor,) for anchor in ANCHORS[precision]])
        yield from _anchored(study, [ANCHORS[precision]])
    for study in (xnnpack.study(), accelerators.study()):
        if fit not in ("", study.name):
            continue
        found = networks_left_out(study)
        yield "network left out", study, found, evidence(study, found, "measured", "new")
    for precision in npu.PRECISIONS if fit in ("", npu.NAME) else ():
        yield from _all_of(npu.study(precision))


def _anchored(
    study: Study, sets: Sequence[tuple[str, ...]]
) -> Iterator[tuple[str, Study, Residuals, Evidence]]:
    """Chips left out but for each set of anchors, all sets together."""
    count = len(sets[0])
    found = _together([devices_left_out(study, anchors) for anchors in sets])
    told = evidence(study, found, "anchored", "measured", anchors=count)
    yield f"device left out but for {count}", study, found, told
    found = _together([both_left_out(study, anchors) for anchors in sets])
    told = evidence(study, found, "anchored", "new", anchors=count)
    yield f"device left out but for {count}, network left out", study, found, told


def _together(parts: Sequence[Residuals]) -> Residuals:
    import numpy as np

    return Residuals(
        np.concatenate([part.off for part in parts]),
        np.concatenate([part.group for part in parts]),
        np.concatenate([part.network for part in parts]),
    )


def _all_of(study: Study) -> Iterator[tuple[str, Study, Residuals, Evidence]]:
    found = networks_left_out(study)
    yield "network left out", study, found, evidence(study, found, "measured", "new")
    found = devices_left_out(study)
    yield "device left out", study, found, evidence(study, found, "facts", "measured")
    found = both_left_out(study)
    yield "device and network left out", study, found, evidence(study, found, "facts", "new")


def _left_out(
    study: Study,
    splits: Sequence[tuple["Index", "Index"]],
    group: str,
    anchors: Sequence[str] = (),
) -> Residuals:
    import numpy as np

    names = study.rows.groups[study.network]
    offs, tests = [], []
    for rest, left in splits:
        given = np.isin(names[left], anchors)
        train, test = np.concatenate([rest, left[given]]), left[~given]
        # A device without the anchors says nothing of predictions with anchors.
        if not len(test) or (anchors and not given.any()):
            continue
        model = fitted(study, train)
        offs.append(model.log_ms(study.rows.take(test)) - study.log_ms[test])
        tests.append(test)
    index = np.concatenate(tests)
    return Residuals(np.concatenate(offs), study.rows.groups[group][index], names[index])


def _splits(levels: "NDArray[np.str_]") -> list[tuple["Index", "Index"]]:
    import numpy as np

    return [
        (np.flatnonzero(levels != level), np.flatnonzero(levels == level))
        for level in np.unique(levels)
    ]


def _parts(levels: "NDArray[np.str_]") -> Iterator["NDArray[np.str_]"]:
    """The levels in `_PARTS` parts, neighbours in the alphabet in different ones."""
    import numpy as np

    known = np.unique(levels)
    for part in range(min(_PARTS, len(known))):
        yield known[part::_PARTS]
