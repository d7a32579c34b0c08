"""What is known of a device without asking it; a file in targets/devices."""

from typing import Literal

import msgspec

from edgese.records.base import Record
from edgese.records.bounds import Factor, Positive

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
