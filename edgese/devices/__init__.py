"""Where artifacts run: one module for each way to reach a machine."""

import difflib
from typing import Final

from edgese.devices import host
from edgese.errors import ConfigError
from edgese.protocols import Device

DEVICES: Final[dict[str, Device]] = {"host": host}


def find_device(name: str) -> Device:
    """The device of a name, as in ``--device``.

    Raises:
        ConfigError: there is none; the nearest and the known ones are told.
    """
    if name in DEVICES:
        return DEVICES[name]
    near = difflib.get_close_matches(name.lower(), DEVICES, n=1)
    raise ConfigError(
        f"There is no device named {name!r}.",
        hint=(f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(DEVICES)}.",
    )
