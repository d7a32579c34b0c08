import pytest

from edgese.errors import InputError
from edgese.evaluation.comparison import agreement
from edgese.evaluation.scoring import top1, top5
from edgese.records.artifact import WeightsInfo
from edgese.records.evaluation import Evaluation, EvaluationData, Prediction
from edgese.records.model import Preprocessing


def prediction(file: str, label: int, *classes: int) -> Prediction:
    return Prediction(
        file=file, label=label, classes=classes, probabilities=tuple(0.1 for _ in classes)
    )


def evaluation(*predictions: Prediction, subject: str = "a", sha256: str = "1") -> Evaluation:
    return Evaluation(
        subject=subject,
        model="m",
        target="pytorch",
        recipe="fp32",
        delegate="",
        artifact_sha256="",
        weights=WeightsInfo(source="w", sha256="", naming="edgese", trained=True),
        preprocessing=Preprocessing(),
        data=EvaluationData(
            source="d", split="", labelled_by="number", listed=len(predictions), sha256=sha256
        ),
        pictures=len(predictions),
        top1=top1(predictions),
        top5=top5(predictions, 10),
        predictions=predictions,
        unreadable=(),
        seconds=1.0,
        threads=1,
        versions={},
        edgese="0",
        created="2026-01-01T00:00:00+00:00",
    )


def test_agreement_counts_who_is_right_and_names_where_they_differ():
    first = evaluation(
        prediction("both", 1, 1, 2),
        prediction("first", 1, 1, 2),
        prediction("neither", 1, 2, 1),
        prediction("neither, differently", 1, 2, 1),
    )
    second = evaluation(
        prediction("both", 1, 1, 3),
        prediction("first", 1, 2, 1),
        prediction("neither", 1, 2, 3),
        prediction("neither, differently", 1, 3, 1),
        subject="b",
    )
    found = agreement(first, second)
    assert (found.first, found.second, found.pictures) == ("a", "b", 4)
    assert found.same_top1 == 2
    assert found.differing == ("first", "neither, differently")
    assert (found.only_first_right, found.only_second_right) == (1, 0)
    assert found.top1_difference == -0.25
    assert found.p_value == 1.0


def test_five_pictures_that_one_alone_gets_right_are_judged_by_mcnemar():
    first = evaluation(*(prediction(str(i), 1, 1) for i in range(5)))
    second = evaluation(*(prediction(str(i), 1, 0) for i in range(5)))
    assert agreement(first, second).p_value == 0.0625


def test_pictures_that_one_could_not_read_are_left_out():
    first = evaluation(prediction("x", 1, 1), prediction("y", 1, 1))
    found = agreement(first, evaluation(prediction("y", 1, 1)))
    assert (found.pictures, found.same_top1) == (1, 1)


def test_other_data_cannot_be_compared():
    with pytest.raises(InputError, match="their files or labels differ"):
        agreement(evaluation(prediction("x", 1, 1)), evaluation(prediction("x", 2, 1), sha256="2"))


def test_evaluations_without_a_common_picture_cannot_be_compared():
    with pytest.raises(InputError, match="no readable picture in common"):
        agreement(evaluation(prediction("x", 1, 1)), evaluation(prediction("y", 1, 1)))


def test_an_evaluation_is_read_back_as_it_was_written():
    written = evaluation(prediction("x", 1, 1, 2, 3, 4, 5))
    assert Evaluation.from_json(written.to_json(), "x.json") == written


def test_top5_counts_the_five_likeliest_and_is_left_out_where_it_says_nothing():
    predictions = [prediction("x", 5, 1, 2, 3, 4, 5), prediction("y", 6, 1, 2, 3, 4, 5)]
    top = top5(predictions, 6)
    assert top is not None
    assert (top.count, top.of, top.share) == (1, 2, 0.5)
    assert top5(predictions, 5) is None
