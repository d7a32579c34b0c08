"""Counts what a network costs from its rows, without torch."""

import itertools
from collections.abc import Sequence

import msgspec

from edgese.models.operators import Operator, live_bytes, operators
from edgese.paths import check_type
from edgese.records.model import GateShare, ModelCost, ModelSpec, StageCost


def cost(spec: ModelSpec, height: int | None = None, width: int | None = None) -> ModelCost:
    """What one picture costs at a resolution; the spec's own where none is given.

    Raises:
        ConfigError: a resolution that the network cannot run at.
    """
    check_type("spec", spec, ModelSpec)
    height = spec.preprocessing.height if height is None else height
    width = spec.preprocessing.width if width is None else width
    steps = operators(spec, height, width)
    counts = _count(steps, live_bytes(steps))
    plain_steps = operators(without_gates(spec), height, width)
    plain = _count(plain_steps, live_bytes(plain_steps))
    return ModelCost(
        model=spec.name,
        height=height,
        width=width,
        parameters=counts.parameters,
        macs=counts.macs,
        paper_flops=counts.paper_flops,
        peak_activation_bytes=counts.peak_activation_bytes,
        gate_weights=sum(step.weights for step in steps if step.in_gate),
        gate_share=_share(counts, plain),
        stages=_stages(spec, steps, plain_steps),
    )


def without_gates(spec: ModelSpec) -> ModelSpec:
    """The same network with every squeeze-and-excitation gate taken out."""
    stages = tuple(msgspec.structs.replace(stage, se=None) for stage in spec.stages)
    return msgspec.structs.replace(spec, stages=stages)


class _Counts(msgspec.Struct, frozen=True):
    parameters: int
    macs: int
    paper_flops: int
    peak_activation_bytes: int


def _count(steps: Sequence[Operator], alive: Sequence[int]) -> _Counts:
    return _Counts(
        parameters=sum(step.parameters for step in steps),
        macs=sum(step.macs for step in steps),
        paper_flops=sum(step.paper_flops for step in steps),
        peak_activation_bytes=max(alive),
    )


def _share(counts: _Counts, plain: _Counts) -> GateShare:
    return GateShare(
        parameters=_lost(plain.parameters, counts.parameters),
        macs=_lost(plain.macs, counts.macs),
        paper_flops=_lost(plain.paper_flops, counts.paper_flops),
        peak_activation_bytes=_lost(plain.peak_activation_bytes, counts.peak_activation_bytes),
    )


def _lost(without: int, whole: int) -> float:
    # A head that is a pool alone has neither parameters nor multiply-adds.
    return 1 - without / whole if whole else 0.0


def _stages(
    spec: ModelSpec, steps: Sequence[Operator], plain_steps: Sequence[Operator]
) -> tuple[StageCost, ...]:
    plain = {name: counts for name, _, counts in _by_stage(plain_steps)}
    kinds = {
        "stem": ("stem", len(spec.stem.channels)),
        "head": ("head", 1 if spec.head.channels else 0),
    } | {f"stages.{index}": (stage.block, stage.depth) for index, stage in enumerate(spec.stages)}
    rows = []
    for name, group, counts in _by_stage(steps):
        kind, depth = kinds[name]
        output = group[-1].output
        rows.append(
            StageCost(
                name=name,
                kind=kind,
                depth=depth,
                channels=output.channels,
                height=output.height,
                width=output.width,
                gates=sum(step.scales for step in group),
                parameters=counts.parameters,
                macs=counts.macs,
                paper_flops=counts.paper_flops,
                peak_activation_bytes=counts.peak_activation_bytes,
                gate_share=_share(counts, plain[name]),
            )
        )
    return tuple(rows)


def _by_stage(steps: Sequence[Operator]) -> list[tuple[str, list[Operator], _Counts]]:
    groups = itertools.groupby(
        zip(steps, live_bytes(steps), strict=True), key=lambda pair: pair[0].stage
    )
    rows = []
    for name, pairs in groups:
        group, alive = zip(*pairs, strict=True)
        rows.append((name, list(group), _count(group, alive)))
    return rows
