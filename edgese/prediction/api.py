"""Predicts the latency of a network on a device that is not there, or tells why it cannot."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edgese import catalog
from edgese.errors import ConfigError, MeasurementError, MissingDependency
from edgese.paths import check_type
from edgese.prediction import cases, networks, npu
from edgese.prediction.cases import Asked, Found
from edgese.prediction.networks import Layer
from edgese.records.base import Interval
from edgese.records.device import DeviceFacts
from edgese.records.model import ModelSpec
from edgese.records.prediction import Anchor, Prediction

# A prediction can be of a runtime that edgese does not convert to.
TARGETS: Final = ("ncnn", "tflite", "executorch", "onnxruntime")
# What the delegates of targets are called here.
UNITS: Final = {
    "cpu": "cpu",
    "xnnpack": "cpu",
    "gpu": "gpu",
    "npu": "npu",
    "qnn": "npu",
    "edgetpu": "edgetpu",
}
_THREADS: Final = 4
_PRECISIONS: Final = ("fp32", "fp16", "int8")


def predict(
    model: str | Path | ModelSpec,
    device: str | DeviceFacts,
    *,
    target: str = "tflite",
    delegate: str = "cpu",
    recipe: str = "fp32",
    resolution: tuple[int, int] | None = None,
    threads: int | None = None,
    anchors: Sequence[Anchor] = (),
) -> Prediction:
    """Latency of one picture, with a 90 % interval, from published measurements of other runs.

    Args:
        model: a model's name, a spec file, a spec, or a network in calibration/latency/networks.
        device: a name in the catalogue of devices, or its facts.
        target: a runtime; "ncnn" is one that edgese does not convert to, and the best known.
        delegate: "cpu", "gpu", "npu" or "edgetpu", or a target's own name for it.
        recipe: "fp32", "fp16" (of a GPU) or an int8 one.
        threads: of the processor; 4, or as many as there are cores.
        anchors: latencies that you measured on the device in just this way; one makes predictions
            of other networks there much closer.

    Raises:
        ConfigError: an unknown name.
        MeasurementError: no measurement reaches what is asked; the message says why.
        MissingDependency: the extra ``predict`` is not installed.
    """
    _require()
    check_type("model", model, str, Path, ModelSpec)
    check_type("device", device, str, DeviceFacts)
    facts = catalog.device_facts(device) if isinstance(device, str) else device
    name, size, layers = _network(str(model) if isinstance(model, Path) else model, resolution)
    unit = _unit(target, delegate)
    if facts.kind not in ("android", "linux"):
        raise MeasurementError(
            f"No published measurement reaches {facts.title or facts.name}: the tables are of "
            "Android phones and Arm boards.",
            hint="Measure it: edgese profile. Emulated devices count instructions, and Ethos-U is "
            "estimated by Vela.",
        )
    asked = Asked(
        name,
        size,
        layers,
        facts,
        target,
        unit,
        _precision(recipe),
        _threads(facts, unit, threads),
        tuple(anchors),
    )
    if anchors and unit != "cpu":
        raise ConfigError(
            f"Anchors were given, and the fit of the {unit} cannot take any.",
            hint="Leave them out, or predict the processor.",
        )
    found = {
        "cpu": cases.on_ncnn if target == "ncnn" else cases.on_xnnpack,
        "gpu": cases.on_accelerator,
        "edgetpu": cases.on_accelerator,
        "npu": cases.on_npu,
    }[unit](asked)
    return _prediction(asked, found)


def _require() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("numpy", "scipy", "sklearn") if find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"Prediction needs {', '.join(missing)}.", hint="pip install 'edgese[predict]'"
        )


def _network(
    model: str | ModelSpec, resolution: tuple[int, int] | None
) -> tuple[str, tuple[int, int], list[Layer]]:
    """Name, resolution and layers. A spec that only has a measured network's name is another."""
    if isinstance(model, str):
        return (networks.ALIASES.get(model, model), *networks.layers(model, resolution))
    from edgese.models.registry import models

    named = models().get(model.name)
    same = named is not None and (named.stem, named.stages, named.head, named.classes) == (
        model.stem,
        model.stages,
        model.head,
        model.classes,
    )
    name = model.name if same else f"{model.name} (a spec of your own)"
    return (name, *networks.of_spec(model, resolution))


def _unit(target: str, delegate: str) -> str:
    if target not in TARGETS:
        raise ConfigError(
            f"No latency of the target {target!r} can be predicted.",
            hint=f"Known: {', '.join(TARGETS)}.",
        )
    if delegate not in UNITS:
        raise ConfigError(
            f"There is no delegate {delegate!r} to predict.", hint=f"Known: {', '.join(UNITS)}."
        )
    unit = UNITS[delegate]
    reached = {
        "cpu": ("ncnn", "tflite"),
        "gpu": ("tflite",),
        "edgetpu": ("tflite",),
        "npu": tuple(npu.RUNTIMES),
    }[unit]
    if target not in reached:
        raise MeasurementError(
            f"No published measurement is of {target} on the {unit}.",
            hint=f"Measured on the {unit}: {', '.join(reached)} (--target).",
        )
    return unit


def _precision(recipe: str) -> str:
    precision = recipe.partition("-")[0]
    if precision not in _PRECISIONS or recipe == "int8-weights":
        raise MeasurementError(
            f"No published measurement is of the recipe {recipe}.",
            hint=f"Known precisions: {', '.join(_PRECISIONS)}.",
        )
    return precision


def _threads(facts: DeviceFacts, unit: str, threads: int | None) -> int | None:
    if unit != "cpu":
        if threads is not None:
            raise ConfigError(
                f"Threads were asked for, and the {unit} has none.", hint="Leave --threads out."
            )
        return None
    cores = sum(each.count for each in facts.cores)
    if threads is None:
        return min(_THREADS, cores) or _THREADS
    if threads < 1 or (cores and threads > cores):
        raise ConfigError(
            f"{threads} threads were asked for, and {facts.name} has {cores} cores.",
            hint=f"Give 1 to {cores}.",
        )
    return threads


def _prediction(asked: Asked, found: Found) -> Prediction:
    spread = math.exp(math.hypot(*(math.log(each.spread) for each in found.evidence)))
    latency = math.exp(found.log_ms)
    return Prediction(
        model=asked.model,
        device=asked.facts.name,
        target=asked.target,
        delegate=asked.unit,
        precision=asked.precision,
        threads=asked.threads,
        resolution=asked.resolution,
        latency_ms=latency,
        interval=Interval(low=latency / spread, high=latency * spread, confidence=0.9),
        rows=found.rows,
        evidence=found.evidence,
        sources=found.study.sources,
        anchors=asked.anchors,
        cautions=found.cautions,
    )
