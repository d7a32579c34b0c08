"""Whose names a file of weights uses: ours, torchvision's, timm's and their ancestors'; torch-free.

Each naming is a walk over a spec's blocks that pairs our name of a layer with theirs, so a name
exists only for a layer that the spec has.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from edgese.models import blocks
from edgese.models.blocks import BlockShape, ConvShape, GateShape
from edgese.records.model import ModelSpec

Shape = tuple[int, ...]
Pairs = Iterator[tuple[str, str]]


class Layer(NamedTuple):
    """A module with parameters of its own; ``shape`` is its weight's."""

    name: str
    kind: Literal["conv", "norm", "linear"]
    shape: Shape
    bias: bool

    def tensors(self) -> dict[str, Shape]:
        """Names and shapes of what must be stored of it; BatchNorm's batch counter need not be."""
        if self.kind == "norm":
            return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), self.shape)
        bias = {"bias": self.shape[:1]} if self.bias else {}
        return {"weight": self.shape} | bias


class Naming(NamedTuple):
    """One project's names.

    Attributes:
        title: as messages call it.
        first: the names that its first convolution's weight may have; files are recognised by it.
        pairs: our and their names of the layers of a spec that it can describe.
        describes: whether it has names for networks of this kind at all.
        is_form: whether its networks pad, stride and normalise as the spec does. The names alone
            do not say so, and the shapes do not either.
    """

    title: str
    first: tuple[str, ...]
    pairs: Callable[[ModelSpec], Pairs]
    describes: Callable[[ModelSpec], bool]
    is_form: Callable[[ModelSpec], bool]


class StoredTensor(NamedTuple):
    """A tensor of a file: our name of it and its shape."""

    name: str
    shape: Shape


def recognised(names: Collection[str]) -> str | None:
    """The naming that a file's tensor names follow; None where it is none of ours."""
    for key, naming in NAMINGS.items():
        if any(first in names for first in naming.first):
            return key
    return None


def stored_tensors(spec: ModelSpec, naming: str) -> dict[str, StoredTensor] | None:
    """What a file in this naming holds for this spec, by the file's own names.

    None where the naming has no names for such a network.
    """
    chosen = NAMINGS[naming]
    if not chosen.describes(spec):
        return None
    theirs = dict(chosen.pairs(spec))
    return {
        f"{theirs[layer.name]}.{suffix}": StoredTensor(f"{layer.name}.{suffix}", shape)
        for layer in layers(spec)
        for suffix, shape in layer.tensors().items()
    }


def layers(spec: ModelSpec) -> Iterator[Layer]:
    """Every layer with parameters, named as in the built network."""
    for conv in blocks.stem(spec):
        yield from _conv_norm(conv, conv.name)
    for row in blocks.blocks(spec):
        for block in row:
            yield from _block(block)
    if (conv_head := blocks.head(spec)) is not None:
        yield from _conv_norm(conv_head, conv_head.name)
    if spec.classes:
        yield Layer("classifier", "linear", (spec.classes, blocks.features(spec)), bias=True)


def _block(block: BlockShape) -> Iterator[Layer]:
    for part in block.branch:
        if isinstance(part, ConvShape):
            yield from _conv_norm(part, f"{block.name}.branch.{part.name}")
        else:
            yield from _gate(part, f"{block.name}.branch.se")
    if block.shortcut:
        yield from _conv_norm(block.shortcut, f"{block.name}.shortcut")
    if block.shortcut_gate:
        yield from _gate(block.shortcut_gate, f"{block.name}.shortcut_se")
    if block.gate_after:
        yield from _gate(block.gate_after, f"{block.name}.se_after")


