"""Predicts the latency of a network on a device that is not there, or tells why it cannot."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgese import catalog
from edgese.errors import ConfigError, MeasurementError, MissingDependency
from edgese.prediction import accelerators, ncnn, networks, npu, xnnpack
from edgese.prediction.networks import Layer
from edgese.prediction.study import Model, Query, Study, fitted, outside, with_rows
from edgese.prediction.tables import FOLDER
from edgese.prediction.work import CPU, NPU, work
from edgese.records.interval import Interval
from edgese.records.prediction import (
    Anchor,
    DeviceKnown,
    Evidence,
    EvidenceTable,
    NetworkKnown,
    Prediction,
)

if TYPE_CHECKING:
    from edgese.records.device import DeviceFacts

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


@dataclass(frozen=True)
class _Asked:
    """What is to be predicted, with everything looked up."""

    model: str
    resolution: tuple[int, int]
    layers: list[Layer]
    facts: "DeviceFacts"
    target: str
    unit: str
    precision: str
    threads: int | None
    anchors: tuple[Anchor, ...]

    @property
    def network(self) -> str:
        return ncnn.key(self.model, self.resolution)


@dataclass(frozen=True)
class _Found:
    """What a fit says, and what that rests on."""

    study: Study
    log_ms: float
    evidence: tuple[Evidence, ...]
    cautions: tuple[str, ...] = ()


def predict(
    model: str,
    device: "str | DeviceFacts",
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
        model: a model's name, a spec file, or a network in calibration/latency/networks.
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
    facts = catalog.device_facts(device) if isinstance(device, str) else device
    size, layers = networks.layers(model, resolution)
    unit = _unit(target, delegate)
    if facts.kind not in ("android", "linux"):
        raise MeasurementError(
            f"No published measurement reaches {facts.title or facts.name}: the tables are of "
            "Android phones and Arm boards.",
            hint="Measure it: edgese profile. Emulated devices count instructions, and Ethos-U is "
            "estimated by Vela.",
        )
    asked = _Asked(
        networks.ALIASES.get(model, model),
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
        "cpu": _ncnn if target == "ncnn" else _xnnpack,
        "gpu": _accelerator,
        "edgetpu": _accelerator,
        "npu": _npu,
    }[unit](asked)
    return _prediction(asked, found)


def evidence(
    fit: str, precision: str, device: DeviceKnown, network: NetworkKnown, anchors: int = 0
) -> Evidence:
    """The figures of the nearest way of leaving out that is not more favourable than the case.

    Raises:
        ConfigError: calibration/latency/evidence.toml has none.
    """
    path = catalog.data_file(f"{FOLDER}/evidence.toml")
    table = EvidenceTable.from_toml(path.read_bytes(), path)
    # Of too few networks no 90 % interval can be made; there are more chips to leave out.
    ways = ((device, network), ("facts", "new"))
    fitting = [
        each
        for way in ways
        for each in table.evidence
        if (each.fit, each.precision, each.device, each.network) == (fit, precision, *way)
        and each.anchors <= anchors
        and math.isfinite(each.spread)
    ]
    if not fitting:
        raise ConfigError(
            f"{path} has no evidence for {fit}, {precision}, {device} device, {network} network.",
            hint="Make it: python tests/bench/prediction.py --write.",
        )
    return max(fitting, key=lambda each: ((each.device, each.network) == ways[0], each.anchors))


def _require() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("numpy", "scipy", "sklearn") if find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"Prediction needs {', '.join(missing)}.", hint="pip install 'edgese[predict]'"
        )


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


def _threads(facts: "DeviceFacts", unit: str, threads: int | None) -> int | None:
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


def _ncnn(asked: _Asked) -> _Found:
    if asked.precision == "fp16":
        raise MeasurementError(
            "ncnn's measurements of floats are in fp16 arithmetic wherever a core has it.",
            hint="Ask for fp32.",
        )
    assert asked.threads is not None  # noqa: S101  # a processor has them
    study = ncnn.study(asked.precision)
    _refuse_unlike(study, asked, CPU)
    query = _of_processor(asked, asked.layers, asked.network)
    known, new = _device_known(asked, query), _network_known(study, asked)
    model = ncnn.model(asked.precision)
    if asked.anchors:
        study, model = _anchored(study, asked)
    return _Found(
        study,
        float(model.log_ms(query)[0]),
        (evidence(study.name, asked.precision, known, new, len(asked.anchors)),),
        ("The runtime is ncnn, which edgese does not convert to.",),
    )


def _xnnpack(asked: _Asked) -> _Found:
    facts, threads = asked.facts, asked.threads
    assert threads is not None  # noqa: S101  # a processor has them
    if asked.precision == "fp16":
        raise MeasurementError(
            "No published measurement is of XNNPACK in fp16.", hint="Ask for fp32 or int8."
        )
    if not xnnpack.reaches(facts.cores):
        raise MeasurementError(
            f"How XNNPACK compares with ncnn on {facts.cores[0].kind} cores was not measured: the "
            "step between them was seen on cores with fp16 arithmetic alone, which ncnn uses.",
            hint="--target ncnn predicts that runtime; edgese profile measures yours.",
        )
    start, study = ncnn.study("fp32"), xnnpack.study()
    _refuse_unlike(start, asked, CPU)
    ahead = ncnn.query(
        asked.layers, asked.network, facts.cores, threads, soc=facts.soc, board=facts.name
    )
    query = _of_xnnpack(asked, asked.layers, asked.network)
    chip = xnnpack.measured(facts.soc) != ncnn.UNKNOWN
    model = fitted(study)
    if asked.anchors:
        study, model = _anchored(study, asked)
    step = evidence(study.name, "all", "measured", "new")
    cautions = ["ncnn is predicted first, and a step from there to XNNPACK."]
    if chip:
        found: tuple[Evidence, ...] = (step,)
    else:
        known, new = _device_known(asked, ahead), _network_known(start, asked)
        found = (evidence(start.name, "fp32", known, new, len(asked.anchors)), step)
        cautions.append(
            f"XNNPACK was not measured on this chip; the step was seen on "
            f"{len(set(study.rows.groups['soc']) - {ncnn.UNKNOWN})} chips."
        )
    return _Found(study, float(model.log_ms(query)[0]), found, tuple(cautions))


def _accelerator(asked: _Asked) -> _Found:
    study = accelerators.study()
    soc = xnnpack.measured(asked.facts.soc)
    level = accelerators.unit(soc, asked.unit, asked.precision)
    if level not in set(study.rows.groups["unit"]):
        what = asked.facts.gpu if asked.unit == "gpu" else asked.facts.npu
        raise MeasurementError(
            f"No published measurement is of {what or 'the ' + asked.unit} of "
            f"{asked.facts.title or asked.facts.name} in {asked.precision}, and one "
            f"{asked.unit} says nothing of another.",
            hint=f"Measured: {'; '.join(sorted(set(study.rows.groups['unit'])))}. "
            "Others have to be measured: edgese profile.",
        )
    _refuse_unlike(study, asked, NPU)
    query = accelerators.query(work(asked.layers, NPU), asked.network, soc, level)
    count = int((study.rows.groups["unit"] == level).sum())
    cautions = (f"{count} networks were measured there.",)
    found = float(fitted(study).log_ms(query)[0])
    return _Found(study, found, (evidence(study.name, "all", "measured", "new"),), cautions)


def _npu(asked: _Asked) -> _Found:
    chip = npu.found(asked.facts.soc)
    if chip is None or asked.precision not in npu.PRECISIONS:
        raise MeasurementError(
            f"No published measurement is of the NPU of {asked.facts.title or asked.facts.name} "
            f"({asked.facts.npu or 'none known'}) in {asked.precision}.",
            hint="Qualcomm's NPUs are known, in fp32 (computed in fp16) and int8.",
        )
    study = npu.study(asked.precision)
    _refuse_unlike(study, asked, NPU)
    query = npu.query(work(asked.layers, NPU), asked.network, chip, asked.target)
    known: DeviceKnown = "measured" if chip.name else "facts"
    cautions = ["The figures are Qualcomm's own, of pictures of 224 px."]
    if not chip.name:
        cautions.append(
            f"This chip was not measured; its NPU's generation, v{chip.generation}, was."
        )
    if asked.target == "executorch":
        cautions.append("The runtime measured is Qualcomm's own, which ExecuTorch calls.")
    found = evidence(study.name, asked.precision, known, _network_known(study, asked))
    log_ms = float(npu.model(asked.precision).log_ms(query)[0])
    return _Found(study, log_ms, (found,), tuple(cautions))


def _of_processor(asked: _Asked, layers: list[Layer], network: str) -> Query:
    assert asked.threads is not None  # noqa: S101  # a processor has them
    facts = asked.facts
    query = ncnn.query(layers, network, facts.cores, asked.threads, soc=facts.soc, board=facts.name)
    if asked.anchors:
        # So that what the anchors say is said of this device, whatever chip it has.
        return _renamed(query, "device", f"anchored {facts.name}")
    return query


def _of_xnnpack(asked: _Asked, layers: list[Layer], network: str) -> Query:
    assert asked.threads is not None  # noqa: S101  # a processor has them
    facts = asked.facts
    query = xnnpack.query(
        layers,
        network,
        facts.cores,
        asked.threads,
        soc=facts.soc,
        board=facts.name,
        precision=asked.precision,
    )
    if asked.anchors and query.groups["soc"][0] == ncnn.UNKNOWN:
        return _renamed(query, "soc", f"anchored {facts.name}")
    return query


def _renamed(query: Query, group: str, name: str) -> Query:
    import numpy as np

    return dataclasses.replace(query, groups={**query.groups, group: np.array([name])})


def _anchored(study: Study, asked: _Asked) -> tuple[Study, Model]:
    """The study with the caller's measurements, fitted anew."""
    import numpy as np

    make = _of_processor if study.name == ncnn.NAME else _of_xnnpack
    joined = study
    for anchor in asked.anchors:
        if not (math.isfinite(anchor.latency_ms) and anchor.latency_ms > 0):
            raise ConfigError(
                f"{anchor.latency_ms} ms is no latency of {anchor.model}.",
                hint="Give what you measured.",
            )
        size, layers = networks.layers(anchor.model, anchor.resolution)
        name = ncnn.key(networks.ALIASES.get(anchor.model, anchor.model), size)
        joined = with_rows(
            joined, make(asked, layers, name), np.array([math.log(anchor.latency_ms)])
        )
    return joined, fitted(joined)


def _device_known(asked: _Asked, query: Query) -> DeviceKnown:
    if asked.anchors:
        return "anchored"
    return "facts" if query.groups["device"][0] == ncnn.UNKNOWN else "measured"


def _network_known(study: Study, asked: _Asked) -> NetworkKnown:
    # Where the device was measured too, the fit has seen the very row; what is told is what it
    # would be off without.
    return "measured" if asked.network in set(study.rows.groups[study.network]) else "new"


def _refuse_unlike(study: Study, asked: _Asked, prior: tuple[float, ...]) -> None:
    if reason := outside(study, work(asked.layers, prior)):
        raise MeasurementError(
            f"{asked.model} at {asked.resolution[0]}x{asked.resolution[1]} px is unlike the "
            f"networks that were measured ({study.name}, {asked.precision}): {reason}.",
            hint="Measure it: edgese profile.",
        )


def _prediction(asked: _Asked, found: _Found) -> Prediction:
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
        rows=len(found.study.log_ms) - len(asked.anchors),
        evidence=found.evidence,
        sources=found.study.sources,
        anchors=asked.anchors,
        cautions=found.cautions,
    )
