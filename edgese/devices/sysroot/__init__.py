"""Python with the runtimes for 64-bit ARM Linux in one folder: what boards and phones are given.

`setup` makes it once in the user's cache from Debian's arm64 packages and the runtimes' aarch64
wheels; `find` gives it. On a board or phone its interpreter is started by its own loader::

    R/lib/ld-linux-aarch64.so.1 --library-path R/lib/aarch64-linux-gnu:R/usr/lib/aarch64-linux-gnu \
        R/usr/bin/python3.11
"""

from edgese.devices.sysroot.bundle import SITE, Sysroot, faults, find, required
from edgese.devices.sysroot.making import setup

__all__ = ["SITE", "Sysroot", "faults", "find", "required", "setup"]
