"""What the gate joins: by what things are, never by their names; and images that are missing."""

import msgspec
import pytest

from edgese.budgets.api import gate
from edgese.budgets.candidates import reference_of
from edgese.budgets.evidence import Between, Proportion, proportion
from edgese.evaluation.pairing import outcomes
from edgese.evaluation.scoring import top1
from edgese.models.registry import find_model
from edgese.records.artifact import WeightsInfo
from edgese.records.evaluation import (
    Evaluation,
    EvaluationData,
    EvaluationResult,
    Prediction,
    Unreadable,
)
from edgese.seals import sealed
from edgese.store import write_record

SPEC = find_model("efficientnet_b0")
SHA = "a" * 64


def prediction(number, *, right, image=None):
    return Prediction(
        file=f"{number}.png",
        label=0,
        classes=(0 if right else 1,),
        probabilities=(0.9,),
        sha256=f"{number if image is None else image:064x}",
    )


def evaluated(predictions, unread=0, *, artifact="", recipe="fp32", **changes):
    """The evaluation of a network in fp32, unless something else is said."""
    listed = len(predictions) + unread
    made = Evaluation(
        subject=f"{recipe} {artifact[:4]}",
        model="m",
        target="pytorch" if not artifact else "tflite",
        recipe=recipe,
        delegate="",
        artifact_sha256=artifact,
        weights=WeightsInfo(source="w.pth", sha256="1" * 64, naming="edgese", trained=True),
        preprocessing=SPEC.preprocessing,
        data=EvaluationData(source="d", split="", labelled_by="name", listed=listed, sha256="d"),
        pictures=len(predictions),
        top1=top1(predictions, unread),
        top5=None,
        predictions=tuple(predictions),
        unreadable=tuple(Unreadable(file=f"u{n}.png", reason="cut") for n in range(unread)),
        seconds=1.0,
        threads=1,
        versions={},
        edgese="0.1.0",
        created="2026-01-01T00:00:00+00:00",
        architecture="2" * 64,
    )
    return msgspec.structs.replace(made, **changes)


def answers(right, of=200):
    return [prediction(number, right=number < right) for number in range(of)]


OWN = evaluated(answers(180), artifact=SHA, recipe="int8")


