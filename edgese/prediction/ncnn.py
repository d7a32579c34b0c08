"""Latency of ncnn on a processor: from its published benchmark on boards and phones."""

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from edgese.prediction import networks, processors, tables
from edgese.prediction.networks import Layer
from edgese.prediction.processors import Cluster
from edgese.prediction.regression import Effect
from edgese.prediction.study import Model, Query, Study, columns, fitted
from edgese.prediction.work import work

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME: Final = "ncnn-cpu"
PRECISIONS: Final = ("fp32", "int8")
SOURCE: Final = "https://github.com/Tencent/ncnn/blob/master/benchmark/README.md"
# Sizes as a marginal-likelihood fit of a Gaussian process with these groups gave them, rounded.
EFFECTS: Final = (
    Effect("", "facts", 0.5),
    Effect("", "facts x shares", 0.8),
    Effect("kind", "one", 0.25),
    Effect("kind", "shares", 0.5),
    Effect("soc", "one", 0.15),
    Effect("soc", "shares", 0.2),
    Effect("device", "one", 0.2),
    Effect("device", "shares", 0.25),
    Effect("setting", "one", 0.08),
    Effect("setting", "shares", 0.2),
    Effect("network", "one", 0.1),
    Effect("network", "facts", 0.08),
)
# The benchmark's networks that are models here: its ResNet-50 is Caffe's, with the stride in 1x1.
MODELS: Final = {
    "efficientnetv2_b0": "efficientnet_v2_b0",
    "resnet50": "resnet50_v1",
}
UNKNOWN: Final = "-"


def key(model: str, resolution: tuple[int, int]) -> str:
    """A network at a resolution, as a level of the group "network"."""
    return f"{model}@{resolution[0]}x{resolution[1]}"


@cache
def counted(
    model: str, prior: tuple[float, ...] | None = None
) -> tuple[str, "NDArray[np.float64]"]:
    """Key and work of a network at its own resolution."""
    resolution, found = networks.layers(model, None)
    return key(model, resolution), work(found) if prior is None else work(found, prior)


@cache
def study(precision: str) -> Study:
    """The measurements of "fp32" (fp16 arithmetic where a core has it) or "int8"."""
    devices = tables.measured_devices()
    works, facts, log_ms = [], [], []
    groups: dict[str, list[str]] = {
        name: [] for name in ("kind", "soc", "device", "setting", "network")
    }
    for row in tables.cpu_rows():
        if row.precision != precision:
            continue
        device = devices[row.device]
        running = processors.executing(device.cores, row.powersave)
        kind, known = processors.facts(running, row.threads)
        network, load = counted(MODELS.get(row.network, row.network))
        works.append(load)
        facts.append(known)
        log_ms.append(math.log(row.mean_ms))
        groups["kind"].append(kind)
        groups["soc"].append(device.soc)
        groups["device"].append(device.name)
        groups["setting"].append(f"{row.device}, {row.threads} threads, powersave {row.powersave}")
        groups["network"].append(network)
    import numpy as np

    return Study(
        NAME, precision, columns(works, facts, groups), np.array(log_ms), EFFECTS, (SOURCE,)
    )


@cache
def model(precision: str) -> Model:
    """The fit to all measurements."""
    return fitted(study(precision))


def query(
    layers: Sequence[Layer],
    network: str,
    cores: Sequence[Cluster],
    threads: int,
    *,
    soc: str,
    board: str = "",
) -> Query:
    """One network on one device.

    Args:
        network: see `key`.
        soc: the chip as the catalogue has it; the measured one that it names, if any, is found.
        board: name in the catalogue of devices.

    Raises:
        MeasurementError: a core of whose kind or clock nothing is known.
    """
    kind, known = processors.facts(cores, threads)
    chip, device = measured(soc, board)
    return columns(
        [work(layers)],
        [known],
        {
            "kind": [kind],
            "soc": [chip],
            "device": [device],
            "setting": [f"{board or soc}, {threads} threads"],
            "network": [network],
        },
    )


def measured(soc: str, board: str) -> tuple[str, str]:
    """The measured chip and board that a catalogued device is; `UNKNOWN` where it is none."""
    devices = tables.measured_devices().values()
    chips = {each.soc for each in devices if each.soc.lower() in soc.lower()}
    boards = {each.name for each in devices if each.catalogue and each.catalogue == board}
    return max(chips, key=len, default=UNKNOWN), max(boards, default=UNKNOWN)
