"""What processor a program was built for, from the head of its file; pure.

System V Application Binary Interface, ELF header: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
"""

from pathlib import Path
from typing import Final

from edgese.errors import DeviceError

HEAD_BYTES: Final = 20
_MAGIC: Final = b"\x7fELF"
# e_machine, and how `uname -m` calls such machines.
_MACHINES: Final = {
    3: ("i686", "i386", "i586", "x86"),
    40: ("armv7l", "armv8l", "armv6l", "arm"),
    62: ("x86_64",),
    183: ("aarch64", "arm64"),
    243: ("riscv64",),
}


def architecture(head: bytes) -> str:
    """How `uname -m` calls the machines that a file runs on; "" where it is no ELF file."""
    if len(head) < HEAD_BYTES or head[:4] != _MAGIC:
        return ""
    order = "little" if head[5] == 1 else "big"
    number = int.from_bytes(head[18:20], order)  # type: ignore[arg-type]  # one of the two words
    return _MACHINES.get(number, (f"machine {number}",))[0]


def refuse_foreign(program: Path, machine: str, name: str) -> None:
    """Raises where a program was not built for a machine.

    Args:
        machine: as `uname -m` tells it there; "" where it is not known.
        name: of the device, for the message.

    Raises:
        DeviceError: it was built for another processor.
    """
    with program.open("rb") as file:
        built_for = architecture(file.read(HEAD_BYTES))
    # A 64-bit kernel may or may not run 32-bit programs; whoever brings one is told by the start.
    alike = next((names for names in _MACHINES.values() if built_for in names), ())
    thirty_two_bit = (built_for, machine) in {("armv7l", "aarch64"), ("i686", "x86_64")}
    if built_for and machine and machine not in alike and not thirty_two_bit:
        raise DeviceError(
            f"{program.name} was built for {built_for}, and {name} is {machine}.",
            hint="Take the file that was built for its processor.",
        )
