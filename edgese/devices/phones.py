"""Finds the one phone that is meant among those that adb lists."""

import os
from collections.abc import Sequence

from edgese.devices.adb_client import REMEDIES, AdbClient, Attached, Phone, server_address
from edgese.devices.android import properties
from edgese.devices.remote import told
from edgese.errors import DeviceAbsent, DeviceError, MissingDependency
from edgese.records.device import DeviceFacts
from edgese.records.recognition import recognised


def find(client: AdbClient, facts: DeviceFacts | None, serial: str = "") -> Phone:
    """The one phone that is meant.

    Args:
        facts: it must answer as their properties say; None takes any phone.
        serial: "" takes ANDROID_SERIAL, as adb does.

    Raises:
        DeviceAbsent: none is attached, or only others are.
        DeviceError: it is not usable, it is another one, or there are several: serials are told.
        MissingDependency: there is no adb.
    """
    serial = serial or os.environ.get("ANDROID_SERIAL", "")
    title = facts.title if facts else "a phone"
    listed = client.attached()
    candidates = [one for one in listed if not serial or one.serial == serial]
    usable = [one for one in candidates if one.state == "device"]
    answers = {one.serial: _asked(client, one, alone=len(usable) == 1) for one in usable}
    fitting = [
        one for one in usable if facts is None or recognised(facts.properties, answers[one.serial])
    ]
    if len(fitting) == 1:
        model = answers[fitting[0].serial].get("ro.product.model", "")
        return Phone(client, fitting[0].serial, facts.title if facts else model or "the phone")
    if fitting:
        serials = ", ".join(one.serial for one in fitting)
        raise DeviceError(
            f"{len(fitting)} phones are attached that are {title}: {serials}.",
            hint=f"Say which, as in --serial {fitting[0].serial}.",
        )
    raise _none(title, serial, listed, candidates, answers)


def reachable(facts: DeviceFacts, server: str = "") -> str:
    """Says in a few words whether a phone can be reached now: "attached (SERIAL)", or why not."""
    client = AdbClient(server=server_address(server) if server else None)
    try:
        return f"attached ({find(client, facts).serial})"
    except MissingDependency:
        return "adb is not installed"
    except DeviceAbsent:
        return "not attached"
    except DeviceError as error:
        several = "phones are attached" in error.message
        return "several attached" if several else "attached, but not usable"


def _none(
    title: str,
    serial: str,
    listed: Sequence[Attached],
    candidates: Sequence[Attached],
    answers: dict[str, dict[str, str]],
) -> DeviceError:
    """The error of a phone that was not found, with what was."""
    there = ", ".join(f"{one.serial} ({_called(one, answers)})" for one in listed)
    wanted = f"The phone {serial}" if serial else f"{title[0].upper()}{title[1:]}"
    for one in candidates:
        if one.state != "device":
            return DeviceError(
                f"{one.serial} is attached but {one.state}, so it cannot be asked whether it is "
                f"{title}.",
                hint=REMEDIES.get(one.state, "See what `adb devices -l` says of it."),
            )
    if serial and candidates:
        return DeviceError(
            f"{wanted} is no {title}: it calls itself {_called(candidates[0], answers)!r}.",
            hint="Name the device that it is, or another serial.",
        )
    if listed:
        return DeviceAbsent(
            f"{wanted} is not attached; there is {there}.",
            hint="Attach it, or name what is there.",
        )
    return DeviceAbsent(
        f"{wanted} is not attached: adb lists no phone at all.",
        hint="Connect it by USB, and allow USB debugging in its developer options "
        "(https://developer.android.com/studio/debug/dev-options).",
    )


def _called(one: Attached, answers: dict[str, dict[str, str]]) -> str:
    if one.state != "device":
        return one.state
    return answers.get(one.serial, {}).get("ro.product.model", "") or one.model or "unnamed"


def _asked(client: AdbClient, one: Attached, *, alone: bool) -> dict[str, str]:
    """A phone's properties; none of one that does not answer where there are others to choose."""
    try:
        return properties(
            told(Phone(client, one.serial, one.model or "the phone"), "getprop", "asking")
        )
    except DeviceError:
        if alone:
            raise
        return {}
