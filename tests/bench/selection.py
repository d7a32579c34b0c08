"""Does looking at what can still win find what measuring everything finds, and what does it save?

Measures every candidate on this host, then selects under several budgets, each time from nothing:
no artifact and no finding of an earlier run is taken. Wall times are compared.

    python tests/bench/selection.py --scaled        # twelve small networks, in a few minutes
    python tests/bench/selection.py --out edgese-out/bench-selection
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from edgese.records.budget import BudgetTable, Observation
from edgese.records.measurement import MeasurePlan
from edgese.selection import api
from edgese.selection.api import select
from edgese.selection.candidates import enumerated
from edgese.selection.deciding import Aim, Known, decide
from edgese.selection.expectation import Anchor, expected
from edgese.selection.work import Order

CANDIDATES = (
    "efficientnet_b0..b3",
    "efficientnet_v2_b0..b3",
    "efficientnet_lite0..lite4",
)


# EfficientNets scaled down by the compound rule. Nobody published their accuracies, so they are
# given ones that grow with the scale: which is the more accurate is all that they say.
SCALED = tuple(f"efficientnet_phi{-8 + n / 2:g}" for n in range(12))


def made_up(candidate):
    """An accuracy that grows with the scale."""
    share = 0.7 + 0.01 * SCALED.index(candidate.model)
    return Observation(quantity="accuracy", value=share, low=share, high=share, source="published")


def aim(bound):
    """A budget of one latency."""
    table = BudgetTable(latency_p50_ms=bound)
    return Aim(table.limits())


def afresh(candidates, asked, out, *, everything=False):
    """A selection that nothing was found out for before, and its seconds."""
    plan = MeasurePlan(threads=1)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        os.environ["EDGESE_CACHE_DIR"] = f"{folder}/cache"
        order = Order(device="host", plan=plan, folder=f"{folder}/work")
        began = time.perf_counter()
        found = select(candidates, asked, order, everything=everything, progress=show)
        return found, time.perf_counter() - began


def known(one):
    """A candidate and everything that is known of it, to be judged under another budget."""
    return Known(one.candidate, one.figures, artifact=one.artifact)


def show(stage, fraction):
    """Says what is done."""
    print(f"\r{stage:70.70} {fraction:4.0%}", end="", flush=True)


def latencies(result):
    """The measured p50 of each candidate, the fastest first."""
    found = {one.label: one.figure("latency_p50_ms") for one in result.decision.standings}
    return dict(sorted(found.items(), key=lambda pair: pair[1].value))


def pairs_in_interval(result):
    """How often a candidate lies in what is expected of it beside one other of its family."""
    standings = result.decision.standings
    hits = []
    for one in standings:
        for other in standings:
            if one is other or one.candidate.model[:15] != other.candidate.model[:15]:
                continue
            macs, told = one.figure("macs").value, one.figure("latency_p50_ms").value
            anchor = Anchor(other.figure("macs").value, other.figure("latency_p50_ms"))
            guess = expected(macs, [anchor])
            hits.append(guess.low <= told <= guess.high)
    return sum(hits), len(hits)


def main():
    """Prints a row for each budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("edgese-out/bench-selection"))
    parser.add_argument("--scaled", action="store_true")
    parser.add_argument("--target", default="onnxruntime")
    parser.add_argument("--recipe", default="fp32")
    args = parser.parse_args()
    if args.scaled:
        api.published = made_up
    candidates = enumerated(
        SCALED if args.scaled else CANDIDATES, targets=[args.target], recipes=[args.recipe]
    )
    args.out.mkdir(parents=True, exist_ok=True)
    # The imports and the first process count in no run.
    afresh(candidates[:1], aim(1e9), args.out)
    whole, everything_s = afresh(candidates, aim(1e9), args.out, everything=True)
    told = latencies(whole)
    print(f"\r{len(candidates)} candidates, measuring all: {everything_s:.0f} s{'':50}")
    for label, figure in told.items():
        print(f"  {label:45} {figure.value:8.2f} ms ({figure.low:.2f} to {figure.high:.2f})")
    inside, every = pairs_in_interval(whole)
    print(f"in the interval expected beside one other: {inside} of {every}")
    ordered = list(told.values())
    third = len(ordered) // 3
    bounds = {
        "impossible": ordered[0].low / 2,
        "tight": ordered[third].high * 1.05,
        "middle": ordered[len(ordered) // 2].high * 1.05,
        "loose": ordered[-2].high * 1.05,
    }
    for name, bound in bounds.items():
        judged = decide([known(one) for one in whole.decision.standings], aim(bound))
        some, seconds = afresh(candidates, aim(bound), args.out)
        same = some.decision.chosen == judged.chosen
        spent = {one.round: one.looked_at for one in some.rounds}
        print(
            f"{name:10} {bound:8.2f} ms: {some.decision.chosen or 'none':42} "
            f"{'same' if same else 'NOT ' + (judged.chosen or 'none')}; "
            f"{spent.get('looks', 0)} looked at, {spent.get('artifacts', 0)} measured, "
            f"{seconds:.0f} s, {seconds / everything_s:.2f} of all"
        )
        if not some.decision.chosen:
            near = some.decision.nearest[0]
            print(f"{'':10} nearest: {near.label}, {near.excess:.2f} times")


if __name__ == "__main__":
    main()
