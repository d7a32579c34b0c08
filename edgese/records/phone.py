"""What a phone or a board says of itself: before a measurement, and after."""

import msgspec

from edgese.records.base import Record
from edgese.records.bounds import Celsius, Count, Load, Megahertz, Number


class CoreState(Record, frozen=True):
    """One core as the kernel tells it; None where it does not.

    Attributes:
        maximum_mhz: that it can be clocked with.
        current_mhz: at the moment of asking.
        governor: that decides on its clock; "" where it is not told.
        online: False for a core that is switched off.
    """

    number: Count
    maximum_mhz: Megahertz | None = None
    current_mhz: Megahertz | None = None
    governor: str = ""
    online: bool = True


class PhoneState(Record, frozen=True):
    """How a phone or a board is at one moment; what it does not tell is None or "".

    Attributes:
        serial: as ``adb devices`` lists it; of a board, its address.
        model, soc: as in "Pixel 8" and "Tensor G3".
        abi: the first that it executes, as in "arm64-v8a".
        android, build: as in "14" and "UP1A.231005.007".
        system: the kernel, as in "Linux 6.1.0".
        architecture: of the kernel, as in "aarch64".
        taken: when, in UTC.
        battery_percent: charge.
        battery_c: its temperature.
        powered: "usb", "ac", "wireless", "dock", or "" on battery.
        skin_c: temperature of the case as the phone estimates it; the hottest of several.
        temperatures_c: of all sensors that it names.
        thermal_status: 0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown;
            from 1 on, Android says, the phone may be slowed down
            (https://developer.android.com/reference/android/os/PowerManager#THERMAL_STATUS_LIGHT).
        pinned: numbers of the cores that jobs are kept on; empty where they are not pinned.
        pinning: "" where they are, else why they are not.
        load_average: processes that wanted to run in the last minute.
    """

    serial: str
    model: str
    soc: str
    abi: str
    android: str
    build: str
    architecture: str
    taken: str
    system: str = ""
    battery_percent: Number | None = None
    battery_c: Celsius | None = None
    powered: str = ""
    skin_c: Celsius | None = None
    temperatures_c: dict[str, Celsius] = msgspec.field(default_factory=dict)
    thermal_status: Number | None = None
    cores: tuple[CoreState, ...] = ()
    pinned: tuple[Count, ...] = ()
    pinning: str = ""
    memory_mb: Count | None = None
    load_average: Load | None = None
