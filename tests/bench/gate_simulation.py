"""How often the gate's verdicts are wrong where the truth is known, and what it can tell apart.

Each quantity of a budget has a world: a device whose processes, runs and pictures spread in a known
way, and of which the gate sees what a user would give it. The truth lies at the limit, where every
verdict is wrong, or some percent on one side of it. Nothing is measured.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Final, NamedTuple

from edgese.budgets.candidates import Candidate
from edgese.budgets.judging import judged_together
from edgese.budgets.metrics import Against, cell_of
from edgese.budgets.repeats import with_repeats
from edgese.measure.summary import OF_LAUNCH, summary
from edgese.models.registry import find_model
from edgese.records.artifact import WeightsInfo
from edgese.records.base import Interval
from edgese.records.budget import RELATIVE, BaselineCell, BudgetTable, Limit, Noise, NoiseFile
from edgese.records.emulation import Emulation, Estimate, InstructionCounts
from edgese.records.evaluation import Evaluation, EvaluationData, Prediction, Proportion
from edgese.records.inspection import DelegateReport
from edgese.records.measurement import (
    Block,
    DeviceInfo,
    Launch,
    MeasurePlan,
    Profile,
    SustainedCurve,
)
from edgese.records.prediction import Evidence
from edgese.records.prediction import Prediction as LatencyPrediction

LAUNCHES: Final = 12
RUNS: Final = 20
WHEN: Final = "2026-01-01T00:00:00+00:00"
PLAN: Final = MeasurePlan(threads=2)
DEVICE: Final = DeviceInfo(
    name="host", cpu="x", architecture="x86_64", cores=8, physical_cores=4, system="Linux"
)
CELLS: Final = (1, 10, 20)
# Truths beside the limit, as shares of it: to its better side, and to its worse.
BETTER: Final = (0.05, 0.1, 0.2)

Draw = Callable[[random.Random, float, int], list[tuple[Candidate, Against]]]


class World(NamedTuple):
    """What a gate sees of one quantity.

    Attributes:
        name: what spreads, and how it is known.
        quantity: of the budget.
        bound: the limit.
        draw: from the truth, what is given of so many artifacts in one call of the gate.
        source: of a time, that the budget accepts.
        scale: what the truths beside the limit are shares of; 0 is the limit itself.
        step: 0 where a figure spreads; else the least by which an exact one can be beyond.
    """

    name: str
    quantity: str
    bound: float
    draw: Draw
    source: str = "measured"
    scale: float = 0.0
    step: float = 0.0

    @property
    def limit(self) -> Limit:
        """The limit as a budget has it."""
        key = f"max_{self.quantity}" if self.quantity in RELATIVE else self.quantity
        (limit,) = BudgetTable(sources=(self.source,), **{key: self.bound}).limits()
        return limit

    def truth(self, better: float) -> float:
        """The true figure that is better than the limit by a share."""
        side = -1 if self.limit.at_most else 1
        return self.bound + side * better * (self.scale or self.bound)

    def judged(self, rng: random.Random, truth: float, cells: int) -> list[str]:
        """The verdicts of one call of the gate."""
        limit = self.limit
        given = self.draw(rng, truth, cells)
        return [one.verdict for one in judged_together([cell_of(limit, *one) for one in given])]


class Row(NamedTuple):
    """What came out for a world.

    Attributes:
        passes, misses: for each of `CELLS`, the share of calls in which any cell, whose truth is
            just the limit, "meets" or "misses".
        calls: that these are of.
        meets, seen: for each of `BETTER`, the share of single cells that meet where the truth is
            better by so much, and that miss where it is worse.
    """

    world: World
    passes: tuple[float, ...]
    misses: tuple[float, ...]
    calls: tuple[int, ...]
    meets: tuple[float, ...]
    seen: tuple[float, ...]

    def wrong(self, place: int) -> float:
        """The share of calls with any wrong verdict; no call has both, or it counts twice."""
        return self.passes[place] + self.misses[place]


def row_of(world: World, calls: Sequence[int], singles: int, seed: int) -> Row:
    """Simulates a world.

    Args:
        calls: at the limit, for each of `CELLS`.
        singles: of single cells, for each truth beside it.
    """
    rng = random.Random(f"{seed} {world.name}")
    passes, misses = [], []
    for cells, times in zip(CELLS, calls, strict=True):
        # What is exact keeps to a limit that it just reaches.
        beyond = [world.judged(rng, world.bound + world.step, cells) for _ in range(times)]
        within = beyond
        if world.step:
            within = [world.judged(rng, world.bound, cells) for _ in range(times)]
        passes.append(sum("meets" in verdicts for verdicts in beyond) / times)
        misses.append(sum("misses" in verdicts for verdicts in within) / times)
    meets, seen = (
        tuple(
            sum(verdict in world.judged(rng, world.truth(side * share), 1) for _ in range(singles))
            / max(1, singles)
            for share in BETTER
        )
        for side, verdict in ((1, "meets"), (-1, "misses"))
    )
    return Row(world, tuple(passes), tuple(misses), tuple(calls), meets, seen)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown, in percent."""
    yield (
        "| figure, and what it rests on | "
        + " | ".join(f"wrong of {cells}: meets, misses" for cells in CELLS)
        + " | meets at "
        + ", ".join(f"-{share:.0%}" for share in BETTER)
        + " | misses at "
        + ", ".join(f"+{share:.0%}" for share in BETTER)
        + " |"
    )
    yield "|---" * (3 + len(CELLS)) + "|"
    for row in rows:
        wrong = [
            f"{100 * low:.1f}, {100 * high:.1f}"
            for low, high in zip(row.passes, row.misses, strict=True)
        ]
        power = [", ".join(f"{100 * one:.0f}" for one in side) for side in (row.meets, row.seen)]
        yield f"| {' | '.join([row.world.name, *wrong, *power])} |"


