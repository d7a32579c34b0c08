"""Reads what a phone says of itself; pure.

`QUESTIONS` is one script for the phone's shell, `state` reads its answer. Formats: ``getprop``;
``dumpsys battery`` (tenths of a degree) and ``dumpsys thermalservice`` (Android 10 and later) of
https://android.googlesource.com/platform/frameworks/base/ (BatteryService.java,
ThermalManagerService.java); the rest in `edgese.devices.sysfs`.
"""

import re
from datetime import UTC, datetime
from typing import Final

from edgese.devices import sysfs
from edgese.devices.affinity import big_cores
from edgese.records.device import DeviceFacts
from edgese.records.measurement import DeviceInfo
from edgese.records.phone import PhoneState

# A sensor type of Android's thermal HAL: the case, which is what throttling is decided by.
_SKIN: Final = 3
_PROPERTY: Final = re.compile(r"^\[([^\]]+)\]: \[(.*)\]$", re.MULTILINE)
_TEMPERATURE: Final = re.compile(r"Temperature\{mValue=([-\d.]+), mType=(-?\d+), mName=([^,}]+)")
_STATUS: Final = re.compile(r"^\s*Thermal Status: (\d+)", re.MULTILINE)
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
    battery, thermal = parts.get("battery", ""), parts.get("thermal", "")
    sensors = _sensors(thermal)
    skins = [value for value, kind, _ in sensors if kind == _SKIN]
    # What the thermal service calls current is later in its dump than what it remembered.
    temperatures = sysfs.temperatures(parts.get("zones", "")) | {
        name: value for value, _, name in sensors
    }
    status = _STATUS.search(thermal)
    level = _field(battery, "level")
    tenths = _field(battery, "temperature")
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
        battery_percent=level,
        battery_c=None if tenths is None else tenths / 10,
        powered=powered.group(1).lower() if powered else "",
        skin_c=max(skins, default=None),
        temperatures_c=temperatures,
        thermal_status=int(status.group(1)) if status else None,
        cores=sysfs.cores(parts.get("cores", "")),
        memory_mb=sysfs.memory_mb(parts.get("memory", "")),
        load_average=sysfs.load_average(parts.get("load", "")),
    )


def info(now: PhoneState, facts: DeviceFacts | None) -> DeviceInfo:
    """What a phone is, and how busy it is.

    Args:
        facts: of the catalogue; None names it as it calls itself.
    """
    online = sysfs.online(now.cores)
    return DeviceInfo(
        name=facts.name if facts else now.model or now.serial,
        cpu=now.soc or (facts.soc if facts else ""),
        architecture=now.architecture,
        cores=max(len(online), 1),
        # The slow cores do their work at another pace; nobody counts on them.
        physical_cores=max(big_cores(online), 1),
        system=f"Android {now.android} ({now.build})",
        governor=sysfs.governors(now.cores),
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


def too_warm(now: PhoneState, below_c: float) -> str:
    """Why a measurement had better wait; "" where it need not.

    The case's temperature decides where the phone tells it, else the battery's.
    """
    if now.thermal_status:
        return f"its thermal status is {now.thermal_status}, not 0"
    kind, value = ("case", now.skin_c) if now.skin_c is not None else ("battery", now.battery_c)
    if value is not None and value >= below_c:
        return f"its {kind} has {value:g} °C, not below {below_c:g} °C"
    return ""


def _field(text: str, name: str) -> int | None:
    found = re.search(rf"^\s*{name}: (-?\d+)\s*$", text, re.MULTILINE)
    return int(found.group(1)) if found else None


def _sensors(thermal: str) -> list[tuple[float, int, str]]:
    """Value, kind and name; the readings from the hardware where the dump has them."""
    _, found, current = thermal.partition("Current temperatures from HAL:")
    current = current.partition("Current cooling devices")[0]
    text = current if found and _TEMPERATURE.search(current) else thermal
    readings = [(float(v), int(k), name) for v, k, name in _TEMPERATURE.findall(text)]
    return [reading for reading in readings if sysfs.plausible(reading[0])]
