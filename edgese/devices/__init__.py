"""Where artifacts run: one module for each way to reach a machine.

What a device is stands in ``targets/devices/<name>.toml``; here stands how it is reached.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from edgese import catalog, project
from edgese.devices import host, phones, sysroot, vela
from edgese.devices.adb import AdbDevice
from edgese.devices.emulator.program import find_qemu
from edgese.devices.ssh import SshDevice
from edgese.errors import DeviceAbsent, DeviceError, MissingDependency
from edgese.protocols import Device
from edgese.records.device import DeviceFacts, TransportName

REACHABLE: Final = "yes"


class Reach(NamedTuple):
    """How to get to a device, where its name alone does not tell.

    Attributes:
        serial: of a phone among several of its kind.
        adb_server: "HOST:PORT" of an adb server on another machine, which the phone is attached to.
        address: of a board: "user@host:port"; "" for the project's own, see `edgese.project`.
        threads: that the runtime will compute with, so that jobs are kept on as many fast cores.
    """

    serial: str = ""
    adb_server: str = ""
    address: str = ""
    threads: int = 4


ANYHOW: Final = Reach()


class Transport(NamedTuple):
    """One way to reach devices.

    Attributes:
        state: of a device now, in a few words for a table: ``REACHABLE``, or what is missing. It is
            quick, because a list of devices asks it for every one.
        device: the device, to run jobs on. Raises DeviceAbsent where it is not there.
    """

    state: Callable[[DeviceFacts], str]
    device: Callable[[DeviceFacts, Reach], Device]


def _phone(facts: DeviceFacts, reach: Reach) -> Device:
    phone = AdbDevice(
        facts,
        serial=reach.serial,
        server=reach.adb_server,
        python=sysroot.find(),
        threads=reach.threads,
    )
    # Looked for now, so that whoever asked learns at once that it is not there.
    _ = phone.phone
    return phone


def _board(facts: DeviceFacts, reach: Reach) -> Device:
    address = reach.address or project.address(facts.name)
    if not address:
        raise DeviceAbsent(
            f"{facts.title} ({facts.name}) has no address.",
            hint=f"Give --address user@host, or put it under [addresses] in {project.FILE}: "
            f'{facts.name} = "user@host".',
        )
    return SshDevice(address, facts=facts, python=sysroot.find(), threads=reach.threads)


def _emulator() -> str:
    try:
        find_qemu()
    except MissingDependency:
        return "needs qemu-user"
    return "emulated" if sysroot.find() is not None else "needs edgese emulator setup"


def _no_jobs(facts: DeviceFacts, _: Reach) -> Device:
    raise DeviceError(
        f"No time can be measured on {facts.title} ({facts.name}).",
        hint="Name another device to measure on; `edgese devices` lists them.",
    )


def _apple(facts: DeviceFacts, _: Reach) -> Device:
    raise DeviceAbsent(
        f"{facts.title} ({facts.name}) cannot be reached: Xcode on a Mac alone reaches iPhones, "
        "and no emulator executes Core ML.",
        hint="On a Mac, `--device host` measures Core ML there.",
    )


TRANSPORTS: Final[dict[TransportName, Transport]] = {
    "host": Transport(state=lambda _: REACHABLE, device=lambda *_: host),
    "adb": Transport(state=phones.reachable, device=_phone),
    "ssh": Transport(
        state=lambda facts: project.address(facts.name) or "no address", device=_board
    ),
    "qemu": Transport(state=lambda _: _emulator(), device=_no_jobs),
    "vela": Transport(state=lambda _: vela.missing() or "estimated", device=_no_jobs),
    "apple": Transport(state=lambda _: "needs a Mac", device=_apple),
}


def find_device(name: str, reach: Reach = ANYHOW) -> Device:
    """The device of a name, as in ``--device``.

    Raises:
        ConfigError: there is none of this name; the nearest and the known ones are told.
        DeviceAbsent: it is known, and not there.
        DeviceError: it is there and cannot be used, or there are several.
        MissingDependency: what reaches it is not installed.
    """
    facts = catalog.device_facts(name)
    return TRANSPORTS[facts.transport].device(facts, reach)


def reachable(name: str) -> str:
    """``REACHABLE`` where jobs can run on the device now, otherwise how it is, in a few words.

    Raises:
        ConfigError: there is no such device.
    """
    facts = catalog.device_facts(name)
    return TRANSPORTS[facts.transport].state(facts)