def _conv_norm(conv: ConvShape, name: str) -> Iterator[Layer]:
    shape = (conv.channels_out, conv.channels_in // conv.groups, conv.kernel, conv.kernel)
    yield Layer(f"{name}.conv", "conv", shape, bias=False)
    yield Layer(f"{name}.norm", "norm", (conv.channels_out,), bias=True)


def _gate(gate: GateShape, name: str) -> Iterator[Layer]:
    bias = gate.config.bias
    yield Layer(f"{name}.reduce", "conv", (gate.hidden, gate.channels, 1, 1), bias=bias)
    yield Layer(f"{name}.expand", "conv", (gate.channels, gate.hidden, 1, 1), bias=bias)


def _edgese(spec: ModelSpec) -> Pairs:
    return ((layer.name, layer.name) for layer in layers(spec))


def _torchvision(spec: ModelSpec) -> Pairs:
    yield from _unit("stem.conv0", "features.0.0", "features.0.1")
    for index, row in enumerate(blocks.blocks(spec), start=1):
        for position, block in enumerate(row):
            for number, part in enumerate(block.branch):
                theirs = f"features.{index}.{position}.block.{number}"
                if isinstance(part, ConvShape):
                    ours = f"{block.name}.branch.{part.name}"
                    yield from _unit(ours, f"{theirs}.0", f"{theirs}.1")
                else:
                    yield from _gate_pairs(block, f"{theirs}.fc1", f"{theirs}.fc2")
    last = f"features.{len(spec.stages) + 1}"
    yield from _unit("head.conv", f"{last}.0", f"{last}.1")
    yield "classifier", "classifier.1"


def _timm(spec: ModelSpec) -> Pairs:
    yield from _unit("stem.conv0", "conv_stem", "bn1")
    for index, (stage, row) in enumerate(zip(spec.stages, blocks.blocks(spec), strict=True)):
        for position, block in enumerate(row):
            theirs = f"blocks.{index}.{position}"
            ours = tuple(part.name for part in block.branch if isinstance(part, ConvShape))
            names = zip(ours, _TIMM_CONVS[stage.block, len(ours)], strict=True)
            for number, (name, conv) in enumerate(names, start=1):
                yield from _unit(
                    f"{block.name}.branch.{name}", f"{theirs}.{conv}", f"{theirs}.bn{number}"
                )
            yield from _gate_pairs(block, f"{theirs}.se.conv_reduce", f"{theirs}.se.conv_expand")
    yield from _unit("head.conv", "conv_head", "bn2")
    yield "classifier", "classifier"


# timm names a convolution by its role, and has another class of block where nothing is expanded.
_TIMM_CONVS: Final[Mapping[tuple[str, int], tuple[str, ...]]] = MappingProxyType(
    {
        ("mbconv", 2): ("conv_dw", "conv_pw"),
        ("mbconv", 3): ("conv_pw", "conv_dw", "conv_pwl"),
        ("fused_mbconv", 1): ("conv",),
        ("fused_mbconv", 2): ("conv_exp", "conv_pwl"),
    }
)


def _efficientnet_pytorch(spec: ModelSpec) -> Pairs:
    yield from _unit("stem.conv0", "_conv_stem", "_bn0")
    names = {
        "expand": ("_expand_conv", "_bn0"),
        "spatial": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    flat = (block for row in blocks.blocks(spec) for block in row)
    for number, block in enumerate(flat):
        theirs = f"_blocks.{number}"
        for ours, (conv, norm) in names.items():
            yield from _unit(f"{block.name}.branch.{ours}", f"{theirs}.{conv}", f"{theirs}.{norm}")
        yield from _gate_pairs(block, f"{theirs}._se_reduce", f"{theirs}._se_expand")
    yield from _unit("head.conv", "_conv_head", "_bn1")
    yield "classifier", "_fc"


def _resnet(spec: ModelSpec) -> Pairs:
    if len(spec.stem.channels) == 1:
        yield from _unit("stem.conv0", "conv1", "bn1")
    else:
        # A deep stem is one Sequential of convolution, norm, activation; its last norm is outside.
        last = len(spec.stem.channels) - 1
        for number in range(last):
            yield from _unit(f"stem.conv{number}", f"conv1.{3 * number}", f"conv1.{3 * number + 1}")
        yield from _unit(f"stem.conv{last}", f"conv1.{3 * last}", "bn1")
    yield from _residual_stages(spec, gate="se")
    yield "classifier", "fc"


def _senet(spec: ModelSpec) -> Pairs:
    for number in range(len(spec.stem.channels)):
        yield from _unit(f"stem.conv{number}", f"layer0.conv{number + 1}", f"layer0.bn{number + 1}")
    yield from _residual_stages(spec, gate="se_module")
    yield "classifier", "last_linear"


def _residual_stages(spec: ModelSpec, gate: str) -> Pairs:
    for index, row in enumerate(blocks.blocks(spec), start=1):
        for position, block in enumerate(row):
            theirs = f"layer{index}.{position}"
            convs = (part.name for part in block.branch if isinstance(part, ConvShape))
            for number, ours in enumerate(convs, start=1):
                yield from _unit(
                    f"{block.name}.branch.{ours}", f"{theirs}.conv{number}", f"{theirs}.bn{number}"
                )
            yield from _gate_pairs(block, f"{theirs}.{gate}.fc1", f"{theirs}.{gate}.fc2")
            yield from _unit(
                f"{block.name}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1"
            )


def _unit(ours: str, conv: str, norm: str) -> Pairs:
    yield f"{ours}.conv", conv
    yield f"{ours}.norm", norm


def _gate_pairs(block: BlockShape, reduce: str, expand: str) -> Pairs:
    yield f"{block.name}.branch.se.reduce", reduce
    yield f"{block.name}.branch.se.expand", expand


def _is_efficientnet(spec: ModelSpec) -> bool:
    return (
        all(stage.block in ("mbconv", "fused_mbconv") for stage in spec.stages)
        and _gates_are(spec, "spatial")
        and len(spec.stem.channels) == 1
        and spec.head.channels > 0
    )


def _is_first_generation(spec: ModelSpec) -> bool:
    return _is_efficientnet(spec) and all(stage.block == "mbconv" for stage in spec.stages)


def _is_resnet(spec: ModelSpec) -> bool:
    return (
        all(stage.block in ("basic", "bottleneck") for stage in spec.stages)
        and _gates_are(spec, "standard")
        and spec.head.channels == 0
    )


def _gates_are(spec: ModelSpec, placement: str) -> bool:
    return all(stage.se is None or stage.se.placement == placement for stage in spec.stages)


def _pads_evenly(spec: ModelSpec) -> bool:
    return spec.padding == "symmetric"


def _is_timm_form(spec: ModelSpec) -> bool:
    # timm's "tf_" networks have TensorFlow's eps with its padding, the others torch's with torch's.
    return spec.normalization.eps == (1e-5 if _pads_evenly(spec) else 1e-3)


def _is_caffe_form(spec: ModelSpec) -> bool:
    # The pool that rounds up comes with Caffe, and the stride in the 1x1 (of a ResNet) with it.
    return spec.stem.pool == "max_ceil"


NAMINGS: Final[Mapping[str, Naming]] = MappingProxyType(
    {
        "edgese": Naming(
            "edgese's own names",
            ("stem.conv0.conv.weight",),
            _edgese,
            describes=lambda _: True,
            is_form=lambda _: True,
        ),
        "torchvision": Naming(
            "torchvision's EfficientNet names",
            ("features.0.0.weight",),
            _torchvision,
            describes=_is_efficientnet,
            is_form=_pads_evenly,
        ),
        "timm": Naming(
            "timm's EfficientNet names",
            ("conv_stem.weight",),
            _timm,
            describes=_is_efficientnet,
            is_form=_is_timm_form,
        ),
        "efficientnet_pytorch": Naming(
            "the names of efficientnet_pytorch and efficientnet_lite_pytorch",
            ("_conv_stem.weight",),
            _efficientnet_pytorch,
            describes=_is_first_generation,
            is_form=lambda spec: not _pads_evenly(spec),
        ),
        "resnet": Naming(
            "torchvision's and timm's ResNet names",
            ("conv1.weight", "conv1.0.weight"),
            _resnet,
            describes=_is_resnet,
            is_form=lambda spec: not _is_caffe_form(spec),
        ),
        "senet": Naming(
            "the names of timm's legacy SENet",
            ("layer0.conv1.weight",),
            _senet,
            describes=_is_resnet,
            is_form=_is_caffe_form,
        ),
    }
)
