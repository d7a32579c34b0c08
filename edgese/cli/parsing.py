"""Reads the small values that options take."""

import re

from edgese.bounds import whole
from edgese.errors import ConfigError
from edgese.records.bounds import LARGEST_SIDE


def resolution_of(value: str | None) -> tuple[int, int] | None:
    """Height and width from "224" or "224x320"; None stays None.

    Raises:
        ConfigError: anything else, or a side of 0 or beyond what a tensor can have.
    """
    if value is None:
        return None
    height, _, width = value.partition("x")
    sides = (whole(height) or 0, whole(width if "x" in value else height) or 0)
    if not 1 <= min(sides) <= max(sides) <= LARGEST_SIDE:
        raise ConfigError(
            f"--resolution {value!r} is not a size in pixels.",
            hint="Give a side, as in 224, or height x width, as in 224x320.",
        )
    return sides


def seconds_of(value: str) -> float:
    """Seconds from "90s", "10m" or "1h"; a number alone is in seconds.

    Raises:
        ConfigError: anything else, or no time at all.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value)
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if seconds <= 0:
        raise ConfigError(
            f"{value!r} is not a length of time.", hint="Give one as in 90s, 10m or 1h."
        )
    return seconds
