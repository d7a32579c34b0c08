"""What is known of a device without asking it; a file in targets/devices."""

from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from edgese.records.base import Record

DeviceKind = Literal["host", "android", "linux", "ios", "emulated", "npu"]
TransportName = Literal["host", "adb", "ssh", "qemu", "vela", "apple"]


class DeviceFacts(Record, frozen=True):
    """The facts of a device. What is not known is left out.

    Attributes:
        name: as in ``--device``.
        title: what people call it, for tables.
        soc: the chip.
        transport: how it is reached.
        properties: what it answers, so that it is recognised, see `recognised`.
    """

    name: str
    title: str
    kind: DeviceKind
    transport: TransportName
    soc: str = ""
    properties: dict[str, str] = msgspec.field(default_factory=dict)


def recognised(properties: dict[str, str], answers: dict[str, str]) -> bool:
    """Whether a machine answers as a device with these properties does; "*" is for any characters.

    A device without properties is never recognised.
    """
    return bool(properties) and all(
        fnmatchcase(answers.get(name, ""), pattern) for name, pattern in properties.items()
    )
