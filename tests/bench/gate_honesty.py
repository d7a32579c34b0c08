"""How often the gate is wrong, in simulations of every quantity and on real measurements.

The first step draws what a gate sees where the truth is known (`gate_simulation`), and measures
nothing. The others collect runs of one artifact beside itself on this host, then judge pairs of
them of which nothing is truly slower, and the same with a slowdown put in. Collecting goes on where
it was interrupted.

    python tests/bench/gate_honesty.py simulate
    python tests/bench/gate_honesty.py collect --out samples.json --runs 40
    python tests/bench/gate_honesty.py judge samples.json
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from gate_simulation import CELLS, WORLDS, row_of, table, uncertainty

from edgese.budgets.evidence import Times
from edgese.budgets.judging import ERROR_RATE, Cell, judged_together
from edgese.budgets.regression import beside, describe, from_files, level, reaches
from edgese.measure.statistics import quantile
from edgese.measure.summary import summary
from edgese.records.budget import MAX_SLOWDOWN, NOISE_RUNS, Judged, Limit, Noise
from edgese.records.measurement import Block, DeviceInfo, Launch, MeasurePlan, Profile

MODEL = "efficientnet_lite0"
RESOLUTION = (128, 128)


def collect(out: Path, runs: int, pause_s: float, threads: int | None) -> None:
    """Measures until there are so many runs; each is written when it is done."""
    from edgese.conversion.api import convert
    from edgese.measure.api import profile

    made = convert(
        MODEL, "tflite", weights="none", resolution=RESOLUTION, out=out.parent / "honesty"
    )[0]
    if made.error:
        sys.exit(made.error)
    artifact = Path(made.artifact)
    kept = json.loads(out.read_text()) if out.exists() else {"runs": []}
    while len(kept["runs"]) < runs:
        began = time.time()
        result = profile([artifact, artifact], threads=threads)
        kept["runs"].append(
            {
                "created": result.created,
                "device": result.profiles[0].device.to_dict(),
                "threads": result.profiles[0].threads,
                "sha256": result.profiles[0].sha256,
                "arms": [
                    [[list(block.samples_ns) for block in launch.blocks] for launch in arm.launches]
                    for arm in result.profiles
                ],
            }
        )
        partial = out.with_suffix(".partial")
        partial.write_text(json.dumps(kept))
        partial.replace(out)
        p50 = [arm.latency.p50_ms for arm in result.profiles]
        ratio = result.ratios[0]
        print(
            f"run {len(kept['runs'])}: {p50[0]:.3f} and {p50[1]:.3f} ms, ratio {ratio.ratio:.4f} "
            f"({ratio.interval.low:.4f} to {ratio.interval.high:.4f}), "
            f"load {result.profiles[0].device.load_average}, {time.time() - began:.0f} s",
            flush=True,
        )
        time.sleep(pause_s)


class Run(NamedTuple):
    """One interleaved job of an artifact beside itself.

    Attributes:
        arms: of each, launches of blocks of times in ns.
        created: when, UTC, ISO 8601.
    """

    arms: tuple[list[list[list[int]]], list[list[list[int]]]]
    created: str


class Pair(NamedTuple):
    """A candidate and a baseline that are truly the same.

    Attributes:
        noise: that is known of the device; None where they were measured beside each other.
        reached: False where that noise knows nothing of times so far apart.
    """

    candidate: list[list[list[int]]]
    baseline: list[list[list[int]]]
    noise: Noise | None = None
    reached: bool = True


def beside_pairs(runs: Sequence[Run], count: int, rng: random.Random) -> list[Pair]:
    """Whole runs, in each launch of which the two sides may change places.

    Nothing is torn apart: blocks keep their order and autocorrelation, a run its drift and its
    neighbours on the machine.
    """
    pairs = []
    for _ in range(count):
        arms = rng.choice(runs).arms
        sides = [rng.sample(launches, 2) for launches in zip(*arms, strict=True)]
        pairs.append(Pair([one for one, _ in sides], [other for _, other in sides]))
    return pairs


def file_pairs(
    runs: Sequence[Run], count: int, calibration: int, info: DeviceInfo, rng: random.Random
) -> list[Pair]:
    """One arm of each of two different runs, and the noise of others of the same stretch of time.

    So it is where a device is calibrated now and then; `reaches` refuses what is not.
    """
    pairs = []
    for _ in range(count):
        one, other, *others = rng.sample(runs, 2 + calibration)
        noise = noise_of(others, info)
        pairs.append(
            Pair(
                rng.choice(one.arms),
                rng.choice(other.arms),
                noise,
                reaches(noise, one.created, other.created),
            )
        )
    return pairs


def profile_of(launches: list[list[list[int]]], info: DeviceInfo, factor: float = 1.0) -> Profile:
    """A profile with these times, all longer by a factor."""
    made = tuple(
        Launch(
            import_ms=1.0,
            load_ms=1.0,
            first_run_ms=1.0,
            memory_before_load_mb=1.0,
            peak_memory_mb=1.0,
            peak_since_load=True,
            overhead_ns=1.0,
            blocks=tuple(
                Block(start_ms=0.0, samples_ns=tuple(round(ns * factor) for ns in block))
                for block in blocks
            ),
        )
        for blocks in launches
    )
    return Profile(
        label="a.tflite",
        sha256="a",
        size_bytes=1,
        target="tflite",
        delegate="xnnpack",
        recipe="fp32",
        model=MODEL,
        resolution=RESOLUTION,
        batch=1,
        trained=False,
        source="measured",
        device=info,
        threads=2,
        load_ms=1.0,
        first_run_ms=1.0,
        latency=summary([block for launch in made for block in launch.blocks]),
        throughput_per_s=1.0,
        memory_before_load_mb=1.0,
        peak_memory_mb=1.0,
        throttle_events=None,
        versions={},
        cautions=(),
        launches=made,
    )


def noise_of(runs: Sequence[Run], info: DeviceInfo) -> Noise:
    """The noise that calibrating on these runs would have found."""
    levels = tuple(level(profile_of(run.arms[0], info).launches) for run in runs)
    return Noise(
        device=info,
        target="tflite",
        delegate="xnnpack",
        threads=2,
        label="a.tflite",
        sha256="a",
        plan=MeasurePlan(threads=2),
        levels_ms=levels,
        figures={},
        created=tuple(run.created for run in runs),
    )


def gate_says(evidence: Times) -> Judged:
    """The gate's verdict on a slowdown, at its default limit."""
    limit = Limit(
        name="max_slowdown",
        quantity="slowdown",
        bound=MAX_SLOWDOWN,
        at_most=True,
        sources=("measured",),
    )
    return judged_together([Cell(limit, evidence, "measured")])[0]


