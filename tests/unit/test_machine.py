"""What this machine is told to be by its files."""

from pathlib import Path

import pytest

from edgese import machine
from edgese.measure import runner


@pytest.fixture
def pretend(monkeypatch):
    """Makes this a machine of a kind, with what its /proc/cpuinfo says."""

    def made(kind, flags):
        told = f"processor\t: 0\nmodel name\t: A processor\nflags\t\t: fpu {flags} sse4_2\n"
        monkeypatch.setattr(machine.platform, "machine", lambda: kind)
        monkeypatch.setattr(machine, "_LINUX", True)
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: told)
        monkeypatch.setattr(Path, "exists", lambda *_, **__: True)
        monkeypatch.setattr(runner.os, "uname", lambda: type("Uname", (), {"machine": kind}))

    return made


@pytest.mark.parametrize(
    ("kind", "flags", "wanted"),
    [
        ("x86_64", "avx avx2", True),
        ("x86_64", "avx2 avx512f avx512bw", True),
        ("x86_64", "avx2 avx_vnni", False),
        ("x86_64", "avx2 avx512f avx512_vnni", False),
        ("aarch64", "asimd", False),
    ],
)
def test_x86_without_vnni_is_told_by_its_flags(kind, flags, wanted, pretend):
    pretend(kind, flags)
    assert machine.is_x86_without_vnni() == wanted
    assert runner._is_x86_without_vnni() == wanted  # noqa: SLF001  # it stands alone


def test_an_x86_processor_of_which_nothing_is_told_is_taken_for_one(monkeypatch):
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "_LINUX", False)
    assert machine.is_x86_without_vnni()
