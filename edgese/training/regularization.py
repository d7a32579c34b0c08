"""What a run changes in the student's modules: modes, dropout, stochastic depth."""

import msgspec
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgese.errors import ConfigError
from edgese.models import blocks
from edgese.models.builder import Block, Network


def set_training(student: nn.Module, *, norm_learns: bool) -> None:
    """Training mode; without ``norm_learns`` BatchNorm keeps and uses its running statistics."""
    student.train()
    if not norm_learns:
        for module in student.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def fresh_norms(student: nn.Module) -> dict[_BatchNorm, float]:
    """Return the BatchNorms with untouched running statistics, and the momentum of each."""
    return {
        module: module.momentum
        for module in student.modules()
        if isinstance(module, _BatchNorm)
        and module.momentum is not None
        and module.running_mean is not None
        and module.running_var is not None
        and not module.running_mean.any()
        and bool((module.running_var == 1).all())
    }


def set_momentum(norms: dict[_BatchNorm, float], step: int | None) -> None:
    """Take what a fresh BatchNorm began with out of its running statistics.

    With a momentum of 0.01 a half of the mean 0 and the variance 1 that it began with would still
    be in them after 70 steps. With this one they are what such an average of the batches alone is.

    Source: Kingma and Ba, "Adam", arXiv:1412.6980, section 3, for the correction.

    Args:
        norms: of `fresh_norms`.
        step: from 0; None gives them their own momentum again.
    """
    for norm, own in norms.items():
        norm.momentum = own if step is None else own / (1 - (1 - own) ** (step + 1))


def set_dropout(student: nn.Module, rate: float) -> None:
    """Sets the rate of every dropout.

    Raises:
        ConfigError: the student has none.
    """
    found = [module for module in student.modules() if isinstance(module, nn.Dropout)]
    if not found:
        raise ConfigError(
            f"The recipe sets a dropout of {rate:g}, and the network has none.",
            hint="Take `dropout` out of the recipe.",
        )
    for module in found:
        module.p = rate


def set_stochastic_depth(student: nn.Module, rate: float) -> None:
    """Sets the rate of the last block's, and of the others' in proportion to their depth.

    Raises:
        ConfigError: the student was not built from a spec.
    """
    if not isinstance(student, Network):
        raise ConfigError(
            f"The recipe sets a stochastic depth of {rate:g}, and the network was not built from a "
            "spec.",
            hint="Take `stochastic_depth` out of the recipe.",
        )
    shapes = blocks.blocks(msgspec.structs.replace(student.spec, stochastic_depth=rate))
    for row, stage in zip(shapes, student.stages, strict=True):
        for shape, block in zip(row, stage.children(), strict=True):
            if isinstance(block, Block) and block.drop is not None:
                block.drop.rate = shape.stochastic_depth
