"""Checks and completes what measuring is asked for; pure."""

from typing import Final

import msgspec

from edgese.devices.qemu import Emulated
from edgese.errors import ConfigError
from edgese.protocols import Device
from edgese.records.measurement import DeviceInfo, MeasurePlan

# Phones have two to four fast cores, and networks of this size gain little from more.
MOST_DEFAULT_THREADS: Final = 4
# With fewer, Student's factor is above 4, and an interval of that width says nothing.
FEWEST_LAUNCHES: Final = 4


def check_timed(device: Device) -> None:
    """Raises where times mean nothing.

    Raises:
        ConfigError: the device is emulated by QEMU: a vector instruction costs an emulator a
            hundred times what it costs a core.
    """
    if isinstance(device, Emulated):
        raise ConfigError(
            f"{device.cpu.name} is emulated, and its times mean nothing.",
            hint="`edgese profile --device` with its name counts instructions instead.",
        )


def default_threads(info: DeviceInfo) -> int:
    """The physical cores that may be used, at most four.

    Hyper-threads share the vector units that these networks keep busy, so they do not count.
    """
    return min(info.physical_cores, MOST_DEFAULT_THREADS)


def threads_of(asked: int | None, info: DeviceInfo) -> int:
    """How many threads a runtime is given.

    Args:
        asked: None takes `default_threads`.

    Raises:
        ConfigError: fewer than 1, or more than the device has cores.
    """
    threads = default_threads(info) if asked is None else asked
    if not 1 <= threads <= info.cores:
        raise ConfigError(
            f"{threads} threads were asked for; {info.name} has {info.cores} cores.",
            hint=f"Give --threads 1 to {info.cores}.",
        )
    return threads


def checked(plan: MeasurePlan, info: DeviceInfo, count: int) -> MeasurePlan:
    """The plan, or an error that names the setting which cannot be.

    Args:
        count: of the artifacts that are to be measured.

    Raises:
        ConfigError: as said.
    """
    threads_of(plan.threads, info)
    if count > 1 and plan.launches < FEWEST_LAUNCHES:
        raise ConfigError(
            f"{plan.launches} launches were asked for; comparing artifacts needs "
            f"{FEWEST_LAUNCHES}.",
            hint=f"Give {FEWEST_LAUNCHES} or more, or measure one artifact alone.",
        )
    if plan.launches < 1 or plan.blocks < 1 or plan.blocks % plan.launches:
        raise ConfigError(
            f"{plan.blocks} blocks cannot be shared out evenly over {plan.launches} launches.",
            hint=f"Give a multiple of the launches, such as {4 * max(plan.launches, 1)} blocks.",
        )
    settings = msgspec.structs.asdict(plan)
    positive = ("min_runs", "warmup_runs", "reply_timeout_s", "timeout_s")
    for name in (*positive, "min_time_s", "warmup_time_s", "lead_in_runs"):
        # Written so that NaN, which is neither, is refused too.
        if not (settings[name] > 0 or (settings[name] == 0 and name not in positive)):
            raise ConfigError(
                f"{name} is {settings[name]:g}.",
                hint="Give more than 0." if name in positive else "Give 0 or more.",
            )
    return plan
