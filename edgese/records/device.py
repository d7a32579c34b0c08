"""Devices, their chips, phones and systems."""

from typing import Literal

import msgspec

from edgese.records.base import Record
from edgese.records.bounds import Celsius, Count, Factor, Load, Megahertz, Number, Positive

DeviceKind = Literal["host", "android", "linux", "ios", "emulated", "npu"]
TransportName = Literal["host", "adb", "ssh", "qemu", "vela", "apple"]


class CoreCluster(Record, frozen=True):
    """Cores of one kind that share a clock.

    Attributes:
        kind: as in "cortex-a76", in the compilers' spelling where they have one. A vendor's
            derivative goes by the design that it is derived from.
        ghz: highest clock; None where nobody publishes it.
        dotprod: has the int8 dot products of Armv8.2 (SDOT, UDOT).
        i8mm: has the int8 matrix products of Armv8.6 (SMMLA, UMMLA).
    """

    kind: str
    count: Positive
    ghz: Factor | None = None
    dotprod: bool = False
    i8mm: bool = False


class VelaConfiguration(Record, frozen=True):
    """What an Ethos-U is built as, in Vela's own words.

    Attributes:
        accelerator: as in ``--accelerator-config``: family and multiply-accumulates a cycle.
        system: as in ``--system-config``: clock, and bandwidth and latency of the memories.
        memory_mode: as in ``--memory-mode``: what lies in which memory.
        file: that defines the two: one of Vela's own, or an absolute path.
    """

    accelerator: str
    system: str
    memory_mode: str
    file: str = "Arm/vela.ini"


class DeviceFacts(Record, frozen=True):
    """The facts of a device. What is not known is left out.

    Attributes:
        name: as in ``--device``.
        title: what people call it, for tables.
        soc: the chip.
        cores: of its processor, from the fastest cluster to the slowest.
        gpu, npu: "" where there is none that one can use, or where it is not known.
        memory_gb: of the smallest version that is sold, in GB as vendors count them.
        memory_bandwidth_gb_s: that the chip's memory interface can reach, in 10^9 bytes a second.
        delegates: what can execute there, by target; the names are explained in targets/<target>.
        transport: how it is reached.
        properties: what it answers, so that it is recognised. A key is an Android property, or a
            file to read; see `edgese.records.recognition` for the values.
        emulated_as: the emulated device whose instruction set is like its fastest cores': the same
            int8 products. It says nothing about time.
        vela: of an Ethos-U: what it is estimated as.
        sources: where the facts come from: key to url or document. "features" is for the
            instruction sets of the cores.
    """

    name: str
    title: str
    kind: DeviceKind
    transport: TransportName
    soc: str = ""
    cores: tuple[CoreCluster, ...] = ()
    gpu: str = ""
    npu: str = ""
    memory_gb: Factor | None = None
    memory_bandwidth_gb_s: Factor | None = None
    delegates: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    properties: dict[str, str] = msgspec.field(default_factory=dict)
    emulated_as: str = ""
    vela: VelaConfiguration | None = None
    sources: dict[str, str] = msgspec.field(default_factory=dict)


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


class SocFacts(Record, frozen=True):
    """The facts of a Snapdragon whose Hexagon has a tensor processor (HTP).

    Attributes:
        name: Qualcomm's part number in small letters, as in "sm8650".
        title: what phones' data sheets call it.
        soc_model: its number in Qualcomm's libraries.
        htp: version of the tensor processor's architecture, as in 75.
        source: where the numbers stand, with the version.
    """

    name: str
    title: str
    soc_model: Count
    htp: Count
    source: str


SYSROOT_SCHEMA = 1


class SysrootManifest(Record, frozen=True):
    """Stands beside a sysroot, or a later part of it, and says what is in it; written last.

    Attributes:
        key: of what it is made from: names of packages, pins and hashes of wheels.
        digest: over all files; it names the sysroot where it is copied to.
        versions: of the Python packages.
        packages: Debian packages and their versions; empty where the system came from a folder.
        downloads: SHA-256 of every file that was fetched, by name.
        files: SHA-256 of every file by its path in the root; "-> target" for a symbolic link.
        created: UTC, ISO 8601.
    """

    key: str
    digest: str
    versions: dict[str, str]
    packages: dict[str, str]
    downloads: dict[str, str]
    files: dict[str, str]
    created: str
    schema: int = SYSROOT_SCHEMA


class EmulatorPart(Record, frozen=True):
    """One thing that emulation needs, and how it is.

    Attributes:
        status: "ok"; "missing" (not there); "broken" (there, and not what it should be).
        found: version or place; "" where there is none.
        remedy: the command that mends it; "" where nothing is to be done.
        needed: False for what only some artifacts need.
    """

    name: str
    status: Literal["ok", "missing", "broken"]
    found: str = ""
    error: str = ""
    remedy: str = ""
    needed: bool = True


class EmulatorDiagnosis(Record, frozen=True):
    """Everything that emulation needs.

    Attributes:
        sysroot: the folder that it is kept in.
    """

    sysroot: str
    parts: tuple[EmulatorPart, ...]