@pytest.fixture
def judged(tmp_path, monkeypatch, result_of):
    """The gate's only cell, of an int8 artifact with these evaluations."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path / "cache"))

    def made(limit, *found):
        (tmp_path / "budget.toml").write_text(f"[budget]\n{limit}\n")
        write_record(result_of(recipe="int8", sha256=SHA), tmp_path / "p.json")
        told = sealed(EvaluationResult(evaluations=found, agreements=()))
        write_record(told, tmp_path / "e.json")
        inputs = [tmp_path / "p.json", tmp_path / "e.json"]
        result = gate(inputs, budget=tmp_path / "budget.toml")
        assert result.untrusted == ()
        (cell,) = result.cells
        return result.exit_code, cell.judged

    return made


OTHERS = {
    "weights": {"weights": msgspec.structs.replace(OWN.weights, sha256="3" * 64)},
    "unknown weights": {"weights": msgspec.structs.replace(OWN.weights, sha256="")},
    "layers": {"architecture": "4" * 64},
    "model": {"model": "n"},
    "resolution": {"preprocessing": msgspec.structs.replace(SPEC.preprocessing, height=260)},
    "preprocessing": {
        "preprocessing": msgspec.structs.replace(SPEC.preprocessing, mean=(0.5, 0.5, 0.5))
    },
    "contents": {"predictions": tuple(prediction(n, right=False, image=n + 1) for n in range(200))},
    "labels": {
        "predictions": tuple(
            msgspec.structs.replace(one, label=1, classes=(0,)) for one in answers(100)
        )
    },
}


def test_the_same_network_on_the_same_images_is_the_reference(judged):
    code, cell = judged("accuracy_drop = 0.1", evaluated(answers(182)), OWN)
    assert (code, cell.verdict) == (0, "meets")


@pytest.mark.parametrize("what", OTHERS)
def test_an_fp32_evaluation_of_something_else_is_no_reference(judged, what):
    other = evaluated(answers(100))
    other = msgspec.structs.replace(other, **OTHERS[what])
    right = sum(one.classes[0] == one.label for one in other.predictions)
    counted = msgspec.structs.replace(other.top1, count=right)
    other = msgspec.structs.replace(other, top1=counted)
    code, cell = judged("accuracy_drop = 0.1", other, OWN)
    assert (code, cell.verdict) == (6, "unclear")
    assert "edgese evaluate m --weights w.pth --data d" in cell.reason
    told = {"unknown weights": "which weights", "labels": "label"}.get(what, what)
    assert told in cell.reason


def test_fewer_images_are_other_images(judged):
    code, cell = judged("accuracy_drop = 0.1", evaluated(answers(100, of=150)), OWN)
    assert code == 6
    assert "only one of them was asked about" in cell.reason


def test_pytorch_goes_before_an_artifact_as_the_reference():
    artifact = evaluated(answers(190), artifact="b" * 64)
    torch = evaluated(answers(182))
    assert reference_of(OWN, [artifact, torch, OWN]) is torch


def test_evaluations_on_several_sets_of_images_are_unclear(judged):
    other = evaluated(answers(100, of=100), artifact=SHA, recipe="int8")
    code, cell = judged("accuracy = 0.5", OWN, other)
    assert code == 6
    assert "several sets of images" in cell.reason


def test_of_several_evaluations_on_the_same_images_the_lowest_counts(judged):
    lower = evaluated(answers(120), artifact=SHA, recipe="int8")
    assert judged("accuracy = 0.8", OWN, lower)[0] == 1
    assert judged("accuracy = 0.8", lower, OWN)[0] == 1


@pytest.mark.parametrize(
    ("right", "read", "unread", "code"),
    [
        # "100 % of 54", at a true 45 %.
        (54, 54, 66, 6),
        # Even with all of them wrong.
        (190, 195, 5, 0),
        # Even with all of them right.
        (60, 190, 10, 1),
        (0, 1, 199, 6),
    ],
)
def test_unread_images_are_counted_both_ways(judged, right, read, unread, code):
    own = evaluated(answers(right, of=read), unread, artifact=SHA, recipe="int8")
    found, cell = judged("accuracy = 0.8", own)
    assert found == code
    assert cell.value == pytest.approx(right / (read + unread))
    assert f"{unread} of {read + unread} could not be read, such as u0.png" in cell.reason


@pytest.mark.parametrize(("right", "unread", "code"), [(180, 0, 0), (180, 40, 6), (60, 40, 1)])
def test_a_drop_counts_unread_images_both_ways(judged, right, unread, code):
    reference = evaluated(answers(182), unread)
    own = evaluated(answers(right), unread, artifact=SHA, recipe="int8")
    assert judged("accuracy_drop = 0.1", reference, own)[0] == code


def test_missing_answers_lie_between_all_wrong_and_all_right():
    found = proportion(54, 66, 120)
    assert isinstance(found, Between)
    ends = [Proportion(count=count, of=120).interval(0.9) for count in (54, 120)]
    interval = found.interval(0.9)
    assert (interval.low, interval.high) == (ends[0].low, ends[1].high)
    assert found.p_value(0.9) == 1.0
    assert found.p_value(0.2) == Proportion(count=54, of=120).p_value(0.2)
    assert isinstance(proportion(54, 0, 54), Proportion)


def test_an_accuracy_is_never_better_for_an_image_that_cannot_be_read():
    whole, cut = top1(answers(54, of=120)), top1(answers(54, of=54), 66)
    assert (cut.count, cut.of, cut.share) == (whole.count, whole.of, whole.share)
    assert cut.interval.low == whole.interval.low
    assert cut.interval.high == 1.0


def test_copies_of_an_image_are_one_image():
    copies = [prediction(number, right=True, image=7) for number in range(50)]
    wrong = [prediction(100 + number, right=False) for number in range(10)]
    found = outcomes(evaluated([*copies, *wrong]))
    assert sorted(found) == [False] * 10 + [True]


def test_copies_with_different_labels_are_not_known():
    one = prediction(0, right=True, image=7)
    other = prediction(1, right=False, image=7)
    assert outcomes(evaluated([one, other])) == (None,)
