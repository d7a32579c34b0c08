"""What a run does at each step, decided before the first one; pure."""

import math
from typing import Any, Final

import msgspec

from edgese.errors import ConfigError
from edgese.records.base import Record
from edgese.records.bounds import Positive
from edgese.records.training import (
    Cosine,
    Exponential,
    Progressive,
    Schedule,
    Steps,
    TrainingRecipe,
)

# Sides on the way are multiples of this, which the paper's 128 and 300 px are.
_MULTIPLE: Final = 4


class Phase(Record, frozen=True):
    """What grows from stage to stage of progressive learning, and else is the same all along.

    Attributes:
        height, width: of the pictures, in pixels.
        dropout: None leaves the network's own.
    """

    height: int
    width: int
    randaugment: float
    mixup: float
    dropout: float | None


class Plan(Record, frozen=True):
    """A recipe on a data set.

    The pictures of all epochs stand in one row, one shuffled epoch after the other, and each step
    takes the next ``batch`` of them. So every step is full, no picture is left out, and how many
    processes share a step makes no difference to what is in it.

    Attributes:
        pictures: of the training set.
        height, width: the network's own resolution.
    """

    recipe: TrainingRecipe
    pictures: Positive
    height: int
    width: int

    @property
    def steps(self) -> int:
        """Length of the run."""
        if self.recipe.steps is not None:
            return self.recipe.steps
        assert self.recipe.epochs is not None  # noqa: S101  # a recipe has one of the two
        return max(1, math.ceil(self.recipe.epochs * self.pictures / self.recipe.batch))

    @property
    def ends(self) -> tuple[int, ...]:
        """The steps after which an epoch is complete, and the run's last step."""
        steps = self.steps
        whole = steps * self.recipe.batch // self.pictures
        ends = {math.ceil(n * self.pictures / self.recipe.batch) for n in range(1, whole + 1)}
        return tuple(sorted({*(end for end in ends if end < steps), steps}))

    def lr(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.recipe.optimizer.lr * lr_factor(self.recipe.schedule, step, self.steps)

    def phase(self, step: int) -> Phase:
        """What the stage that ``step`` is in asks for."""
        recipe = self.recipe
        plain = Phase(
            height=self.height,
            width=self.width,
            randaugment=recipe.augmentation.randaugment,
            mixup=recipe.mixup,
            dropout=recipe.dropout,
        )
        if (growing := recipe.progressive) is None:
            return plain
        stage = min(step * growing.stages // self.steps, growing.stages - 1)
        return _grown(plain, growing, stage / (growing.stages - 1))

    def norm_learns(self, step: int) -> bool:
        """Whether BatchNorm's running statistics still change in this step."""
        return step < self.recipe.norm_learns * self.steps


def lr_factor(schedule: Schedule, step: int, steps: int) -> float:
    """The learning rate of a step, as a share of the full one.

    Args:
        step: from 0 to ``steps - 1``.
    """
    warm = schedule.warmup * steps
    if step < warm:
        # The first step already learns something, and the full rate is reached as the rise ends.
        return min(1.0, (step + 1) / (warm + 1))
    match schedule:
        case Cosine():
            behind = (step - warm) / max(1, steps - warm)
            return schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * behind)) / 2
        case Steps():
            return schedule.factor ** sum(step >= moment * steps for moment in schedule.at)
        case Exponential():
            return schedule.factor ** math.floor(step / (schedule.every * steps))


def averaging(decay: float, updates: int) -> float:
    """The decay of a moving average after ``updates`` of them; see `records.training.Average`.

    Source: TensorFlow's ExponentialMovingAverage with ``num_updates``.
    """
    return min(decay, (1 + updates) / (10 + updates))


def adapted(
    recipe: TrainingRecipe,
    *,
    epochs: float | None = None,
    batch: int | None = None,
    lr: float | None = None,
    precision: str | None = None,
) -> TrainingRecipe:
    """The recipe with another length, batch, learning rate or precision.

    With another batch the learning rate changes in proportion (arXiv:1706.02677, section 2.1),
    unless one is given.

    Raises:
        ConfigError: a value that cannot be.
    """
    table: dict[str, Any] = recipe.to_dict()
    if epochs is not None:
        table |= {"epochs": epochs, "steps": None}
    if precision is not None:
        table["precision"] = precision
    if batch is not None:
        table["batch"] = batch
        table["optimizer"]["lr"] *= batch / recipe.batch
    if lr is not None:
        table["optimizer"]["lr"] = lr
    try:
        return msgspec.convert(table, TrainingRecipe)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"The recipe {recipe.name} cannot be changed like that: {error}.",
            hint="Epochs, batch and learning rate are above 0.",
        ) from error


def _grown(plain: Phase, growing: Progressive, share: float) -> Phase:
    scale = _between(growing.resolution, share)
    return Phase(
        height=_side(plain.height, scale),
        width=_side(plain.width, scale),
        randaugment=plain.randaugment
        if growing.randaugment is None
        else _between(growing.randaugment, share),
        mixup=plain.mixup if growing.mixup is None else _between(growing.mixup, share),
        dropout=plain.dropout if growing.dropout is None else _between(growing.dropout, share),
    )


def _between(ends: tuple[float, float], share: float) -> float:
    first, last = ends
    return first + share * (last - first)


def _side(own: int, scale: float) -> int:
    if scale == 1:
        return own
    return min(own, max(_MULTIPLE, round(own * scale / _MULTIPLE) * _MULTIPLE))
