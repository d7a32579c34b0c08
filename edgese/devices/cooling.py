"""Waits until a machine is cool enough to be measured."""

import json
import time
from collections.abc import Callable

from edgese.devices.heat import BETWEEN_LOOKS_S, TIMEOUT_S
from edgese.errors import DeviceError
from edgese.records.device import PhoneState


def cooled(
    look: Callable[[], PhoneState],
    why_not: Callable[[PhoneState], str],
    name: str,
    hear: Callable[[str], None],
    *,
    hint: str,
    timeout_s: float = TIMEOUT_S,
    sleep: Callable[[float], None] = time.sleep,
) -> PhoneState:
    """The machine's state once nothing speaks against measuring any more.

    Args:
        why_not: what speaks against it; "" where nothing does.
        name: of the machine.
        hear: is told what is waited for, as a line of the runner's kind.
        hint: what its owner can do.
        timeout_s: after which waiting is given up.
        sleep: between two looks.

    Raises:
        DeviceError: it is too warm still, or cannot be asked.
    """
    waited_s = 0.0
    while True:
        now = look()
        reason = why_not(now)
        if not reason:
            return now
        if waited_s >= timeout_s:
            raise DeviceError(
                f"{name} is too warm to be measured: after {waited_s:g} s {reason}.", hint=hint
            )
        hear(json.dumps({"stage": f"wait for {name}: {reason}", "fraction": 0.0}))
        sleep(BETWEEN_LOOKS_S)
        waited_s += BETWEEN_LOOKS_S
