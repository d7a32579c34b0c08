"""From a recipe to torch's optimizers."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgese.records.training import AdamW, Optimizer, RmsProp, Sgd
from edgese.training.extension import ParameterGroup


def make_optimizer(
    settings: Optimizer, student: nn.Module, own: Sequence[ParameterGroup] = ()
) -> torch.optim.Optimizer:
    """The optimizer of a student; weights have the recipe's decay, norms and biases none.

    Args:
        own: parameters that learn otherwise.
    """
    taken = {id(parameter) for group in own for parameter in group.parameters}
    rest = [p for p in student.parameters() if p.requires_grad and id(p) not in taken]
    groups = (
        ParameterGroup(parameters=[p for p in rest if p.ndim > 1], weight_decay=True),
        ParameterGroup(parameters=[p for p in rest if p.ndim <= 1]),
        *own,
    )
    options: list[dict[str, Any]] = [
        {
            "params": list(group.parameters),
            "lr_scale": group.lr_scale,
            "weight_decay": settings.weight_decay if group.weight_decay else 0.0,
        }
        for group in groups
        if group.parameters
    ]
    match settings:
        case Sgd():
            return torch.optim.SGD(
                options, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov
            )
        case RmsProp():
            return TensorFlowRmsProp(
                options,
                lr=settings.lr,
                decay=settings.decay,
                momentum=settings.momentum,
                eps=settings.eps,
            )
        case AdamW():
            return torch.optim.AdamW(
                options, lr=settings.lr, betas=settings.betas, eps=settings.eps
            )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate, times each group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


class TensorFlowRmsProp(torch.optim.Optimizer):
    """RMSProp as TensorFlow computes it, and as EfficientNet was trained.

    torch's adds ``eps`` outside the root, starts the mean square at zero, and multiplies the
    momentum by the learning rate of the day. Weight decay is added to the gradient, as the L2 loss
    of EfficientNet's code does.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        decay: float,
        momentum: float,
        eps: float,
    ) -> None:
        defaults = {"lr": lr, "decay": decay, "momentum": momentum, "eps": eps, "weight_decay": 0.0}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients that are there.

        Args:
            closure: not supported; the loop computes the gradients.
        """
        assert closure is None  # noqa: S101  # no caller has one
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)

    def _move(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["mean_square"] = torch.ones_like(parameter)
            state["momentum"] = torch.zeros_like(parameter)
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        mean_square, momentum = state["mean_square"], state["momentum"]
        mean_square.lerp_(gradient.square(), 1 - group["decay"])
        scaled = gradient / (mean_square + group["eps"]).sqrt_()
        momentum.mul_(group["momentum"]).add_(scaled, alpha=group["lr"])
        parameter.sub_(momentum)
