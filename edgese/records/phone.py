"""What a phone or a board says of itself: before a measurement, and after."""

import msgspec

from edgese.records.base import Record


class CoreState(Record, frozen=True):
    """One core as the kernel tells it; None where it does not.

    Attributes:
        maximum_mhz: that it can be clocked with.
        current_mhz: at the moment of asking.
        governor: that decides on its clock; "" where it is not told.
        online: False for a core that is switched off.
    """

    number: int
    maximum_mhz: float | None = None
    current_mhz: float | None = None
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
    battery_percent: int | None = None
    battery_c: float | None = None
    powered: str = ""
    skin_c: float | None = None
    temperatures_c: dict[str, float] = msgspec.field(default_factory=dict)
    thermal_status: int | None = None
    cores: tuple[CoreState, ...] = ()
    pinned: tuple[int, ...] = ()
    pinning: str = ""
    memory_mb: int | None = None
    load_average: float | None = None
