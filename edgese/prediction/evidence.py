"""How far predictions were off where the truth was left out: the stored figures."""

import math

from edgese import catalog
from edgese.errors import ConfigError
from edgese.prediction.tables import FOLDER
from edgese.records.prediction import DeviceKnown, Evidence, EvidenceTable, NetworkKnown


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