def uncertainty(share: float, calls: int) -> float:
    """The standard error of a simulated share."""
    return math.sqrt(share * (1 - share) / calls)


# What a device gives.


class Machine(NamedTuple):
    """How a quantity spreads on a device, as standard deviations of logarithms.

    Attributes:
        launches: of processes of one run.
        runs: of runs.
        slow: share of runs in which the machine is in a slower state.
        slower: by how much, as a factor.
    """

    launches: float
    runs: float
    slow: float = 0.0
    slower: float = 1.0

    def run(self, rng: random.Random, truth: float, launches: int = LAUNCHES) -> list[float]:
        """What the processes of a run take, where runs take ``truth`` on average."""
        level = rng.gauss(0, self.runs) - self.slow * math.log(self.slower)
        if rng.random() < self.slow:
            level += math.log(self.slower)
        return [truth * math.exp(level + rng.gauss(0, self.launches)) for _ in range(launches)]

    def noise(self, rng: random.Random, runs: int = RUNS) -> Noise:
        """What calibrating gives, of every quantity alike."""
        figures = tuple(
            math.exp(sum(map(math.log, self.run(rng, 10.0))) / LAUNCHES) for _ in range(runs)
        )
        return Noise(
            device=DEVICE,
            target="tflite",
            delegate="xnnpack",
            threads=2,
            label="a.tflite",
            sha256="n",
            plan=PLAN,
            levels_ms=figures,
            figures=dict.fromkeys(OF_LAUNCH, figures),
            created=(WHEN,) * runs,
        )


def profile_of(values: Sequence[float], **changes: object) -> Profile:
    """A profile, each process of which has one value, in ms and in MiB, of everything."""
    launches = tuple(
        Launch(
            import_ms=1.0,
            load_ms=value,
            first_run_ms=value,
            memory_before_load_mb=1.0,
            peak_memory_mb=value,
            peak_since_load=True,
            overhead_ns=1.0,
            blocks=(Block(start_ms=float(place), samples_ns=(round(value * 1e6),)),),
        )
        for place, value in enumerate(values)
    )
    return Profile(
        **{
            "label": "a.tflite",
            "sha256": "a",
            "size_bytes": 1,
            "target": "tflite",
            "delegate": "xnnpack",
            "recipe": "int8",
            "model": "m",
            "resolution": (224, 224),
            "batch": 1,
            "trained": True,
            "source": "measured",
            "device": DEVICE,
            "threads": 2,
            "load_ms": 1.0,
            "first_run_ms": 1.0,
            "latency": summary([block for launch in launches for block in launch.blocks]),
            "throughput_per_s": 1.0,
            "memory_before_load_mb": 1.0,
            "peak_memory_mb": max(values),
            "throttle_events": None,
            "versions": {},
            "cautions": (),
            "launches": launches,
            "macs": 1,
        }
        | changes
    )


