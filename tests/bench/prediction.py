"""Validates the predictions: devices and networks are left out of the fit and predicted by it.

Usage: python tests/bench/prediction.py [--fit NAME] [--groups] [--write]

All boards of a chip are left out together. "within" are shares of predictions within 10 and 20 % of
the truth; "covered" is the share of truths in their 90 % interval, each interval made without the
chip or network that it is tried on; "spread" is the interval's factor up and down. --write stores
the figures, of which the intervals of `edgese predict` are made, in
calibration/latency/evidence.toml.
"""

import argparse
from pathlib import Path

import numpy as np
import tomli_w

from edgese.prediction import validation
from edgese.prediction.study import fitted
from edgese.prediction.validation import Residuals

DEST = Path(__file__).parents[2] / "calibration/latency/evidence.toml"
HEADER = """\
# How far predictions were off where the truth was left out of the fit; the intervals of
# `edgese predict` are made of these figures. Keys: edgese.records.prediction.Evidence. Made by
#     python tests/bench/prediction.py --write
"""


def main() -> None:
    """Runs the validation and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", default="", help="only this one, as in ncnn-cpu")
    parser.add_argument("--groups", action="store_true", help="also each chip or network")
    parser.add_argument("--write", action="store_true", help="store the figures")
    options = parser.parse_args()
    print(
        f"{'fit':20} {'left out':48} {'rows':>5} {'groups':>6} {'<10 %':>6} {'<20 %':>6} "
        f"{'covered':>7} {'spread':>6}"
    )
    found = []
    for label, study, residuals, evidence in validation.everything(options.fit):
        print(
            f"{study.name + ' ' + study.precision:20} {label:48} {evidence.count:5} "
            f"{evidence.groups:6} {evidence.within_10:6.1%} {evidence.within_20:6.1%} "
            f"{evidence.coverage:7.1%} {evidence.spread:6.2f}",
            flush=True,
        )
        if options.groups:
            show_groups(residuals)
        found.append(evidence.to_dict())
    if options.write and options.fit:
        parser.error("--write stores the figures of all fits")
    if options.write:
        DEST.write_text(HEADER + tomli_w.dumps({"evidence": found}))
    if not options.fit or options.fit == "xnnpack-cpu":
        show_new_chips()


def show_groups(residuals: Residuals) -> None:
    """Prints each group's figures; "bias" is the median of prediction over truth."""
    for group in np.unique(residuals.group):
        off = residuals.off[residuals.group == group]
        ratio = np.abs(np.expm1(off))
        print(
            f"    {group:32} {len(off):4} rows, bias {np.exp(np.median(off)):4.2f}, "
            f"{(ratio <= 0.1).mean():4.0%} within 10 %, {(ratio <= 0.2).mean():4.0%} within 20 %"
        )


def show_new_chips() -> None:
    """Prints how XNNPACK is predicted on each of its chips from the other two.

    Three chips are too few for an interval of their own: it is ncnn's and the step's together.
    """
    from edgese.prediction import xnnpack
    from edgese.prediction.evidence import evidence

    study = xnnpack.study()
    step = np.log(evidence(study.name, "all", "measured", "new").spread)
    ahead = np.log(evidence("ncnn-cpu", "fp32", "facts", "new").spread)
    width = np.hypot(step, ahead)
    chips = study.rows.groups["soc"]
    for chip in np.unique(chips):
        test = np.flatnonzero(chips == chip)
        model = fitted(study, np.flatnonzero(chips != chip))
        off = model.log_ms(study.rows.take(test)) - study.log_ms[test]
        ratio = np.abs(np.expm1(off))
        print(
            f"{study.name:20} {'chip left out: ' + chip:48} {len(off):5} {'':6} "
            f"{(ratio <= 0.1).mean():6.1%} {(ratio <= 0.2).mean():6.1%} "
            f"{(np.abs(off) <= width).mean():7.1%} {np.exp(width):6.2f}"
        )


if __name__ == "__main__":
    main()
