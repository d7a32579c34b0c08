"""Reads what a Linux board says of itself; pure.

`QUESTIONS` is one script for the board's shell, `state` reads its answer; formats: see
`edgese.devices.sysfs`.
"""

from datetime import UTC, datetime
from typing import Final

from edgese.devices import clusters, sysfs
from edgese.records.device import DeviceFacts, PhoneState
from edgese.records.measurement import DeviceInfo

QUESTIONS: Final = f"""\
printf '\\n{sysfs.HEADING}model\\n'; cat /proc/device-tree/model 2>/dev/null
{sysfs.QUESTIONS}"""


def state(
    text: str, serial: str, facts: DeviceFacts | None, *, taken: datetime | None = None
) -> PhoneState:
    """Reads the answer to `QUESTIONS`.

    Args:
        serial: the board's address.
        facts: of the catalogue; None where it is not known what board it is.
        taken: when; None is now.
    """
    parts = sysfs.parts(text)
    return PhoneState(
        serial=serial,
        # The kernel ends such texts with a zero byte.
        model=parts.get("model", "").strip("\0\n "),
        soc=facts.soc if facts else "",
        abi="",
        android="",
        build="",
        architecture=parts.get("machine", "").strip(),
        system=parts.get("system", "").strip(),
        taken=(taken or datetime.now(UTC)).isoformat(timespec="seconds"),
        temperatures_c=sysfs.temperatures(parts.get("zones", "")),
        cores=clusters.cores(parts.get("cores", "")),
        memory_mb=sysfs.memory_mb(parts.get("memory", "")),
        load_average=sysfs.load_average(parts.get("load", "")),
    )


def info(now: PhoneState, facts: DeviceFacts | None) -> DeviceInfo:
    """What a board is, and how busy it is.

    Args:
        facts: of the catalogue; None names it by its address.
    """
    online = clusters.online(now.cores)
    return DeviceInfo(
        name=facts.name if facts else now.serial,
        cpu=(facts.soc if facts else "") or now.model,
        architecture=now.architecture,
        cores=max(len(online), 1),
        physical_cores=max(len(now.pinned) or len(online), 1),
        system=now.system,
        governor=clusters.governors(now.cores),
        memory_mb=now.memory_mb,
        load_average=now.load_average,
    )