def candidate_of(**changes: object) -> Candidate:
    """An artifact of which nothing but ``changes`` is known."""
    return Candidate(
        **{
            "name": "a.tflite",
            "origin": "a.json",
            "device": "host",
            "target": "tflite",
            "resolution": (224, 224),
            "sha256": "a",
            "trained": True,
            "recipe": "int8",
            "model": "m",
            "plan": PLAN,
            "measured": WHEN,
        }
        | changes
    )


def with_noise(machine: Machine) -> Draw:
    """One run of each artifact, on a device that was calibrated."""

    def draw(rng: random.Random, truth: float, cells: int) -> list[tuple[Candidate, Against]]:
        against = Against(None, NoiseFile(noises=(machine.noise(rng),), edgese=""))
        return [
            (candidate_of(profile=profile_of(machine.run(rng, truth))), against)
            for _ in range(cells)
        ]

    return draw


def alone(machine: Machine) -> Draw:
    """One run of each artifact, and nothing of how runs differ."""

    def draw(rng: random.Random, truth: float, cells: int) -> list[tuple[Candidate, Against]]:
        return [
            (candidate_of(profile=profile_of(machine.run(rng, truth))), Against(None, None))
            for _ in range(cells)
        ]

    return draw


def repeated(machine: Machine, runs: int, *, sustained: bool = False) -> Draw:
    """Several runs of each artifact."""

    def draw(rng: random.Random, truth: float, cells: int) -> list[tuple[Candidate, Against]]:
        found = []
        for _ in range(cells):
            profiles = [profile_of(machine.run(rng, truth)) for _ in range(runs)]
            given = [
                candidate_of(
                    profile=profile,
                    curve=curve_of(machine.run(rng, truth, 1)) if sustained else None,
                )
                for profile in profiles
            ]
            (one,) = with_repeats(given)
            found.append((one, Against(None, None)))
        return found

    return draw


def curve_of(values: Sequence[float]) -> SustainedCurve:
    """A run without a pause, which ends with a p50 of the value."""
    profile = profile_of(values)
    return SustainedCurve(
        label="a.tflite",
        sha256="a",
        target="tflite",
        delegate="xnnpack",
        recipe="int8",
        model="m",
        resolution=(224, 224),
        trained=True,
        complete=True,
        launch=profile.launches[0],
        start_temperature_c=None,
        throttle_events=None,
        span_s=60.0,
        first=profile.latency,
        last=profile.latency,
        ratio=1.0,
        fell_off_s=None,
        versions={},
    )


def baseline_of(values: Sequence[float], **changes: object) -> BaselineCell:
    """What earlier artifacts took."""
    profile = profile_of(values, **changes)
    return BaselineCell(name="a.tflite", device="host", plan=PLAN, profile=profile, measured=WHEN)


def beside(machine: Machine, first: float) -> Draw:
    """In turns with the baseline's artifact; both share the run, and whoever starts is slower.

    Args:
        first: by how much, as a share.
    """

    def draw(rng: random.Random, truth: float, cells: int) -> list[tuple[Candidate, Against]]:
        found = []
        for _ in range(cells):
            level = math.exp(rng.gauss(0, machine.runs))
            own, base = (machine._replace(runs=0.0).run(rng, 10.0 * level) for _ in range(2))
            own = [
                (1 + truth) * value * (1 + first) ** (-1) ** place
                for place, value in enumerate(own)
            ]
            one = candidate_of(profile=profile_of(own), beside=profile_of(base))
            found.append((one, Against(baseline_of(base), None)))
        return found

    return draw


def from_files(machine: Machine, *, noise: bool) -> Draw:
    """Two runs at two times."""

    def draw(rng: random.Random, truth: float, cells: int) -> list[tuple[Candidate, Against]]:
        noises = NoiseFile(noises=(machine.noise(rng),), edgese="") if noise else None
        return [
            (
                candidate_of(profile=profile_of(machine.run(rng, 10.0 * (1 + truth)))),
                Against(baseline_of(machine.run(rng, 10.0)), noises),
            )
            for _ in range(cells)
        ]

    return draw


