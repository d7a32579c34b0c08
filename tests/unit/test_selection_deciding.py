"""What is chosen, and what is looked at before it is: for any candidates, limits and orders."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgese.records.budget import Limit, Observation
from edgese.records.measurement import Caution
from edgese.records.selection import Candidate
from edgese.selection.deciding import Aim, Known, decide, key, merit
from edgese.selection.expectation import FACTOR, LEAST_POWER, MOST_POWER, Anchor, expected
from edgese.selection.limits import held
from edgese.selection.scheduler import WORKS, Open, steps, with_expectations

MEASURED = ("measured",)


def figure(quantity, low, high=None, source="measured"):
    high = low if high is None else high
    return Observation(quantity=quantity, value=(low + high) / 2, low=low, high=high, source=source)


def candidate(name, target="tflite"):
    return Candidate(model=name, resolution=(224, 224), recipe="fp32", target=target)


def latency(bound, target=""):
    return Limit(
        name="latency_p50_ms",
        quantity="latency_p50_ms",
        bound=bound,
        at_most=True,
        sources=MEASURED,
        target=target,
    )


def accuracy(bound):
    return Limit(
        name="accuracy",
        quantity="accuracy",
        bound=bound,
        at_most=False,
        sources=("evaluated", "published"),
    )


def size(bound):
    return Limit(
        name="size_bytes", quantity="size_bytes", bound=bound, at_most=True, sources=("read",)
    )


@st.composite
def known(draw, names):
    """A candidate of which everything is known."""
    low = draw(st.integers(1, 60)) / 4
    share = draw(st.integers(50, 90)) / 100
    return Known(
        candidate(draw(names)),
        (
            figure("latency_p50_ms", low, low * draw(st.sampled_from([1.0, 1.02, 1.5]))),
            figure("accuracy", share - 0.01, share + 0.01, "published"),
            figure("size_bytes", draw(st.integers(1, 9)), source="read"),
        ),
    )


NAMES = st.text("abcdefgh", min_size=1, max_size=4)
LISTS = st.lists(known(NAMES), min_size=1, max_size=8, unique_by=lambda one: one.candidate)
AIMS = st.builds(
    lambda a, b, c: Aim((latency(a), accuracy(b), size(c))),
    st.integers(1, 15),
    st.integers(50, 90).map(lambda value: value / 100),
    st.integers(1, 9),
)


def winner(decision, among):
    return next((one for one in among if one.candidate.label == decision.chosen), None)


@given(LISTS, AIMS, st.randoms())
def test_the_order_of_candidates_never_matters(among, aim, random):
    shuffled = random.sample(among, len(among))
    assert decide(shuffled, aim) == decide(among, aim)


@given(LISTS, known(st.just("zzzzz")), AIMS)
def test_one_more_candidate_never_makes_the_choice_worse(among, more, aim):
    before, after = (winner(decide(x, aim), x) for x in (among, [*among, more]))
    if before is not None:
        assert after is not None
        assert key(after, aim) >= key(before, aim)


@given(LISTS, AIMS, st.integers(0, 2), st.floats(1.0, 3.0))
def test_a_looser_budget_never_loses(among, aim, which, factor):
    old = aim.limits[which]
    bound = old.bound * factor if old.at_most else old.bound / factor
    looser = aim._replace(
        limits=tuple(
            msgspec.structs.replace(each, bound=bound) if each is old else each
            for each in aim.limits
        )
    )
    before, after = winner(decide(among, aim), among), winner(decide(among, looser), among)
    if before is not None:
        assert after is not None
        assert key(after, looser) >= key(before, aim)


@given(LISTS, AIMS)
def test_what_is_chosen_meets_every_limit_at_its_pessimistic_end(among, aim):
    decision = decide(among, aim)
    best = winner(decision, among)
    meeting = {
        one.candidate.label
        for one in among
        if one.figures[0].high <= aim.limits[0].bound
        and one.figures[1].low >= aim.limits[1].bound
        and one.figures[2].high <= aim.limits[2].bound
    }
    assert {decision.chosen, *decision.runners_up} - {""} == meeting
    if best is not None:
        assert all(
            merit(best, aim) >= merit(one, aim) for one in among if one.candidate.label in meeting
        )


@given(LISTS, AIMS)
def test_where_none_meets_it_the_nearest_would_with_what_is_told_to_relax(among, aim):
    decision = decide(among, aim)
    if decision.chosen:
        assert decision.nearest == ()
        return
    near = decision.nearest[0]
    needed = {each.limit.quantity: each.needed for each in near.relax}
    relaxed = aim._replace(
        limits=tuple(
            msgspec.structs.replace(each, bound=needed.get(each.quantity, each.bound))
            for each in aim.limits
        )
    )
    again = decide(among, relaxed)
    assert near.label in (again.chosen, *again.runners_up)


def test_ties_go_to_the_faster_and_then_to_the_smaller():
    def one(name, ms, of_bytes):
        return Known(
            candidate(name),
            (
                figure("latency_p50_ms", ms),
                figure("accuracy", 0.8, 0.8, "published"),
                figure("size_bytes", of_bytes, source="read"),
            ),
        )

    aim = Aim((latency(10),))
    slow, fast, small = one("a", 3, 5), one("b", 2, 5), one("c", 2, 4)
    assert decide([slow, fast], aim).chosen == fast.candidate.label
    assert decide([slow, fast, small], aim).chosen == small.candidate.label


def test_what_the_budget_does_not_accept_rules_out_and_never_lets_pass():
    limit = latency(10.0)
    assert held(limit, [figure("latency_p50_ms", 2, 3, "predicted")]).verdict == "unclear"
    assert held(limit, [figure("latency_p50_ms", 12, 30, "predicted")]).verdict == "misses"
    assert held(limit, [figure("latency_p50_ms", 2, 30, "predicted")]).verdict == "unclear"
    both = [figure("latency_p50_ms", 12, 30, "predicted"), figure("latency_p50_ms", 8, 9)]
    assert held(limit, both).verdict == "meets"


def test_a_bound_from_rows_rules_out_what_cannot_be_small_enough():
    bound = Observation(quantity="size_bytes", value=9, low=9, high=None, source="bounded")
    assert held(size(8), [bound]).verdict == "misses"
    assert held(size(10), [bound]).verdict == "unclear"


def test_a_candidate_without_an_accuracy_is_never_chosen():
    one = Known(candidate("a"), (figure("latency_p50_ms", 1.0),))
    decision = decide([one], Aim((latency(10),)))
    assert decision.chosen == ""
    assert "accuracy" in decision.standings[0].reason


def test_a_limit_of_another_target_does_not_count():
    one = Known(
        candidate("a", "onnxruntime"),
        (figure("latency_p50_ms", 20.0), figure("accuracy", 0.8, source="evaluated")),
    )
    aim = Aim((latency(10.0, "tflite"), latency(25.0, "onnxruntime")))
    assert decide([one], aim).chosen == one.candidate.label


def test_the_reward_trades_accuracy_for_latency_as_mnasnet_does():
    """Twice the latency costs 2 ** -0.07, about 5 % of the accuracy."""

    def one(name, ms, share):
        told = (figure("latency_p50_ms", ms), figure("accuracy", share, source="published"))
        return Known(candidate(name), told)

    aim = Aim((), "mnasnet", target_ms=10.0)
    assert merit(one("a", 10, 0.76), aim) == pytest.approx(0.76)
    assert merit(one("a", 20, 0.76), aim) == pytest.approx(0.76 * 0.9526, abs=1e-4)
    slow, fast = one("slow", 20, 0.79), one("fast", 10, 0.76)
    assert decide([slow, fast], aim).chosen == fast.candidate.label
    assert decide([slow, fast], aim._replace(ranking="accuracy")).chosen == slow.candidate.label


def test_a_limit_that_nothing_is_known_of_is_named():
    one = Known(candidate("a"), (figure("accuracy", 0.8, source="published"),))
    assert decide([one], Aim((latency(10),))).missing == ("latency_p50_ms",)


@given(st.floats(1e6, 1e11), st.lists(st.tuples(st.floats(1e6, 1e11), st.floats(0.1, 1e4))))
def test_an_expectation_holds_its_own_middle(macs, points):
    anchors = [Anchor(m, figure("latency_p50_ms", ms)) for m, ms in points]
    found = expected(macs, anchors)
    assert (found is None) == (not points)
    if found:
        assert 0 < found.low <= found.value <= found.high


class World:
    """Candidates whose latency and accuracy can be found out, and what that was asked of."""

    def __init__(self, rows, *, rated, warm=False, looks=False):
        self.rows = rows
        self.behind = frozenset() if rated else frozenset({"accuracy"})
        self.behind |= frozenset() if looks else frozenset({"look"})
        self.behind |= frozenset() if warm else frozenset({"sustained"})
        self.asked = []

    def rough(self, name):
        """What rows and tables say."""
        macs, _, share, _ = self.rows[name]
        told = (figure("macs", macs, source="counted"),)
        if "accuracy" in self.behind:
            told += (figure("accuracy", share - 0.003, share + 0.003, "published"),)
        return Open(Known(candidate(name), told), ("family", "tflite", "fp32"), self.behind)

    def found(self, name, work):
        """What a piece of work says."""
        macs, factor, share, of_bytes = self.rows[name]
        if work == "accuracy":
            return (figure("accuracy", share - 0.02, share + 0.02, "evaluated"),)
        ms = 5.0 * (macs / 1e8) ** 0.9 * factor
        if work == "look":
            return (figure("latency_p50_ms", ms * 0.8, ms * 1.3),)
        if work == "sustained":
            return (figure("sustained_p50_ms", ms * 1.1, ms * (1.1 + share / 10)),)
        return (
            figure("latency_p50_ms", ms * 0.99, ms * 1.01),
            figure("size_bytes", of_bytes, source="read"),
        )

    def after(self, one, work):
        """A candidate with that."""
        told = self.found(one.known.candidate.model, work)
        names = {(each.quantity, each.source) for each in told}
        kept = [one for one in one.known.figures if (one.quantity, one.source) not in names]
        known = one.known._replace(figures=(*kept, *told))
        return one._replace(known=known, done=one.done | {work})

    def whole(self):
        """Everything of everyone."""
        opened = [self.rough(name) for name in self.rows]
        for work in WORKS:
            opened = [self.after(one, work) if work not in one.done else one for one in opened]
        return [one.known for one in opened]

    def lazily(self, aim, count):
        """What is known when nothing more can change the answer."""
        opened = {name: self.rough(name) for name in self.rows}
        while True:
            told = with_expectations(list(opened.values()))
            opened = {one.known.candidate.model: one for one in told}
            todo = steps(told, aim, count)
            if not todo:
                return [one.known for one in opened.values()]
            assert len({step.candidate for step in todo}) == len(todo) <= count
            for step in todo:
                name = step.candidate.model
                assert step.work not in opened[name].done
                self.asked.append((name, step.work))
                opened[name] = self.after(opened[name], step.work)


ROWS = st.dictionaries(
    NAMES,
    st.tuples(
        st.floats(5e7, 2e10),
        st.floats(0.9, 1.1),
        st.integers(60, 90).map(lambda value: value / 100),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=200)
@given(
    ROWS,
    st.floats(0.5, 1000),
    st.integers(1, 9),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_looking_at_what_can_still_win_finds_what_looking_at_everything_finds(
    rows, bound, least, count, rated, warm, looks, reward
):
    world = World(rows, rated=rated, warm=warm, looks=looks)
    aim = Aim((latency(bound), size(least)))
    if warm:
        limit = msgspec.structs.replace(latency(bound), quantity="sustained_p50_ms")
        aim = aim._replace(limits=(*aim.limits, limit))
    if reward:
        aim = aim._replace(ranking="mnasnet", target_ms=bound)
    assert decide(world.lazily(aim, count), aim).chosen == decide(world.whole(), aim).chosen


@pytest.mark.parametrize("reward", [False, True])
def test_a_look_whose_middle_is_too_slow_rules_nothing_out(reward):
    """The faster one of two is looked at as slower than the other one is measured."""
    small = dict.fromkeys(("a", "b", "c"), (5e7, 1.0, 0.6, 1))
    rows = {
        **small,
        "aa": (12267199473.0, 0.9375, 0.61, 1),
        "aaa": (12738098457.0, 0.90625, 0.61, 1),
    }
    world = World(rows, rated=False, looks=True)
    aim = Aim(
        (latency(372.0), size(1)), ranking="mnasnet" if reward else "accuracy", target_ms=372.0
    )
    if reward:
        aim = aim._replace(exponent=-0.001)
    assert decide(world.whole(), aim).chosen == candidate("aaa").label
    assert decide(world.lazily(aim, 1), aim).chosen == candidate("aaa").label


def test_most_of_a_family_is_never_measured():
    rows = {
        f"b{n}": (4e8 * 1.6**n, 1.0 + 0.05 * (-1) ** n, 0.77 + 0.01 * n, n + 1) for n in range(12)
    }
    for number, (macs, factor, _, _) in enumerate(rows.values()):
        world = World(rows, rated=False)
        bound = 5.0 * (macs / 1e8) ** 0.9 * factor * 1.02
        decision = decide(world.lazily(Aim((latency(bound),)), 1), Aim((latency(bound),)))
        assert decision.chosen.startswith(f"b{number},")
        assert len(world.asked) <= 4


def test_training_and_accuracy_come_after_every_measurement():
    rows = {f"b{n}": (4e8 * 1.6**n, 1.0, 0.7 + 0.01 * n, 1) for n in range(5)}
    world = World(rows, rated=True)
    world.lazily(Aim((latency(40.0),)), 1)
    works = [work for _, work in world.asked]
    assert "accuracy" in works
    assert works == sorted(works, key=["artifact", "accuracy"].index)
    slow = {name for name, (macs, *_) in rows.items() if 5.0 * (macs / 1e8) ** 0.9 * 1.01 > 40.0}
    assert slow.isdisjoint(name for name, work in world.asked if work == "accuracy")


def test_expectations_are_as_wide_as_they_say():
    (anchor,) = [Anchor(1e8, figure("latency_p50_ms", 10.0))]
    found = expected(2e8, [anchor])
    assert found.low == pytest.approx(10 * 2**LEAST_POWER / FACTOR)
    assert found.high == pytest.approx(10 * 2**MOST_POWER * FACTOR)
    assert msgspec.json.decode(found.to_json(), type=Observation) == found


def measured(name, ms, macs, share=0.8, half=0.02, cautions=()):
    return Known(
        candidate(name),
        (
            figure("latency_p50_ms", ms * 0.98, ms * 1.02),
            figure("macs", macs, source="counted"),
            figure("accuracy", share - half, share + half, "evaluated"),
        ),
        artifact=f"{name}.tflite",
        cautions=cautions,
    )


def test_latencies_of_a_family_that_contradict_each_other_are_a_caution():
    among = [measured("efficientnet_lite0", 7.2, 4e8), measured("efficientnet_lite2", 2.5, 9e8)]
    decision = decide(among, Aim(()))
    assert decision.chosen == among[1].candidate.label
    (side_by_side,) = [said for said in decision.cautions if "disturbed" in said]
    assert "2.50 ms" in side_by_side
    assert "edgese profile efficientnet_lite2.tflite efficientnet_lite0.tflite" in side_by_side


@pytest.mark.parametrize(
    "among",
    [
        # A family's latencies as they should be, and two families, which need not fit.
        [measured("efficientnet_lite0", 2.5, 4e8), measured("efficientnet_lite2", 5.4, 9e8)],
        [measured("efficientnet_lite0", 7.2, 4e8), measured("se_resnet50", 2.5, 4e9)],
    ],
)
def test_latencies_that_fit_or_need_not_fit_are_no_caution(among):
    assert not [said for said in decide(among, Aim(())).cautions if "disturbed" in said]


def test_a_tie_in_accuracy_and_a_disturbed_measurement_are_said_beside_the_decision():
    noisy = Caution(code="OUTLIERS", numbers={}, message="Many lie far out.", advice="Again.")
    tied = [
        measured("efficientnet_lite0", 2.5, 4e8, share=0.80, cautions=(noisy,)),
        measured("efficientnet_lite1", 4.0, 6e8, share=0.79),
        measured("efficientnet_lite2", 5.4, 9e8, share=0.60),
    ]
    said = decide(tied, Aim(())).cautions
    assert any("does not separate" in one and "lite1" in one for one in said)
    assert not any("lite2" in one for one in said)
    assert f"{tied[0].candidate.label}: Many lie far out. Again." in said
    assert not decide([tied[1], tied[2]], Aim(())).cautions
