"""Fixtures of tests that need something from outside Python; they skip and say what is missing."""

import sys
from shutil import which

import pytest

from edgese.devices import sysroot as making
from edgese.devices.emulator import counter, program
from edgese.errors import EdgeseError


@pytest.fixture(scope="session")
def sysroot():
    """ARM's Python and runtimes in the user's cache; fetched once, 70 MB."""
    if sys.platform != "linux":
        pytest.skip("QEMU's user mode emulates on Linux only")
    if which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is missing: apt-get install qemu-user")
    if not program.find_qemu().plugins:
        pytest.skip("this qemu-aarch64 takes no plugins; Debian 12's package qemu-user does")
    if which("cc") is None:
        pytest.skip("a C compiler is missing: apt-get install gcc libc6-dev")
    counter.library()
    try:
        return making.setup(lambda *_: None)
    except EdgeseError as error:
        pytest.skip(f"the sysroot cannot be set up: {error}")