def counted(processes: int, between: float, within: float) -> Draw:
    """Instructions of so many processes with two inferences each."""

    def draw(rng: random.Random, truth: float, cells: int) -> list[tuple[Candidate, Against]]:
        found = []
        for _ in range(cells):
            totals = []
            for _ in range(processes):
                level = rng.gauss(0, between)
                totals.append(
                    tuple(round(truth * math.exp(level + rng.gauss(0, within))) for _ in range(2))
                )
            found.append((candidate_of(emulation=emulation_of(totals)), Against(None, None)))
        return found

    return draw


def emulation_of(
    totals: Sequence[tuple[int, ...]], size_bytes: int = 1, macs: int = 1
) -> Emulation:
    """An artifact whose instructions were counted."""
    classes = dict.fromkeys(InstructionCounts.__struct_fields__, 0)
    return Emulation(
        label="a.tflite",
        sha256="a",
        size_bytes=size_bytes,
        target="tflite",
        delegate="xnnpack",
        recipe="int8",
        model="m",
        resolution=(224, 224),
        batch=1,
        trained=True,
        device="arm64-a76",
        cpu="cortex-a76",
        features=(),
        qemu="7.2",
        threads=1,
        instructions=InstructionCounts(**(classes | {"total": totals[0][0] if totals else 0})),
        totals=tuple(totals),
        spread=0.0,
        overhead=0,
        dispatch=(),
        kernels=(),
        versions={},
        cautions=(),
        macs=macs,
    )


def evaluated(pictures: int) -> Draw:
    """Pictures that are right with a chance of the truth."""

    def draw(rng: random.Random, truth: float, cells: int) -> list[tuple[Candidate, Against]]:
        return [
            (
                candidate_of(
                    evaluation=evaluation_of([rng.random() < truth for _ in range(pictures)])
                ),
                Against(None, None),
            )
            for _ in range(cells)
        ]

    return draw


def dropped(pictures: int, differing: float) -> Draw:
    """Pictures, a share of which just one of the artifact and its reference has right."""

    def draw(rng: random.Random, truth: float, cells: int) -> list[tuple[Candidate, Against]]:
        found = []
        only_first = (differing + truth) / 2
        for _ in range(cells):
            places = [rng.random() for _ in range(pictures)]
            after = [place >= only_first for place in places]
            before = [place < only_first or place >= differing for place in places]
            one = candidate_of(evaluation=evaluation_of(after), reference=evaluation_of(before))
            found.append((one, Against(None, None)))
        return found

    return draw


_SPEC: Final = find_model("efficientnet_b0")


def evaluation_of(right: Sequence[bool]) -> Evaluation:
    """An evaluation of pictures that are classified correctly, or not."""
    found = sum(right)
    return Evaluation(
        subject="m",
        model="m",
        target="tflite",
        recipe="int8",
        delegate="",
        artifact_sha256="a",
        weights=WeightsInfo(source="w", sha256="w", naming="edgese", trained=True),
        preprocessing=_SPEC.preprocessing,
        data=EvaluationData(
            source="pictures", split="", labelled_by="name", listed=len(right), sha256="d"
        ),
        pictures=len(right),
        top1=Proportion(
            count=found,
            of=len(right),
            share=found / len(right),
            interval=Interval(low=0.0, high=1.0),
        ),
        top5=None,
        predictions=tuple(_answer(place, is_right) for place, is_right in enumerate(right)),
        unreadable=(),
        seconds=1.0,
        threads=1,
        versions={},
        edgese="",
        created="",
    )


@cache
def _answer(place: int, is_right: bool) -> Prediction:  # noqa: FBT001  # it is what is cached
    return Prediction(
        file=str(place), label=0, classes=(0 if is_right else 1,), probabilities=(1.0,)
    )


