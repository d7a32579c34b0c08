"""The step from ncnn to XNNPACK in TFLite: a model of its own, on a prediction of ncnn."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Final

from edgese.prediction import ncnn, networks, processors, tables
from edgese.prediction.networks import Layer
from edgese.prediction.processors import Cluster
from edgese.prediction.regression import Effect
from edgese.prediction.study import Query, Study, columns

NAME: Final = "xnnpack-cpu"
LITE: Final = (
    "https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/lite/README.md"
)
BOARD: Final = "https://github.com/google-ai-edge/litert-samples/blob/main/benchmark/leaderboard/data/board.json"
EFFECTS: Final = (
    Effect("precision", "one", 0.7),
    Effect("", "shares", 0.5),
    Effect("soc", "one", 0.4),
    Effect("soc", "shares", 0.4),
    Effect("precision", "shares", 0.3),
)
# The leaderboard does not tell its threads; these are the benchmark's in the other source.
THREADS: Final = 4


# Shuffled channels are slow in ncnn and not in XNNPACK; no network that edgese builds has them.
LEFT_OUT: Final = ("shufflenet_v2",)


@cache
def study() -> Study:
    """LiteRT's rows of the processor, each with what ncnn is predicted to take for it."""
    import numpy as np

    devices = tables.litert_devices()
    queries, log_ms = [], []
    for row in tables.runtime_rows():
        if row.delegate != "cpu" or row.network in LEFT_OUT:
            continue
        device = devices[row.device]
        resolution, layers = networks.layers(row.network, None)
        queries.append(
            query(
                layers,
                ncnn.key(row.network, resolution),
                device.cores,
                row.threads or THREADS,
                soc=device.soc,
                board=device.catalogue,
                precision=row.precision,
            )
        )
        log_ms.append(math.log(row.latency_ms))
    return Study(
        NAME,
        "all",
        _joined(queries),
        np.array(log_ms),
        EFFECTS,
        (ncnn.SOURCE, LITE, BOARD),
        costs=ncnn.model("fp32").costs,
    )


def query(
    layers: Sequence[Layer],
    network: str,
    cores: Sequence[Cluster],
    threads: int,
    *,
    soc: str,
    board: str,
    precision: str,
) -> Query:
    """One network on one device; int8 starts from ncnn's fp32 as well, of which more is measured.

    Raises:
        MeasurementError: a core of whose kind or clock nothing is known.
    """
    asked = ncnn.query(layers, network, cores, threads, soc=soc, board=board)
    return columns(
        list(asked.work),
        [[0.0]],
        {"soc": [measured(soc)], "precision": [precision], "network": [network]},
        list(ncnn.model("fp32").log_ms(asked)),
    )


def measured(soc: str) -> str:
    """The chip of litert.csv that a catalogued one is, or `ncnn.UNKNOWN`."""
    chips = {each.soc for each in tables.litert_devices().values() if each.soc in soc}
    return max(chips, key=len, default=ncnn.UNKNOWN)


def reaches(cores: Sequence[Cluster]) -> bool:
    """Whether the fastest core is like those that the step was seen on: with fp16 arithmetic.

    ncnn computes in fp16 there and XNNPACK in fp32; elsewhere both compute in fp32, and how they
    compare then was not measured.
    """
    kind, _ = processors.facts(cores, 1)
    return tables.core_kinds()[kind].fp16


def _joined(queries: Sequence[Query]) -> Query:
    import numpy as np

    return Query(
        np.vstack([each.work for each in queries]),
        np.vstack([each.facts for each in queries]),
        {
            name: np.concatenate([each.groups[name] for each in queries])
            for name in queries[0].groups
        },
        np.concatenate([each.base for each in queries if each.base is not None]),
    )
