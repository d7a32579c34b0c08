"""What a run does at each step follows from the recipe alone."""

import itertools
import math

import msgspec
import pytest

from edgese.errors import ConfigError
from edgese.records.training import (
    Augmentation,
    Cosine,
    Exponential,
    Progressive,
    Sgd,
    Steps,
    TrainingRecipe,
)
from edgese.training.plan import Plan, adapted, averaging, lr_factor

RECIPE = TrainingRecipe(
    name="mine",
    summary="A recipe.",
    sources=(),
    epochs=3,
    batch=4,
    optimizer=Sgd(lr=0.4),
    schedule=Cosine(),
    augmentation=Augmentation(),
)


def planned(pictures=10, height=32, width=48, **changes):
    recipe = msgspec.structs.replace(RECIPE, **changes)
    return Plan(recipe=recipe, pictures=pictures, height=height, width=width)


def test_a_run_is_as_many_full_batches_as_its_epochs_take():
    assert planned(pictures=10).steps == 8  # 30 pictures in batches of 4
    assert planned(pictures=8).steps == 6
    assert planned(epochs=0.5).steps == 2
    assert planned(epochs=None, steps=17).steps == 17


def test_epochs_end_with_the_step_that_draws_their_last_picture():
    assert planned(pictures=10).ends == (3, 5, 8)
    assert planned(pictures=10, epochs=2.5).ends == (3, 5, 7)
    assert planned(pictures=10, epochs=None, steps=2).ends == (2,)


def test_a_step_that_ends_several_epochs_ends_one():
    plan = planned(pictures=2, epochs=4)
    assert (plan.steps, plan.ends) == (2, (1, 2))


def test_a_cosine_falls_from_one_to_its_floor():
    factors = [lr_factor(Cosine(floor=0.1), step, 100) for step in range(100)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] == 1
    assert factors[50] == pytest.approx(0.55)
    assert 0.1 < factors[-1] < 0.101


@pytest.mark.parametrize(
    "schedule",
    [
        Cosine(warmup=0.1),
        Steps(at=(0.5,), warmup=0.1),
        Exponential(every=0.5, factor=0.1, warmup=0.1),
    ],
)
def test_a_warm_up_rises_in_equal_steps_from_above_zero(schedule):
    factors = [lr_factor(schedule, step, 100) for step in range(11)]
    rises = [b - a for a, b in itertools.pairwise(factors)]
    assert factors[0] > 0
    assert rises == pytest.approx([factors[0]] * 10)
    assert factors[10] == 1


def test_steps_fall_at_their_shares_of_the_run():
    schedule = Steps(at=(0.5, 0.75), factor=0.1)
    factors = [lr_factor(schedule, step, 8) for step in range(8)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_an_exponential_falls_at_equal_distances():
    schedule = Exponential(every=0.25, factor=0.5)
    factors = [lr_factor(schedule, step, 8) for step in range(8)]
    assert factors == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


def test_the_learning_rate_is_the_recipe_s_times_the_schedule_s():
    assert planned().lr(0) == 0.4
    assert planned().lr(4) == pytest.approx(0.2)


def test_size_and_regularization_grow_together():
    growing = Progressive(
        stages=3, resolution=(0.5, 1), randaugment=(5, 15), mixup=(0, 0.2), dropout=(0.1, 0.3)
    )
    plan = planned(pictures=12, height=224, width=224, progressive=growing)
    phases = [plan.phase(step) for step in range(plan.steps)]
    assert [phase.height for phase in phases] == [112] * 3 + [168] * 3 + [224] * 3
    assert [phase.randaugment for phase in phases[::3]] == [5, 10, 15]
    assert [phase.mixup for phase in phases[::3]] == pytest.approx([0, 0.1, 0.2])
    assert [phase.dropout for phase in phases[::3]] == pytest.approx([0.1, 0.2, 0.3])


def test_sides_on_the_way_are_multiples_of_four_and_the_last_is_the_network_s_own():
    plan = planned(height=100, width=140, progressive=Progressive(stages=2, resolution=(0.49, 1)))
    first, last = plan.phase(0), plan.phase(plan.steps - 1)
    assert (first.height, first.width) == (48, 68)
    assert (last.height, last.width) == (100, 140)


def test_what_does_not_grow_is_the_recipe_s():
    plan = planned(mixup=0.3, dropout=0.4, progressive=Progressive(stages=2, resolution=(0.5, 1)))
    phase = plan.phase(0)
    assert (phase.mixup, phase.dropout, phase.randaugment) == (0.3, 0.4, 0)


def test_norms_learn_for_their_share_of_the_run():
    learns = [planned(norm_learns=0.5).norm_learns(step) for step in range(8)]
    assert learns == [True] * 4 + [False] * 4
    assert not planned(norm_learns=0.0).norm_learns(0)
    assert planned().norm_learns(7)


def test_an_average_is_short_at_first():
    assert averaging(0.9999, 0) == 0.1
    assert averaging(0.9999, 90) == pytest.approx(0.91)
    assert averaging(0.9, 1000) == 0.9


def test_another_batch_takes_the_learning_rate_with_it():
    assert adapted(RECIPE, batch=8).optimizer.lr == pytest.approx(0.8)
    assert adapted(RECIPE, batch=8, lr=0.3).optimizer.lr == 0.3
    assert adapted(RECIPE, lr=0.3).batch == 4


def test_epochs_replace_steps():
    recipe = adapted(msgspec.structs.replace(RECIPE, epochs=None, steps=5), epochs=2)
    assert (recipe.epochs, recipe.steps) == (2, None)


def test_nothing_asked_changes_nothing():
    assert adapted(RECIPE) == RECIPE


@pytest.mark.parametrize(
    "change",
    [{"epochs": 0}, {"epochs": math.inf}, {"batch": 0}, {"lr": -1.0}, {"precision": "fp8"}],
)
def test_a_change_that_cannot_be_is_refused(change):
    with pytest.raises(ConfigError, match="mine cannot be changed"):
        adapted(RECIPE, **change)
