"""Where artifacts run: one module for each way to reach a machine.

What a device is stands in ``targets/devices/<name>.toml``; here stands how it is reached.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from edgese import catalog
from edgese.devices import host, vela
from edgese.errors import DeviceError
from edgese.protocols import Device
from edgese.records.device import DeviceFacts, TransportName

REACHABLE: Final = "yes"


class Transport(NamedTuple):
    """One way to reach devices.

    Attributes:
        state: of a device now, in a few words for a table: ``REACHABLE``, or what is missing. It is
            quick, because a list of devices asks it for every one.
        device: the device, to run jobs on. Raises DeviceError, which says what is missing.
    """

    state: Callable[[DeviceFacts], str]
    device: Callable[[DeviceFacts], Device]


def _absent(words: str, why: str, hint: str) -> Transport:
    """A transport through which nothing is reached yet."""

    def device(facts: DeviceFacts) -> Device:
        raise DeviceError(f"{facts.title} ({facts.name}) cannot be reached: {why}", hint=hint)

    return Transport(state=lambda _: words, device=device)


def _estimated(facts: DeviceFacts) -> Device:
    raise DeviceError(
        f"Nothing runs on {facts.title} ({facts.name}) here: Vela estimates it.",
        hint="Name another device to measure on; `edgese devices` lists them.",
    )


_HERE: Final = "`--device host` measures on this machine."

TRANSPORTS: Final[dict[TransportName, Transport]] = {
    "host": Transport(state=lambda _: REACHABLE, device=lambda _: host),
    "adb": _absent("not attached", "this edgese reaches no phones through adb.", _HERE),
    "ssh": _absent("no address", "this edgese reaches no boards through ssh.", _HERE),
    "qemu": _absent("needs edgese emulator setup", "the emulator is not set up.", _HERE),
    "vela": Transport(state=lambda _: vela.missing() or "estimated", device=_estimated),
    "apple": _absent("needs a Mac", "iPhones are reached from a Mac alone.", _HERE),
}


def find_device(name: str) -> Device:
    """The device of a name, as in ``--device``.

    Raises:
        ConfigError: there is none; the nearest and the known ones are told.
        DeviceError: it is known, but cannot be reached; says what is missing.
    """
    facts = catalog.device_facts(name)
    return TRANSPORTS[facts.transport].device(facts)


def reachable(name: str) -> str:
    """``REACHABLE`` where jobs can run on the device now, otherwise what is missing, in few words.

    Raises:
        ConfigError: there is no such device.
    """
    facts = catalog.device_facts(name)
    return TRANSPORTS[facts.transport].state(facts)
