"""``edgese select``, as a function: the most accurate candidate that meets a budget.

It spends in the order of cost. Rows are counted in milliseconds and rule out by multiply-adds, size
and memory; predictions come next; then untrained artifacts are converted and measured, because
latency does not depend on the weights; training and accuracy come last. At each point only what can
still win is looked at, and the answer is the one that measuring everything would give.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from edgese import catalog
from edgese.devices import find_device
from edgese.errors import ConfigError, DeviceAbsent, MeasurementError, MissingDependency
from edgese.measure.sustained import check_length
from edgese.models.registry import find_model
from edgese.paths import with_text
from edgese.protocols import Progress
from edgese.records.budget import Observation
from edgese.records.device import DeviceFacts
from edgese.records.selection import Candidate, Finding, Round, SelectionResult, Spent
from edgese.selection import figures
from edgese.selection.candidates import spec_of
from edgese.selection.deciding import (
    DROP,
    SUSTAINED,
    Aim,
    Known,
    collapsed,
    decide,
    judge,
    limits_of,
)
from edgese.selection.executors import Alone, Cluster, Executors
from edgese.selection.outcome import result_of
from edgese.selection.published import published
from edgese.selection.scheduler import WORKS, Open, Step, Work, contenders, steps, with_expectations
from edgese.selection.work import Order, asked, check_inputs, keep, kept

_ROUNDS: Final[dict[Work, Round]] = {
    "look": "looks",
    "artifact": "artifacts",
    "sustained": "sustained",
    "accuracy": "accuracy",
}


def select(
    candidates: Sequence[Candidate],
    aim: Aim,
    order: Order,
    *,
    budget: str | Path = "",
    everything: bool = False,
    workers: int = 1,
    ray: str = "",
    progress: Progress | None = None,
) -> SelectionResult:
    """The best of the candidates, and why not the others.

    What was found is kept in ``order.folder``, and a selection that was interrupted goes on there.
    What failed for a candidate alone raises nothing: it is why that candidate is not chosen, and
    the result's ``decision`` says so for each. Where none meets the budget, none is chosen.

    Args:
        candidates: as `edgese.selection.candidates.enumerated` makes them.
        aim: the limits, and what to rank by.
        order: where and how to measure, and what accuracy is judged on. Its paths, and those of the
            candidates' weights, may be given as `Path` too.
        budget: where the limits were read, for the record.
        everything: measures every candidate, whether or not it can still win.
        workers: conversions at once.
        ray: address of a Ray cluster that does the work.

    Raises:
        ConfigError: no candidate, or settings that do not fit together.
        InputError: pictures that are not there.
        DeviceError: a device that is there and cannot be used.
        MissingDependency: a package is not installed.
    """
    candidates, order = [with_text(one) for one in candidates], with_text(order)
    if not candidates:
        raise ConfigError("There are no candidates.", hint="Name a family, a range or a file.")
    check_inputs(order)
    if not order.sustained_s and any(one.quantity == SUSTAINED for one in aim.limits):
        raise ConfigError(
            f"The budget limits {SUSTAINED}, and nobody said how long that is.",
            hint="Give --sustained 10m, or how long your users keep it running.",
        )
    if order.sustained_s:
        check_length(order.sustained_s)
    # What is compared with fp32 is only evaluated there where somebody asks.
    order = msgspec.structs.replace(order, drop=any(one.quantity == DROP for one in aim.limits))
    say = progress or _silent
    absence = absence_of(order)
    if absence:
        # What stands in for it counts instructions; its latency is predicted from the rows.
        counted = any("emulated" in one.sources for one in aim.limits)
        order = msgspec.structs.replace(order, measure=counted)
    job = _Selection(candidates, aim, order, everything=everything, say=say)
    if absence:
        job.notes.append(absence)
    job.rows()
    job.predictions()
    if not absence or job.can_meet_without():
        executors: Executors = Cluster(ray, say) if ray else Alone(workers, say)
        job.work(executors)
    return job.result(str(budget))


class _Selection:
    """What is known of each candidate, and what was spent to find it out."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        aim: Aim,
        order: Order,
        *,
        everything: bool,
        say: Progress,
    ) -> None:
        self.start = time.perf_counter()
        self.aim = aim
        self.order = order
        self.everything = everything
        self.say = say
        self.notes: list[str] = []
        self.rounds: list[Spent] = []
        self.findings: list[Finding] = []
        self.opened = {one: Open(Known(one), _series(one), self._behind(one)) for one in candidates}

    def _behind(self, candidate: Candidate) -> frozenset[Work]:
        """What cannot be done for a candidate counts as done."""
        order = self.order
        can: set[Work] = {"artifact"}
        # What stands in for a device counts or computes, and needs as long for a look.
        if order.measure and not self.everything and order.is_timed:
            can.add("look")
        if order.data and (candidate.weights or order.train):
            can.add("accuracy")
        if (
            order.measure
            and order.sustained_s
            and order.is_timed
            and _is_limited(candidate, self.aim, SUSTAINED)
        ):
            can.add("sustained")
        return frozenset(WORKS) - can

    def rows(self) -> None:
        """Counts every candidate, and looks up what is published of it."""
        start = time.perf_counter()
        for candidate in self.opened:
            precision = catalog.recipe(candidate.recipe).precision
            self._learn(candidate, figures.of_rows(spec_of(candidate), precision))
            # An accuracy on the user's own pictures is another thing than a published one.
            told = None if self.order.data else published(candidate)
            if told:
                self._learn(candidate, (told,))
        self._told("rows", len(self.opened), start, before=0)

    def predictions(self) -> None:
        """Predicts every candidate that is left, where measurements of others reach the device."""
        facts = catalog.device_facts(self.order.device)
        if facts.kind not in ("android", "linux"):
            return
        start = time.perf_counter()
        before = self._missing()
        left = [one for one in self.opened.values() if self._is_in(one)]
        said: Counter[str] = Counter()
        for number, one in enumerate(left):
            self.say("predict", number / len(left))
            candidate = one.known.candidate
            try:
                self._learn(candidate, tuple(self._predicted(candidate, facts)))
            except (ConfigError, MeasurementError, MissingDependency) as error:
                said[f"{candidate.target}, {candidate.recipe}: {error.message}"] += 1
        self.notes += [f"Not predicted ({count}): {told}" for told, count in said.items()]
        self._told("predictions", len(left), start, before=before)

    def _predicted(self, candidate: Candidate, facts: DeviceFacts) -> Iterator[Observation]:
        from edgese.prediction.api import predict

        yield from figures.of_prediction(
            predict(
                spec_of(candidate),
                facts,
                target=candidate.target,
                delegate=catalog.target_facts(candidate.target).delegates[0],
                recipe=candidate.recipe,
                resolution=candidate.resolution,
                threads=self.order.plan.threads or None,
            )
        )

    def can_meet_without(self) -> bool:
        """Whether the device's absence leaves anything that could meet the budget."""
        measured = [one.quantity for one in self.aim.limits if one.sources == ("measured",)]
        if not measured:
            return True
        self.notes.append(
            f"{', '.join(dict.fromkeys(measured))} must be measured, and {self.order.device} is "
            "not there. Nothing was converted for it."
        )
        return False

    def work(self, executors: Executors) -> None:
        """Converts, measures, trains and evaluates, as long as it can change the answer."""
        spent: dict[Work, list[float]] = {work: [] for work in WORKS}
        resumed: Counter[Work] = Counter()
        ruled_out: Counter[Work] = Counter()
        while todo := self._todo(executors.size):
            fresh = []
            for step in todo:
                if (found := kept(step, self.order)) is not None:
                    resumed[step.work] += 1
                    ruled_out[step.work] += self._take(step.work, found)
                    spent[step.work].append(0.0)
                else:
                    fresh.append(step)
            by_candidate = {step.candidate: step for step in fresh}
            artifacts = {one: each.known.artifact for one, each in self.opened.items()}
            for found in executors.perform(fresh, self.order, artifacts, self._is_wanted):
                step = by_candidate[found.candidate]
                # A worker elsewhere has another name, and its pictures another place.
                told = msgspec.structs.replace(found, asked=asked(step, self.order))
                keep(told, self.order, step.work)
                ruled_out[step.work] += self._take(step.work, told)
                spent[step.work].append(told.seconds)
        for work, name in _ROUNDS.items():
            if spent[work]:
                self.rounds.append(
                    Spent(
                        round=name,
                        looked_at=len(spent[work]),
                        ruled_out=ruled_out[work],
                        seconds=round(sum(spent[work]), 3),
                        resumed=resumed[work],
                    )
                )

    def _todo(self, count: int) -> list[Step]:
        opened = with_expectations(list(self.opened.values()))
        self.opened = {one.known.candidate: one for one in opened}
        if not self.everything:
            return steps(opened, self.aim, count)
        for work in WORKS:
            left = [one for one in opened if work not in one.done and not one.known.failed]
            if left:
                return [Step(one.known.candidate, work) for one in left[:count]]
        return []

    def _is_wanted(self, step: Step) -> bool:
        """Whether a step of a batch can still change anything, after what came before it."""
        if self.everything:
            return True
        opened = with_expectations(list(self.opened.values()))
        return any(one.known.candidate == step.candidate for one in contenders(opened, self.aim))

    def _take(self, work: Work, found: Finding) -> int:
        """Learns what was found; how many candidates it rules out, 0 or 1."""
        before = self._missing()
        self.findings.append(found)
        one = self.opened[found.candidate]
        known = one.known
        if found.exit_code:
            known = known._replace(failed=f"{found.error} {found.hint}".strip())
        elif found.artifact:
            known = known._replace(artifact=found.artifact)
        if found.manifest is not None and found.manifest.collapse:
            known = known._replace(failed=collapsed(found.manifest.collapse))
        if found.profile is not None:
            said = tuple(one for each in found.profile.profiles for one in each.cautions)
            known = known._replace(cautions=said)
        self.opened[found.candidate] = one._replace(known=known, done=one.done | {work})
        self._learn(found.candidate, figures.of_finding(found))
        return self._missing() - before

    def _learn(self, candidate: Candidate, told: tuple[Observation, ...]) -> None:
        one = self.opened[candidate]
        names = {(each.quantity, each.source) for each in told}
        before = tuple(
            each for each in one.known.figures if (each.quantity, each.source) not in names
        )
        self.opened[candidate] = one._replace(known=one.known._replace(figures=(*before, *told)))

    def _is_in(self, one: Open) -> bool:
        return not one.known.failed and all(
            each.verdict != "misses" for each in judge(one.known, self.aim)
        )

    def _missing(self) -> int:
        return sum(not self._is_in(one) for one in self.opened.values())

    def _told(self, name: Round, count: int, start: float, *, before: int) -> None:
        self.rounds.append(
            Spent(
                round=name,
                looked_at=count,
                ruled_out=self._missing() - before,
                seconds=round(time.perf_counter() - start, 3),
            )
        )

    def result(self, budget: str) -> SelectionResult:
        """Everything, with the decision."""
        opened = list(self.opened.values())
        spared = frozenset(one.known.candidate for one in opened if not one.done >= set(WORKS))
        return result_of(
            decide([one.known for one in opened], self.aim, spared=spared),
            self.aim,
            device=self.order.device,
            budget=budget,
            rounds=self.rounds,
            findings=self.findings,
            notes=self.notes,
            seconds=time.perf_counter() - self.start,
        )


def absence_of(order: Order) -> str:
    """Why the device cannot be measured on now; "" where it can.

    Raises:
        DeviceError: it is there and cannot be used.
    """
    facts = catalog.device_facts(order.device)
    if facts.transport in ("qemu", "vela"):
        # What stands there is counted or computed, whenever it is asked.
        return ""
    try:
        find_device(order.device, order.reach)
    except (DeviceAbsent, MissingDependency) as error:
        return str(error)
    return ""


def _is_limited(candidate: Candidate, aim: Aim, quantity: str) -> bool:
    return any(one.quantity == quantity for one in limits_of(candidate, aim))


def _series(candidate: Candidate) -> tuple[str, ...]:
    spec = find_model(candidate.model)
    return (spec.family, candidate.target, candidate.recipe, str(bool(candidate.gates)))


def _silent(stage: str, fraction: float) -> None:
    del stage, fraction