def predicted(groups: int, steps: int = 1) -> Draw:
    """Predictions whose intervals come from groups that were left out of a fit.

    Args:
        steps: predictions that each stands on.
    """

    def draw(rng: random.Random, truth: float, cells: int) -> list[tuple[Candidate, Against]]:
        evidence = tuple(evidence_of(rng, groups) for _ in range(steps))
        found = []
        for _ in range(cells):
            off = sum(_group(rng) + _one_of_a_group(rng) for _ in range(steps))
            one = prediction_of(truth * math.exp(off), evidence)
            found.append((candidate_of(sha256="", prediction=one), Against(None, None)))
        return found

    return draw


def _group(rng: random.Random) -> float:
    return rng.gauss(0, 0.05)


def _one_of_a_group(rng: random.Random) -> float:
    return rng.gauss(0, 0.02)


def evidence_of(rng: random.Random, groups: int) -> Evidence:
    """How far predictions were off for groups that the fit did not see."""
    import numpy as np

    from edgese.prediction.validation import Residuals, quantiles

    off = [level + _one_of_a_group(rng) for _ in range(groups) for level in [_group(rng)] * 4]
    names = np.repeat(np.arange(groups).astype(str), 4)
    return Evidence(
        fit="ncnn-cpu",
        precision="fp32",
        device="facts",
        network="new",
        count=len(off),
        groups=groups,
        within_10=0.0,
        within_20=0.0,
        coverage=0.9,
        spread=1.0,
        quantiles=quantiles(Residuals(np.array(off), names, names)),
    )


def prediction_of(latency_ms: float, evidence: tuple[Evidence, ...]) -> LatencyPrediction:
    """A latency that nobody measured."""
    return LatencyPrediction(
        model="m",
        device="host",
        target="tflite",
        delegate="cpu",
        precision="int8",
        threads=2,
        resolution=(224, 224),
        latency_ms=latency_ms,
        interval=Interval(low=0.0, high=math.inf, confidence=0.9),
        rows=1,
        evidence=evidence,
        sources=(),
    )


def exactly(
    known: Callable[[int], Candidate],
    base: BaselineCell | None = None,
    *,
    percent: bool = False,
) -> Draw:
    """Something that the file says, of a candidate made of the truth, or of its percents."""

    def draw(rng: random.Random, truth: float, cells: int) -> list[tuple[Candidate, Against]]:
        del rng
        number = round(100 * truth if percent else truth)
        return [(known(number), Against(base, None))] * cells

    return draw


def estimated(latency_ms: float) -> Candidate:
    """What a compiler says of a processor that nobody ran."""
    estimate = Estimate(
        label="a.tflite",
        sha256="a",
        target="tflite",
        recipe="int8",
        model="m",
        resolution=(224, 224),
        trained=True,
        device="ethos-u55",
        accelerator="",
        system="",
        memory_mode="",
        clock_mhz=1.0,
        cycles=1,
        compute_cycles=1,
        latency_ms=latency_ms,
        macs=1,
        sram_bytes=0,
        dram_bytes=0,
        flash_bytes=0,
        npu_operators=1,
        cpu_operators=0,
        fallbacks=(),
        operators=(),
        compiler="Vela 4",
        edgese="",
        created="",
    )
    return candidate_of(estimate=estimate)


def read_of(partitions: int, outside: int) -> Candidate:
    """What a delegate takes of an artifact, as it was read from the artifact."""
    report = DelegateReport(
        delegate="xnnpack",
        title="XNNPACK",
        basis="read",
        by="",
        operators=1000,
        taken=1000 - outside,
        partitions=partitions,
    )
    return candidate_of(delegate=report)


