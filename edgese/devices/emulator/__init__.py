"""QEMU's user-mode emulation of 64-bit ARM: its processors, and the counter of instructions."""
