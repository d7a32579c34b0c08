"""The cores of a machine as `edgese.devices.sysfs.QUESTIONS` has asked for them; pure."""

from collections.abc import Sequence

from edgese.bounds import whole
from edgese.records.device import CoreState


def cores(text: str) -> tuple[CoreState, ...]:
    """The cores in their order."""
    found = []
    for line in text.splitlines():
        number, online, maximum, current, governor = [*line.split(), *"-----"][:5]
        if (place := whole(number)) is not None:
            found.append(
                CoreState(
                    number=place,
                    maximum_mhz=_mhz(maximum),
                    current_mhz=_mhz(current),
                    governor="" if governor == "-" else governor,
                    online=online != "0",
                )
            )
    return tuple(sorted(found, key=lambda core: core.number))


def online(cores: Sequence[CoreState]) -> tuple[CoreState, ...]:
    """Those that are switched on."""
    return tuple(core for core in cores if core.online)


def governors(cores: Sequence[CoreState]) -> str:
    """Of the cores that are switched on; "" where the kernel tells none."""
    found = dict.fromkeys(core.governor for core in online(cores) if core.governor)
    return ", ".join(found)


def _mhz(khz: str) -> float | None:
    found = whole(khz)
    return None if found is None else found / 1000
