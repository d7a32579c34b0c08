"""When a training has come to nothing: a test against the majority's rate, and the loss."""

import math
import random

import msgspec
import pytest

from edgese import catalog
from edgese.records.training import Answers, Distillation, EpochRow, TrainingLog
from edgese.statistics import binomial_tails
from edgese.training.verdict import better_than_majority, collapse

RECIPE = msgspec.structs.replace(catalog.training_recipe("finetune"), batch=10)


def log(losses, answers=None, *, val_loss=None, train_top1=None, recipe=RECIPE):
    """A training of one epoch a loss, of ten steps of ten images each."""
    rows = tuple(
        EpochRow(
            epoch=number + 1,
            step=10 * (number + 1),
            height=8,
            width=8,
            lr=0.1,
            train_loss=loss,
            train_top1=train_top1,
            val_loss=loss if val_loss is None else val_loss,
            val_top1=None,
            val_agreement=None,
            images_per_s=1.0,
            seconds=1.0,
        )
        for number, loss in enumerate(losses)
    )
    return TrainingLog(
        recipe=recipe,
        seed=0,
        depends={},
        device="cpu",
        precision="fp32",
        processes=1,
        step=10 * len(rows),
        steps=10 * len(rows),
        epochs=rows,
        answers=answers,
    )


def answers(right, images=200, *, classes=5, given=5, majority=None):
    return Answers(
        classes=classes,
        images=images,
        right=right,
        given=given,
        expected=classes,
        majority=images // classes if majority is None else majority,
    )


def test_the_tails_of_a_binomial_are_the_sums_of_its_terms():
    for n, share in ((1, 0.5), (7, 0.2), (60, 0.93), (200, 0.2)):
        terms = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
        for k in range(n + 1):
            low, high = binomial_tails(k, n, share)
            assert low == pytest.approx(sum(terms[: k + 1]), rel=1e-9)
            assert high == pytest.approx(sum(terms[k:]), rel=1e-9)


def test_a_network_that_learnt_is_not_condemned():
    assert collapse(log([1.7, 0.3], answers(190)), 0.2) == ""


def test_answers_at_chance_are_reported_with_their_figures():
    assert collapse(log([1.7, 1.2], answers(41)), 0.2) == (
        "it answers 41 of 200 validation images rightly, and always naming the most common class "
        "would 40"
    )


def test_one_class_for_everything_is_reported():
    told = collapse(log([1.7, 1.2], answers(40, given=1)), 0.2)
    assert told == "it answers one class for all 200 validation images, which are of 5"


def test_one_class_is_seen_where_it_is_nearly_always_right():
    told = collapse(log([0.6, 0.2], answers(95, 100, classes=2, given=1, majority=95)), 0.95)
    assert told == "it answers one class for all 100 validation images, which are of 2"


@pytest.mark.parametrize(
    "few",
    [
        answers(1, 2, classes=2, given=1),
        answers(2, 4, classes=2, given=1),
        answers(1, 5, classes=5, given=2),
        answers(3, 3, classes=2, given=1, majority=3),
    ],
)
def test_too_few_images_condemn_nothing(few):
    assert collapse(log([0.6, 0.5], few, train_top1=0.9), 0.2) == ""


def test_where_validation_images_are_too_few_those_that_were_learnt_from_are_asked():
    few = answers(1, 4, classes=2, given=2)
    assert collapse(log([0.9, 0.6], few, train_top1=0.52), 0.5) == (
        "it answers 52 of 100 training images rightly in the last epoch, and always naming the "
        "most common class would 50"
    )
    assert collapse(log([0.9, 0.6], few, train_top1=0.8), 0.5) == ""
    assert collapse(log([0.9, 0.6], None, train_top1=0.5), 0.5) != ""


def test_a_flat_loss_is_reported_although_the_answers_are_better_than_chance_by_luck():
    told = collapse(log([1.612, 1.609], answers(52)), 0.2)
    assert told.startswith("the loss is flat: 1.612 in the first epoch and 1.609 in the last")
    assert "5 classes give 1.609" in told


def test_a_loss_that_grew_beyond_that_of_knowing_nothing_is_reported():
    told = collapse(log([1.7, 30.0], answers(80)), 0.2)
    assert told.startswith("the loss diverged: 1.7 in the first epoch and 30 in the last")


@pytest.mark.parametrize(
    ("losses", "val_loss"),
    [
        ([0.02, 0.02], 0.02),  # a classifier that was kept has nothing to learn
        ([1.609], 1.609),  # of one epoch nobody knows how it would go on
        ([1.7, 0.2], 2.5),  # overconfident, and right
        ([1.7, 1.65], 1.5),  # strong augmentation
    ],
)
def test_losses_of_trainings_that_go_well_are_not_condemned(losses, val_loss):
    assert collapse(log(losses, answers(150), val_loss=val_loss), 0.2) == ""


def test_the_loss_of_a_distillation_is_not_compared_with_that_of_labels():
    recipe = msgspec.structs.replace(RECIPE, label_smoothing=0.0, distillation=Distillation())
    assert collapse(log([20.0, 19.9], answers(150), recipe=recipe), None) == ""
    assert collapse(log([20.0, 19.9], answers(40), recipe=recipe), None) != ""


def test_what_cannot_be_known_is_not_said():
    assert collapse(log([1.7, 1.6]), None) == ""
    assert collapse(log([]), 0.2) == ""
    assert better_than_majority(3, 3, 1.0) is None
    assert better_than_majority(0, 0, 0.5) is None


@pytest.mark.parametrize("images", [8, 30, 200])
@pytest.mark.parametrize("majority", [0.05, 0.2, 0.5, 0.9])
def test_of_useful_networks_at_most_one_in_twenty_is_condemned(images, majority):
    share = majority + 0.25 * (1 - majority)
    condemned = sum(
        math.comb(images, k) * share**k * (1 - share) ** (images - k)
        for k in range(images + 1)
        if better_than_majority(k, images, majority) is False
    )
    assert condemned <= 0.05


def test_whoever_guesses_is_condemned_nineteen_times_in_twenty_on_two_hundred_images():
    draw = random.Random(0)
    seen = [
        better_than_majority(sum(draw.random() < 0.2 for _ in range(200)), 200, 0.2)
        for _ in range(2000)
    ]
    assert seen.count(False) >= 0.94 * len(seen)
