"""How warm a phone or a board is, and whether it had better rest before it is measured; pure.

Needs nothing but Python: bundles carry this file to where they are measured. Formats: ``dumpsys
battery`` (tenths of a degree) and ``dumpsys thermalservice`` (Android 10 and later) of
https://android.googlesource.com/platform/frameworks/base/ (BatteryService.java,
ThermalManagerService.java); the rest in `edgese.devices.sysfs`.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from edgese.devices import sysfs

# Below this a phone has rested. Others wait for the same before they measure:
# https://github.com/software-mansion/react-native-executorch/pull/1363
PHONE_COOL_C: Final = 37.0
# The lowest limit that a board is known to slow down at: a Raspberry Pi 3B+'s; the other Raspberry
# Pis do from 80 °C on. https://github.com/raspberrypi/documentation/blob/master/documentation/
# asciidoc/computers/raspberry-pi/frequency-management.adoc
BOARD_COOL_C: Final = 60.0
BETWEEN_LOOKS_S: Final = 5.0
TIMEOUT_S: Final = 600.0

# A sensor type of Android's thermal HAL: the case, which is what throttling is decided by.
_SKIN: Final = 3
_TEMPERATURE: Final = re.compile(
    r"Temperature\{mValue=(-?[0-9]{1,9}(?:\.[0-9]+)?), mType=(-?[0-9]{1,9}), mName=([^,}]+)"
)
_STATUS: Final = re.compile(r"^\s*Thermal Status: ([0-9]{1,9})", re.MULTILINE)


class Warm(Protocol):
    """What is known of a machine's heat, as in `edgese.records.device.PhoneState`."""

    @property
    def thermal_status(self) -> int | None:
        """Android's: from 1 on the phone may be slowed down."""

    @property
    def skin_c(self) -> float | None:
        """The case."""

    @property
    def battery_c(self) -> float | None:
        """The battery."""

    @property
    def temperatures_c(self) -> Mapping[str, float]:
        """All sensors."""


class Heat(NamedTuple):
    """A `Warm` machine; a board tells of its sensors alone."""

    thermal_status: int | None
    skin_c: float | None
    battery_c: float | None
    temperatures_c: dict[str, float]


def read(text: str) -> Heat:
    """Reads the answers of a phone or of a board."""
    parts = sysfs.parts(text)
    thermal = parts.get("thermal", "")
    sensors = _sensors(thermal)
    status = _STATUS.search(thermal)
    tenths = field(parts.get("battery", ""), "temperature")
    return Heat(
        thermal_status=int(status.group(1)) if status else None,
        skin_c=max((value for value, kind, _ in sensors if kind == _SKIN), default=None),
        battery_c=None if tenths is None else tenths / 10,
        # What the thermal service calls current is later in its dump than what it remembered.
        temperatures_c=sysfs.temperatures(parts.get("zones", ""))
        | {name: value for value, _, name in sensors},
    )


def phone_too_warm(now: Warm, below_c: float) -> str:
    """Why measuring on a phone had better wait; "" where it need not.

    The case's temperature decides where the phone tells it, else the battery's.
    """
    if now.thermal_status:
        return f"its thermal status is {now.thermal_status}, not 0"
    kind, value = ("case", now.skin_c) if now.skin_c is not None else ("battery", now.battery_c)
    if value is not None and value >= below_c:
        return f"its {kind} has {value:g} °C, not below {below_c:g} °C"
    return ""


def board_too_warm(now: Warm, below_c: float) -> str:
    """Why measuring on a board had better wait; "" where it need not, or where nothing tells.

    The hottest of the kernel's thermal zones decides, because any of them may slow the board down.
    """
    zone = max(now.temperatures_c, key=lambda name: now.temperatures_c[name], default="")
    if zone and now.temperatures_c[zone] >= below_c:
        return f"its {zone} has {now.temperatures_c[zone]:g} °C, not below {below_c:g} °C"
    return ""


def field(battery: str, name: str) -> int | None:
    """A number of ``dumpsys battery``."""
    found = re.search(rf"^\s*{name}: (-?[0-9]{{1,18}})\s*$", battery, re.MULTILINE)
    return int(found.group(1)) if found else None


def _sensors(thermal: str) -> list[tuple[float, int, str]]:
    """Value, kind and name; the readings from the hardware where the dump has them."""
    _, found, current = thermal.partition("Current temperatures from HAL:")
    current = current.partition("Current cooling devices")[0]
    text = current if found and _TEMPERATURE.search(current) else thermal
    readings = [(float(v), int(k), name) for v, k, name in _TEMPERATURE.findall(text)]
    return [reading for reading in readings if sysfs.plausible(reading[0])]
