"""From a spec to a torch module: one builder for every family."""

from collections import OrderedDict
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from edgese.errors import ConfigError, stage
from edgese.models import blocks
from edgese.models.blocks import BlockShape, ConvShape, GateShape
from edgese.models.layers import ACTIVATIONS, ConvNorm, SqueezeExcitation, StochasticDepth
from edgese.paths import check_type
from edgese.program.export import STATELESS
from edgese.records.model import ModelSpec, Stem


def build(spec: ModelSpec) -> "Network":
    """The network that ``spec`` describes, freshly initialised, in training mode.

    Raises:
        ConfigError: it has tensors that torch cannot make, such as ones of more than all memory.
    """
    check_type("spec", spec, ModelSpec)
    with _sized(spec):
        return Network(spec)


def build_empty(spec: ModelSpec) -> "Network":
    """The network, in training mode, with weights that nothing has filled.

    Raises:
        ConfigError: as `build`.
    """
    # Nothing that is overwritten at once needs to be initialised first.
    with torch.device("meta"):
        network = build(spec)
    with _sized(spec):
        return network.to_empty(device="cpu")


def _sized(spec: ModelSpec) -> AbstractContextManager[None]:
    """Return what turns torch's refusal to make tensors into an error."""
    hint = "A layer is likely too large for this machine; see its channels and classes."
    return stage(f"build {spec.name}", ConfigError, hint=hint)


class Block(nn.Module):
    """A residual branch and its shortcut; every kind of stage is made of this."""

    def __init__(self, shape: BlockShape, spec: ModelSpec) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            OrderedDict(
                (part.name, _conv(part, spec)) if isinstance(part, ConvShape) else ("se", _se(part))
                for part in shape.branch
            )
        )
        self.shortcut = _conv(shape.shortcut, spec) if shape.shortcut else None
        self.shortcut_se = _se(shape.shortcut_gate) if shape.shortcut_gate else None
        self.drop = StochasticDepth(shape.stochastic_depth) if shape.residual else None
        self.act = ACTIVATIONS[spec.activation]() if shape.active else None
        self.se_after = _se(shape.gate_after) if shape.gate_after else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride), rounded up."""
        y: Tensor = self.branch(x)
        if self.drop is not None:
            shortcut = x if self.shortcut is None else self.shortcut(x)
            if self.shortcut_se is not None:
                shortcut = self.shortcut_se(shortcut)
            y = self.drop(y) + shortcut
        if self.act is not None:
            y = self.act(y)
        return y if self.se_after is None else self.se_after(y)


class Network(nn.Module):
    """A network built from its spec.

    Attributes:
        spec: what it was built from.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        setattr(self, STATELESS, True)
        self.spec = spec
        self.stem = nn.Sequential(
            OrderedDict((conv.name.split(".")[1], _conv(conv, spec)) for conv in blocks.stem(spec))
        )
        if (pool := _pool(spec.stem)) is not None:
            self.stem.add_module("pool", pool)
        self.stages = nn.Sequential(
            *(nn.Sequential(*(Block(shape, spec) for shape in row)) for row in blocks.blocks(spec))
        )
        head = blocks.head(spec)
        self.head = nn.Sequential(OrderedDict(conv=_conv(head, spec))) if head else None
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(spec.head.dropout)
        self.classifier = nn.Linear(blocks.features(spec), spec.classes) if spec.classes else None
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to logits.

        Args:
            x: (N, 3, H, W), preprocessed as ``spec.preprocessing`` says.

        Returns:
            (N, classes), or (N, features) where the spec has no classes.
        """
        x = self.stages(self.stem(x))
        if self.head is not None:
            x = self.head(x)
        x = self.pool(x).flatten(1)
        return x if self.classifier is None else self.classifier(self.dropout(x))


def _conv(shape: ConvShape, spec: ModelSpec) -> ConvNorm:
    norm = spec.normalization
    return ConvNorm(
        shape.channels_in,
        shape.channels_out,
        kernel=shape.kernel,
        stride=shape.stride,
        groups=shape.groups,
        padding=spec.padding,
        norm=partial(nn.BatchNorm2d, eps=norm.eps, momentum=norm.momentum),
        activation=spec.activation if shape.active else None,
    )


def _se(shape: GateShape) -> SqueezeExcitation:
    return SqueezeExcitation(shape.channels, shape.hidden, shape.config)


def _pool(stem: Stem) -> nn.Module | None:
    if stem.pool == "none":
        return None
    ceil = stem.pool == "max_ceil"
    return nn.MaxPool2d(3, 2, padding=0 if ceil else 1, ceil_mode=ceil)


def _initialise(network: nn.Module) -> None:
    """He et al.'s normal initialisation by fan-out (arXiv:1502.01852); a uniform classifier.

    Logits are sums over features, so the classifier's bound is that of LeCun et al. ("Efficient
    BackProp", 1998) by the number of features, which torch and torchvision's ResNets have too.
    EfficientNet's own, by the number of classes, is near it for ImageNet's thousand, and makes
    logits of standard deviation 8 for five classes on trained features.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)
