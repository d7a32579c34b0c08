"""One step: from a batch of pictures to changed weights."""

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from edgese.errors import ConfigError
from edgese.records.model import Preprocessing
from edgese.training.checkpoint import Learner
from edgese.training.extension import Extension
from edgese.training.losses import label_loss, mixed, teacher_loss
from edgese.training.optimizers import set_lr
from edgese.training.plan import Plan
from edgese.training.processes import Processes
from edgese.training.regularization import fresh_norms, set_dropout, set_momentum, set_training

# What random numbers are for; `edgese.training.batches` has the others.
_MIXUP: Final = 3
_DEVICE: Final = 4
# How torch's BatchNorm complains of a batch of one value a channel.
_ONE_VALUE: Final = "Expected more than 1 value per channel"


class Taken(NamedTuple):
    """What came of a step, on the device that computed it.

    Attributes:
        loss: mean over this process's pictures.
        right: how many of them were classified rightly.
    """

    lr: float
    loss: Tensor
    right: Tensor


class Stepper:
    """Takes the steps of a plan.

    Args:
        seed: of all that is random in a step.
        bf16: whether to compute in bf16 where that is faster.
        teacher: in evaluation mode, on the device; None where nobody is followed.
    """

    def __init__(
        self,
        plan: Plan,
        learner: Learner,
        preprocessing: Preprocessing,
        *,
        seed: int,
        bf16: bool,
        teacher: nn.Module | None,
        extension: Extension,
        processes: Processes,
    ) -> None:
        self.plan = plan
        self.learner = learner
        self.seed = seed
        self.bf16 = bf16
        self.teacher = teacher
        self.extension = extension
        self.processes = processes
        self.model = processes.shared(learner.student)
        self.mean, self.std = (
            torch.tensor(values, device=processes.device).view(1, 3, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )
        self._mode: tuple[bool, float | None] | None = None
        self._fresh = fresh_norms(learner.student)

    def take(self, step: int, pictures: Tensor, labels: Tensor) -> Taken:
        """Takes a step.

        Args:
            step: from 0.
            pictures: (N, 3, H, W), bytes.
            labels: (N,).

        Raises:
            ConfigError: one image, of which one pixel is left: BatchNorm can learn nothing.
        """
        plan, learner = self.plan, self.learner
        phase, lr = plan.phase(step), plan.lr(step)
        # What is random on the device follows from the step, so that a resumed run repeats it.
        torch.manual_seed(_random(self.seed, _DEVICE, step, self.processes.rank))
        self._set_mode(plan.norm_learns(step), phase.dropout)
        set_momentum(self._fresh, step)
        self.extension.before_step(learner.student, step, plan.steps)
        set_lr(learner.optimizer, lr)
        learner.optimizer.zero_grad(set_to_none=True)
        inputs = pictures.to(self.processes.device, non_blocking=True).float()
        inputs.div_(255).sub_(self.mean).div_(self.std)
        labels = labels.to(self.processes.device, non_blocking=True)
        try:
            loss, right = self._loss(inputs, labels, self._share(step, phase.mixup))
        except ValueError as error:
            if _ONE_VALUE not in str(error):
                raise
            raise ConfigError(
                f"BatchNorm has one value a channel to learn from: {len(labels)} image at once in "
                f"each process, of {inputs.shape[2]}x{inputs.shape[3]} px.",
                hint="Give a larger --batch or --resolution.",
            ) from error
        if (more := self.extension.loss()) is not None:
            loss = loss + more
        loss.backward()  # type: ignore[no-untyped-call]
        if plan.recipe.clip is not None:
            nn.utils.clip_grad_norm_(learner.student.parameters(), plan.recipe.clip)
        learner.optimizer.step()
        self.extension.after_step(learner.student)
        if learner.average is not None:
            learner.average.update()
        return Taken(lr=lr, loss=loss.detach(), right=right)

    def forget_mode(self) -> None:
        """To be called where something else has set the student's modes."""
        self._mode = None

    def leave(self) -> None:
        """To be called after the last step: gives BatchNorm its own momentum again."""
        set_momentum(self._fresh, None)

    def _set_mode(self, norm_learns: bool, dropout: float | None) -> None:  # noqa: FBT001  # one caller
        if (norm_learns, dropout) == self._mode:
            return
        self._mode = norm_learns, dropout
        set_training(self.learner.student, norm_learns=norm_learns)
        if dropout is not None:
            set_dropout(self.learner.student, dropout)

    def _share(self, step: int, alpha: float) -> float | None:
        """How much of itself each picture keeps in a step; None where nothing is mixed."""
        if not alpha:
            return None
        return float(np.random.default_rng((self.seed, _MIXUP, step)).beta(alpha, alpha))

    def _loss(self, inputs: Tensor, labels: Tensor, share: float | None) -> tuple[Tensor, Tensor]:
        """The loss, and how many pictures are classified rightly."""
        recipe = self.plan.recipe
        mix = None if share is None else mixed(inputs, labels, share)
        seen = inputs if mix is None else mix.pictures
        logits = self._logits(self.model, seen)
        right = (logits.argmax(1) == labels).sum()
        distillation = recipe.distillation
        if distillation is None or self.teacher is None:
            return label_loss(logits, labels, mix, recipe.label_smoothing), right
        with torch.no_grad():
            taught = self._logits(self.teacher, seen)
        loss = distillation.weight * teacher_loss(logits, taught, distillation)
        if distillation.weight < 1:
            told = label_loss(logits, labels, mix, recipe.label_smoothing)
            loss = loss + (1 - distillation.weight) * told
        return loss, right

    def _logits(self, network: nn.Module, inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = network(inputs)
        return logits.float()


def _random(*key: int) -> int:
    """A seed for torch that follows from a key."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
