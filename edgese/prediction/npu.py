"""Qualcomm's NPU: from Qualcomm AI Hub's published figures."""

import math
from functools import cache
from typing import TYPE_CHECKING, Final

from edgese.prediction import ncnn, networks, tables
from edgese.prediction.regression import Effect
from edgese.prediction.study import Model, Query, Study, columns, fitted
from edgese.prediction.work import NPU, work

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME: Final = "qualcomm-npu"
SOURCE: Final = "https://pypi.org/project/qai-hub-models/0.65.0/"
PRECISIONS: Final = {"fp32": "float", "int8": "w8a8"}
# edgese's targets, as the table calls the runtimes that executed.
RUNTIMES: Final = {"tflite": "tflite", "onnxruntime": "onnx", "executorch": "qnn_dlc"}
# All were timed at 224 px, EfficientNet-B4 too.
RESOLUTION: Final = (224, 224)
EFFECTS: Final = (
    Effect("", "facts", 0.3),
    Effect("generation", "one", 0.4),
    Effect("generation", "shares", 0.3),
    Effect("device", "one", 0.4),
    Effect("device", "shares", 0.3),
    Effect("runtime", "one", 0.1),
    Effect("runtime", "shares", 0.2),
    Effect("setting", "one", 0.05),
    Effect("", "shares", 0.5),
    Effect("network", "one", 0.2),
)
_MIDDLE: Final = 74


@cache
def study(precision: str) -> Study:
    """The measurements of "fp32" (fp16 arithmetic) or "int8"."""
    import numpy as np

    generations = {each.name: each for each in tables.npus().devices}
    works, facts, log_ms = [], [], []
    groups: dict[str, list[str]] = {
        name: [] for name in ("generation", "soc", "device", "runtime", "setting", "network")
    }
    for row in tables.npu_rows():
        if row.precision != PRECISIONS[precision]:
            continue
        npu = generations.get(row.device)
        resolution, load = _counted(row.network)
        works.append(load)
        facts.append([(npu.generation - _MIDDLE) / 5 if npu else 0.0])
        log_ms.append(math.log(row.latency_ms))
        groups["generation"].append(f"v{npu.generation}" if npu else row.device)
        groups["soc"].append(row.device)
        groups["device"].append(row.device)
        groups["runtime"].append(row.runtime)
        groups["setting"].append(f"{row.device}, {row.runtime}")
        groups["network"].append(ncnn.key(row.network, resolution))
    return Study(
        NAME, precision, columns(works, facts, groups), np.array(log_ms), EFFECTS, (SOURCE,)
    )


@cache
def model(precision: str) -> Model:
    """The fit to all measurements."""
    return fitted(study(precision))


def found(soc: str) -> tables.Npu | None:
    """The NPU of a catalogued chip; one without a name was not measured, but its generation was."""
    known = tables.npus()
    for npu in (*known.devices, *known.unmeasured):
        if npu.soc in soc:
            return npu
    return None


def query(load: "NDArray[np.float64]", network: str, npu: tables.Npu, target: str) -> Query:
    """One network on one NPU."""
    device = npu.name or npu.soc
    runtime = RUNTIMES[target]
    return columns(
        [load],
        [[(npu.generation - _MIDDLE) / 5]],
        {
            "generation": [f"v{npu.generation}"],
            "soc": [device],
            "device": [device],
            "runtime": [runtime],
            "setting": [f"{device}, {runtime}"],
            "network": [network],
        },
    )


@cache
def _counted(name: str) -> tuple[tuple[int, int], "NDArray[np.float64]"]:
    from edgese.models.registry import models

    resolution, layers = networks.layers(name, RESOLUTION if name in models() else None)
    return resolution, work(layers, NPU)
