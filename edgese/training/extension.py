"""The seam for trainings that are more than their recipe, such as quantization-aware ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that learn otherwise than the rest, such as the scales of quantized tensors.

    Attributes:
        lr_scale: their learning rate, as a multiple of the recipe's.
        weight_decay: whether they have the recipe's.
    """

    parameters: Sequence[nn.Parameter]
    lr_scale: float = 1.0
    weight_decay: bool = False


class Extension:
    """What is added to the plain loop. Every method here does nothing; override what is needed.

    A resumed run calls `before_step` with the step that it goes on from, and nothing for those
    before: what a method does must follow from its arguments and from the student's state dict.
    """

    def groups(self, student: nn.Module) -> Sequence[ParameterGroup]:  # noqa: ARG002
        """Parameters with a learning rate of their own; all others are grouped by the loop."""
        return ()

    def before_step(self, student: nn.Module, step: int, steps: int) -> None:
        """Called before each step, in training mode: the place for schedules.

        Args:
            step: from 0 to ``steps - 1``.
        """

    def loss(self) -> Tensor | None:
        """What is added to a step's loss; asked once all networks have seen its pictures."""
        return None

    def after_step(self, student: nn.Module) -> None:
        """Called after the optimizer's step, before the average: the place for projections."""
