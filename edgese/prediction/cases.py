"""What each runtime's fit says of a network on a device, and why it says nothing of some."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgese.errors import ConfigError, MeasurementError
from edgese.prediction import accelerators, ncnn, networks, npu, tables, xnnpack
from edgese.prediction.evidence import evidence
from edgese.prediction.networks import Layer
from edgese.prediction.study import Model, Query, Study, fitted, outside, with_rows
from edgese.prediction.work import CPU, NPU, work
from edgese.records.prediction import Anchor, DeviceKnown, Evidence, NetworkKnown

if TYPE_CHECKING:
    from edgese.records.device import DeviceFacts


@dataclass(frozen=True)
class Asked:
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
        """As a level of the group "network"."""
        return ncnn.key(self.model, self.resolution)


@dataclass(frozen=True)
class Found:
    """What a fit says, and what that rests on."""

    study: Study
    log_ms: float
    evidence: tuple[Evidence, ...]
    rows: int
    cautions: tuple[str, ...] = ()


def on_ncnn(asked: Asked) -> Found:
    """On a processor, by ncnn."""
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
    return Found(
        study,
        float(model.log_ms(query)[0]),
        (evidence(study.name, asked.precision, known, new, len(asked.anchors)),),
        len(ncnn.study(asked.precision).log_ms),
        ("The runtime is ncnn, which edgese does not convert to.",),
    )


def on_xnnpack(asked: Asked) -> Found:
    """On a processor, by XNNPACK in TFLite."""
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
    if any(
        row.threads is None
        for row in tables.runtime_rows()
        if row.delegate == "cpu" and tables.litert_devices()[row.device].soc in facts.soc
    ):
        cautions.append(
            "The source does not tell its threads; the figure is for as many as it took."
        )
    rows = len(start.log_ms) + len(xnnpack.study().log_ms)
    return Found(study, float(model.log_ms(query)[0]), found, rows, tuple(cautions))


def on_accelerator(asked: Asked) -> Found:
    """On a GPU by LiteRT, or on the Pixel 4's Edge TPU."""
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
    told = evidence(study.name, "all", "measured", "new")
    return Found(study, found, (told,), len(study.log_ms), cautions)


def on_npu(asked: Asked) -> Found:
    """On Qualcomm's NPU."""
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
    return Found(study, log_ms, (found,), len(study.log_ms), tuple(cautions))


def _of_processor(asked: Asked, layers: list[Layer], network: str) -> Query:
    assert asked.threads is not None  # noqa: S101  # a processor has them
    facts = asked.facts
    query = ncnn.query(layers, network, facts.cores, asked.threads, soc=facts.soc, board=facts.name)
    if asked.anchors:
        # So that what the anchors say is said of this device, whatever chip it has.
        return _renamed(query, "device", f"anchored {facts.name}")
    return query


def _of_xnnpack(asked: Asked, layers: list[Layer], network: str) -> Query:
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


def _anchored(study: Study, asked: Asked) -> tuple[Study, Model]:
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


def _device_known(asked: Asked, query: Query) -> DeviceKnown:
    if asked.anchors:
        return "anchored"
    return "facts" if query.groups["device"][0] == ncnn.UNKNOWN else "measured"


def _network_known(study: Study, asked: Asked) -> NetworkKnown:
    # Where the device was measured too, the fit has seen the very row; what is told is what it
    # would be off without.
    return "measured" if asked.network in set(study.rows.groups[study.network]) else "new"


def _refuse_unlike(study: Study, asked: Asked, prior: tuple[float, ...]) -> None:
    if reason := outside(study, work(asked.layers, prior)):
        raise MeasurementError(
            f"{asked.model} at {asked.resolution[0]}x{asked.resolution[1]} px is unlike the "
            f"networks that were measured ({study.name}, {asked.precision}): {reason}.",
            hint="Measure it: edgese profile.",
        )