def ten_percent(candidate: Profile, baseline: Profile) -> bool:
    """The alarm of +10 % of the last number."""
    return candidate.latency.p50_ms > 1.10 * baseline.latency.p50_ms


def mann_whitney(candidate: Profile, baseline: Profile) -> bool:
    """The alarm of a rank test over single inferences, at 5 %."""
    from scipy.stats import mannwhitneyu

    sides = [
        [ns for launch in profile.launches for block in launch.blocks for ns in block.samples_ns]
        for profile in (candidate, baseline)
    ]
    return bool(mannwhitneyu(*sides, alternative="two-sided").pvalue < 0.05) and median(
        sides[0]
    ) > median(sides[1])


def judge(samples: Path, count: int, calibration: int, seed: int) -> None:
    """Tells how often each way of judging is wrong."""
    kept = json.loads(samples.read_text())["runs"]
    runs = [Run(tuple(run["arms"]), run["created"]) for run in kept]
    info = DeviceInfo(**kept[0]["device"])
    loads = [run["device"]["load_average"] for run in kept]
    print(
        f"{len(runs)} runs of {len(runs[0].arms[0])} launches, "
        f"{sum(map(len, runs[0].arms[0]))} blocks, {info.cpu}, {info.cores} cores; load before "
        f"{min(loads):.1f} to {max(loads):.1f}, median {median(loads):.1f}"
    )
    rng = random.Random(seed)
    print(describe(noise_of(runs, info)))
    ways = {
        "beside": beside_pairs(runs, count, rng),
        f"from files, {calibration} others calibrate": file_pairs(
            runs, count, calibration, info, rng
        ),
    }
    for way, pairs in ways.items():
        print(f"\n{way}: {count} pairs")
        print("slowdown   misses   unclear   meets | +10 % of last   Mann-Whitney   (alarms)")
        for slowdown in (0.0, 0.03, 0.05, 0.10, 0.20):
            verdicts, last, ranks, seen = [], 0, 0, []
            for pair in pairs:
                candidate = profile_of(pair.candidate, info, 1 + slowdown)
                baseline = profile_of(pair.baseline, info)
                evidence = (
                    beside(candidate, baseline)
                    if pair.noise is None
                    else from_files([candidate], baseline, pair.noise)
                )
                told = gate_says(evidence)
                verdicts.append(told.verdict if pair.reached else "unclear")
                seen.append(told.smallest_seen)
                last += ten_percent(candidate, baseline)
                ranks += mann_whitney(candidate, baseline)
            shares = [verdicts.count(one) / count for one in ("misses", "unclear", "meets")]
            print(
                f"{slowdown:+8.0%} {shares[0]:8.1%} {shares[1]:9.1%} {shares[2]:7.1%} | "
                f"{last / count:13.1%} {ranks / count:14.1%}"
            )
            if slowdown == 0:
                deciles = [quantile(seen, share) for share in (0.1, 0.5, 0.9)]
                every = 1 - (1 - last / count) ** 20
        print(
            "a slowdown is seen from "
            + ", ".join(f"{100 * one:.1f} %" for one in deciles)
            + " on (best tenth, median, worst tenth of pairs)"
        )
        print(f"20 unchanged cells would give +10 % of last at least one alarm in {every:.0%}")


