"""A whole ARM machine under QEMU that answers adb, with a clock that counts instructions.

Its clock moves by a nanosecond with each instruction, so that whatever measures times in there
reports instructions: the same from run to run, and never the milliseconds of a phone.

Debian's own adbd answers. It knows no authentication and would listen on every address, so it lives
in the guest alone, whose network is cut off but for one port on 127.0.0.1.
"""

from edgese.devices.guest.image import setup
from edgese.devices.guest.machine import Guest, running

__all__ = ["Guest", "running", "setup"]
