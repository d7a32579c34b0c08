"""LiteRT's GPU delegate and the Pixel 4's Edge TPU, of chips that were measured and no others."""

import math
from functools import cache
from typing import TYPE_CHECKING, Final

from edgese.prediction import ncnn, tables, xnnpack
from edgese.prediction.regression import Effect
from edgese.prediction.study import Query, Study, columns
from edgese.prediction.work import NPU

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME: Final = "litert-accelerator"
EFFECTS: Final = (
    Effect("unit", "one", 1.5),
    Effect("", "facts", 0.2),
    Effect("unit", "facts", 0.1),
    Effect("", "shares", 0.4),
    Effect("unit", "shares", 0.2),
)


def unit(soc: str, delegate: str, precision: str) -> str:
    """What executes, as a level of the group "unit"."""
    return f"{soc}, {delegate}, {precision}"


@cache
def study() -> Study:
    """LiteRT's rows of GPUs and of the Edge TPU."""
    import numpy as np

    devices = tables.litert_devices()
    works, units, names, chips, log_ms = [], [], [], [], []
    for row in tables.runtime_rows():
        if row.delegate == "cpu":
            continue
        network, load = ncnn.counted(row.network, NPU)
        works.append(load)
        names.append(network)
        chips.append(devices[row.device].soc)
        units.append(unit(chips[-1], row.delegate, row.precision))
        log_ms.append(math.log(row.latency_ms))
    return Study(
        NAME,
        "all",
        columns(
            works,
            [[math.log(load.sum())] for load in works],
            {"unit": units, "network": names, "soc": chips},
        ),
        np.array(log_ms),
        EFFECTS,
        (xnnpack.LITE, xnnpack.BOARD),
        costs=np.ones(len(NPU)),
    )


def query(load: "NDArray[np.float64]", network: str, soc: str, level: str) -> Query:
    """One network on one unit; see `unit`."""
    return columns(
        [load],
        [[math.log(load.sum())]],
        {"unit": [level], "network": [network], "soc": [soc]},
    )