def simulate(calls: int, seed: int) -> bool:
    """Print what comes out for every quantity, and whether each keeps its promise.

    Args:
        calls: of the gate with the most cells; there are more of those with fewer.
    """
    began = time.time()
    rows = []
    print(*table([]), sep="\n")
    for world in WORLDS:
        rows.append(row_of(world, [4 * calls, calls, calls], calls, seed))
        print([*table(rows[-1:])][-1], flush=True)
    worst = max((row.wrong(place), place, row) for row in rows for place in range(len(CELLS)))
    share, place, row = worst
    off = uncertainty(share, row.calls[place])
    print(
        f"\nworst: {100 * share:.1f} % (standard error {100 * off:.1f}) of calls with "
        f"{CELLS[place]} cells: {row.world.name}; {time.time() - began:.0f} s"
    )
    return all(
        row.wrong(place) <= ERROR_RATE + 3 * uncertainty(ERROR_RATE, row.calls[place])
        for row in rows
        for place in range(len(CELLS))
    )


def main() -> None:
    """Reads the arguments and does what they say."""
    parser = argparse.ArgumentParser()
    steps = parser.add_subparsers(dest="step", required=True)
    pure = steps.add_parser("simulate")
    pure.add_argument("--calls", type=int, default=500)
    pure.add_argument("--seed", type=int, default=1)
    first = steps.add_parser("collect")
    first.add_argument("--out", type=Path, required=True)
    first.add_argument("--runs", type=int, default=40)
    first.add_argument("--pause", type=float, default=1.0)
    first.add_argument("--threads", type=int, help="as in `edgese profile`")
    second = steps.add_parser("judge")
    second.add_argument("samples", type=Path)
    second.add_argument("--pairs", type=int, default=1000)
    second.add_argument("--calibration", type=int, default=NOISE_RUNS)
    second.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.step == "simulate":
        sys.exit(not simulate(arguments.calls, arguments.seed))
    elif arguments.step == "collect":
        collect(arguments.out, arguments.runs, arguments.pause, arguments.threads)
    else:
        judge(arguments.samples, arguments.pairs, arguments.calibration, arguments.seed)


if __name__ == "__main__":
    main()
