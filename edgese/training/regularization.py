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
