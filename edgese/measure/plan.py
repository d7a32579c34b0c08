"""Checks and completes what measuring is asked for; pure."""

from typing import Final

import msgspec

from edgese.errors import ConfigError
from edgese.records.measurement import DeviceInfo, MeasurePlan

# Phones have two to four fast cores, and networks of this size gain little from more.
MOST_DEFAULT_THREADS: Final = 4
# With fewer rounds a bootstrap of them cannot give an interval.
FEWEST_BLOCKS: Final = 6


def default_threads(info: DeviceInfo) -> int:
    """The physical cores that may be used, at most four.

    Hyper-threads share the vector units that these networks keep busy, so they do not count.
    """
    return min(info.physical_cores, MOST_DEFAULT_THREADS)


def checked(plan: MeasurePlan, info: DeviceInfo) -> MeasurePlan:
    """The plan, or an error that names the setting which cannot be.

    Raises:
        ConfigError: as said.
    """
    if not 1 <= plan.threads <= info.cores:
        raise ConfigError(
            f"{plan.threads} threads were asked for; {info.name} has {info.cores} cores.",
            hint=f"Give --threads 1 to {info.cores}.",
        )
    if plan.blocks < FEWEST_BLOCKS:
        raise ConfigError(
            f"{plan.blocks} blocks were asked for; an interval needs {FEWEST_BLOCKS}.",
            hint=f"Give {FEWEST_BLOCKS} or more.",
        )
    settings = msgspec.structs.asdict(plan)
    positive = ("min_runs", "warmup_runs", "reply_timeout_s", "timeout_s")
    for name in (*positive, "min_time_s", "warmup_time_s", "lead_in_runs"):
        if settings[name] < 0 or (name in positive and settings[name] == 0):
            raise ConfigError(
                f"{name} is {settings[name]:g}.",
                hint="Give more than 0." if name in positive else "Give 0 or more.",
            )
    return plan
