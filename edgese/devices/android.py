"""Reads what a phone says of itself; pure.

`QUESTIONS` is one script for the phone's shell, `state` reads its answer. Formats: ``getprop``;
``dumpsys battery`` and the rest in `edgese.devices.heat` and `edgese.devices.sysfs`.
"""

import re
from datetime import UTC, datetime
from typing import Final

from edgese.devices import clusters, heat, sysfs
from edgese.devices.affinity import big_cores
from edgese.records.device import DeviceFacts, PhoneState
from edgese.records.measurement import DeviceInfo

_PROPERTY: Final = re.compile(r"^\[([^\]]+)\]: \[(.*)\]$", re.MULTILINE)
_POWERED: Final = re.compile(r"^\s*(AC|USB|Wireless|Dock) powered: true", re.MULTILINE)

QUESTIONS: Final = f"""\
printf '\\n{sysfs.HEADING}properties\\n'; getprop
printf '\\n{sysfs.HEADING}battery\\n'; dumpsys battery 2>/dev/null
printf '\\n{sysfs.HEADING}thermal\\n'; dumpsys thermalservice 2>/dev/null
{sysfs.QUESTIONS}"""


def properties(text: str) -> dict[str, str]:
    """The table that ``getprop`` prints."""
    return dict(_PROPERTY.findall(text))


def state(text: str, serial: str, *, taken: datetime | None = None) -> PhoneState:
    """Reads the answer to `QUESTIONS`.

    Args:
        taken: when; None is now.
    """
    parts = sysfs.parts(text)
    table = properties(parts.get("properties", ""))
    battery = parts.get("battery", "")
    warmth = heat.read(text)
    powered = _POWERED.search(battery)
    return PhoneState(
        serial=serial,
        model=table.get("ro.product.model", ""),
        soc=table.get("ro.soc.model", "") or table.get("ro.board.platform", ""),
        abi=table.get("ro.product.cpu.abi", ""),
        android=table.get("ro.build.version.release", ""),
        build=table.get("ro.build.id", ""),
        architecture=parts.get("machine", "").strip(),
        system=parts.get("system", "").strip(),
        taken=(taken or datetime.now(UTC)).isoformat(timespec="seconds"),
        battery_percent=heat.field(battery, "level"),
        battery_c=warmth.battery_c,
        powered=powered.group(1).lower() if powered else "",
        skin_c=warmth.skin_c,
        temperatures_c=warmth.temperatures_c,
        thermal_status=warmth.thermal_status,
        cores=clusters.cores(parts.get("cores", "")),
        memory_mb=sysfs.memory_mb(parts.get("memory", "")),
        load_average=sysfs.load_average(parts.get("load", "")),
    )


def info(now: PhoneState, facts: DeviceFacts | None) -> DeviceInfo:
    """What a phone is, and how busy it is.

    Args:
        facts: of the catalogue; None names it as it calls itself.
    """
    online = clusters.online(now.cores)
    return DeviceInfo(
        name=facts.name if facts else now.model or now.serial,
        cpu=now.soc or (facts.soc if facts else ""),
        architecture=now.architecture,
        cores=max(len(online), 1),
        # The slow cores do their work at another pace; nobody counts on them.
        physical_cores=max(big_cores(online), 1),
        system=f"Android {now.android} ({now.build})",
        governor=clusters.governors(now.cores),
        memory_mb=now.memory_mb,
        load_average=now.load_average,
    )


def throttling(before: PhoneState, after: PhoneState) -> str:
    """What says that the phone slowed itself down between two moments; "" where nothing does."""
    said = []
    if after.thermal_status and after.thermal_status > (before.thermal_status or 0):
        said.append(f"thermal status rose from {before.thermal_status} to {after.thermal_status}")
    if before.skin_c is not None and after.skin_c is not None and after.thermal_status:
        said.append(f"the case went from {before.skin_c:g} to {after.skin_c:g} °C")
    return ", ".join(said)
