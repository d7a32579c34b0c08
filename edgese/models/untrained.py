"""Random weights that make a network behave like a trained one, except in accuracy."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgese.models.builder import Block, Network
from edgese.models.layers import ConvNorm, SqueezeExcitation

_PICTURES: Final = 8
_SIDE: Final = 160
# Standard deviation of the pictures: what photographs have with ImageNet's mean and std, or more.
_CONTRAST: Final = 1.25
# Factors on a residual branch's last BatchNorm, and on the weights that a gate ends in.
_BRANCH: Final = 0.25
_GATE: Final = 0.05
# Standard deviation of the logits over the pictures: of a trained classifier's order.
_LOGIT_SCALE: Final = 2.0


def plausible(network: Network, seed: int) -> Network:
    """Fills every parameter and BatchNorm statistic, alike for the same seed; leaves eval mode on.

    A network as it is first initialised maps every picture to nearly the same logits, and a deep
    one to nearly zero: parity checks would pass whatever is compared. Here each BatchNorm's
    statistics come from its own input on synthetic pictures, so activations are of order one all
    the way through, and the classifier is scaled so that its logits vary between pictures.
    """
    generator = torch.Generator().manual_seed(seed)
    pictures = _pictures(network, generator)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    network.eval()
    with torch.no_grad():
        for module in network.modules():
            _fill(module, generator)
        for module in network.modules():
            _soften(module)
        hooks = [norm.register_forward_pre_hook(_calibrate) for norm in norms]
        features = _features(network, pictures)
        for hook in hooks:
            hook.remove()
        if network.classifier is not None:
            _spread_logits(network.classifier, features)
    return network


def _fill(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, generator=generator)
        if module.bias is not None:
            module.bias.normal_(0, 0.2, generator=generator)
    elif isinstance(module, nn.BatchNorm2d):
        module.weight.uniform_(0.5, 1.0, generator=generator)
        module.bias.normal_(0, 0.2, generator=generator)
        module.reset_running_stats()
    elif isinstance(module, nn.Linear):
        module.weight.normal_(generator=generator)
        module.bias.zero_()


def _soften(module: nn.Module) -> None:
    """Keeps deep networks from multiplying what differs between pictures block by block."""
    if isinstance(module, SqueezeExcitation):
        # A gate that is shut on the calibration pictures would open on others.
        module.expand.weight.mul_(_GATE)
    elif isinstance(module, Block) and module.drop is not None:
        *_, last = (part for part in module.branch if isinstance(part, ConvNorm))
        last.norm.get_parameter("weight").mul_(_BRANCH)


def _calibrate(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """Gives a BatchNorm the statistics of what it is about to normalise."""
    variance, mean = torch.var_mean(inputs[0], (0, 2, 3))
    norm.get_buffer("running_mean").copy_(mean)
    # A channel that is nearly constant on these pictures must not be blown up on others.
    norm.get_buffer("running_var").copy_((variance + variance.mean()) / 2)


def _features(network: Network, pictures: Tensor) -> Tensor:
    x = network.stages(network.stem(pictures))
    if network.head is not None:
        x = network.head(x)
    pooled: Tensor = network.pool(x)
    return pooled.flatten(1)


def _spread_logits(classifier: nn.Linear, features: Tensor) -> None:
    mean = features.mean(0)
    spread = (features - mean) @ classifier.weight.T
    classifier.weight.mul_(_LOGIT_SCALE / spread.std().clamp_min(1e-6))
    classifier.bias.copy_(-(classifier.weight @ mean))


def _pictures(network: Network, generator: torch.Generator) -> Tensor:
    """Random fields of several scales, coarse ones strongest, as in photographs: (N, 3, H, W)."""
    size = network.spec.preprocessing
    height, width = min(size.height, _SIDE), min(size.width, _SIDE)
    pictures = torch.zeros(_PICTURES, 3, height, width)
    for side in (1, 2, 4, 8, 16, 32, 64):
        field = torch.randn(_PICTURES, 3, side, side, generator=generator)
        pictures += F.interpolate(field, (height, width), mode="nearest") / side**0.5
    return pictures * (_CONTRAST / pictures.std())