# As on two cores of a server with other work on it: runs differ by more than their processes say.
_CALM: Final = Machine(launches=0.01, runs=0.05)
_STATES: Final = Machine(launches=0.01, runs=0.01, slow=0.3, slower=1.25)
_LOADS: Final = Machine(launches=0.2, runs=0.1)
_STEADY: Final = Machine(launches=0.01, runs=0.01)
_MEMORY: Final = Machine(launches=0.02, runs=0.0)
WORLDS: Final = (
    World("p50; noise of 20 runs, which differ by 5 %", "latency_p50_ms", 10.0, with_noise(_CALM)),
    World("p50; the same, runs by 1 %", "latency_p50_ms", 10.0, with_noise(_STEADY)),
    World("p50; 3 of 10 runs are 25 % slower", "latency_p50_ms", 10.0, with_noise(_STATES)),
    World("p50; six runs, no noise", "latency_p50_ms", 10.0, repeated(_CALM, 6)),
    World("p50; one run, no noise", "latency_p50_ms", 10.0, alone(_CALM)),
    World("p90; noise", "latency_p90_ms", 10.0, with_noise(_CALM)),
    World("load; noise, processes differ by 20 %", "load_ms", 10.0, with_noise(_LOADS)),
    World("first run; the same", "first_run_ms", 10.0, with_noise(_LOADS)),
    World("sustained; six runs", "sustained_p50_ms", 10.0, repeated(_CALM, 6, sustained=True)),
    World("sustained; one run", "sustained_p50_ms", 10.0, repeated(_CALM, 1, sustained=True)),
    World("p50, predicted; 26 chips left out", "latency_p50_ms", 10.0, predicted(26), "predicted"),
    World(
        "p50, predicted in two steps; 26 and 26",
        "latency_p50_ms",
        10.0,
        predicted(26, 2),
        "predicted",
    ),
    World("p50, predicted; 400 left out", "latency_p50_ms", 10.0, predicted(400), "predicted"),
    World("memory; 12 processes, 2 %", "memory_mb", 100.0, alone(_MEMORY)),
    World("instructions; 3 processes, 0.01 %", "instructions", 1e8, counted(3, 1e-4, 1e-5)),
    World("instructions; 3 processes, threads, 2 %", "instructions", 1e8, counted(3, 0.02, 0.02)),
    World("instructions; 2 processes, 2 %", "instructions", 1e8, counted(2, 0.02, 0.02)),
    World("accuracy; 200 pictures", "accuracy", 0.75, evaluated(200)),
    World("accuracy; 1,000 pictures", "accuracy", 0.75, evaluated(1000)),
    World("accuracy; 5 pictures", "accuracy", 0.75, evaluated(5)),
    World("drop; 500 pictures, 10 % differ", "accuracy_drop", 0.02, dropped(500, 0.1), scale=0.5),
    World(
        "slowdown; in turns, processes differ by 2 %",
        "slowdown",
        0.05,
        beside(Machine(launches=0.02, runs=0.05), 0.02),
        scale=1.0,
    ),
    World(
        "slowdown; from files, noise, runs by 1 %",
        "slowdown",
        0.05,
        from_files(_STEADY, noise=True),
        scale=1.0,
    ),
    World(
        "slowdown; from files, runs by 5 %",
        "slowdown",
        0.05,
        from_files(_CALM, noise=True),
        scale=1.0,
    ),
    World(
        "slowdown; from files, no noise",
        "slowdown",
        0.05,
        from_files(_CALM, noise=False),
        scale=1.0,
    ),
    World(
        "memory growth; from files, no noise",
        "memory_growth",
        0.05,
        from_files(_MEMORY, noise=False),
        scale=1.0,
    ),
    World("memory growth; in turns", "memory_growth", 0.05, beside(_MEMORY, 0.0), scale=1.0),
    World(
        "size",
        "size_bytes",
        100,
        exactly(lambda n: candidate_of(size_bytes=n)),
        step=1.0,
    ),
    World(
        "size growth",
        "size_growth",
        1.0,
        exactly(
            lambda n: candidate_of(profile=profile_of([1.0, 1.0]), size_bytes=100 + n),
            baseline_of([1.0, 1.0], size_bytes=100),
            percent=True,
        ),
        scale=1.0,
        step=0.01,
    ),
    World(
        "multiply-adds",
        "macs",
        100.0,
        exactly(lambda n: candidate_of(profile=profile_of([1.0, 1.0], macs=n), macs=n)),
        step=1.0,
    ),
    World(
        "pieces",
        "partitions",
        100,
        exactly(lambda n: read_of(n, 0)),
        step=1.0,
    ),
    World(
        "operators outside",
        "cpu_operators",
        100,
        exactly(lambda n: read_of(1, n)),
        step=1.0,
    ),
    World(
        "p50, a compiler's estimate",
        "latency_p50_ms",
        100.0,
        exactly(estimated),
        "estimated",
        step=1.0,
    ),
)
