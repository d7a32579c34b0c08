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


X86 = """processor\t: {number}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
cpu MHz\t\t: {mhz}
cache size\t: 2048 KB
flags\t\t: fpu {mitigations} sse4_2 {vectors}
"""
ARM = """processor\t: {number}
BogoMIPS\t: 50.00
Features\t: fp asimd {vectors}
CPU implementer\t: 0x41
CPU part\t: {part}
"""


@pytest.fixture
def told(monkeypatch):
    """What `machine.arithmetic` says with a /proc/cpuinfo, and variables."""
    monkeypatch.setattr(machine, "_LINUX", True)
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    for name in machine._CHOOSING:  # noqa: SLF001  # the test's own environment must not count
        monkeypatch.delenv(name, raising=False)

    def asked(text, **variables):
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return machine.arithmetic()

    return asked


def test_arithmetic_is_told_by_the_processor_and_not_by_its_clock_or_count(told):
    def x86(number=0, mhz=2600, mitigations="ibrs", vectors="avx2 avx512f"):
        return X86.format(number=number, mhz=mhz, mitigations=mitigations, vectors=vectors)

    plain = told(x86())
    assert "143" in plain
    assert told(x86() + x86(number=1, mhz=3000)) == plain
    assert told(x86(mitigations="ibrs stibp")) == plain
    assert told(x86(vectors="avx2 avx512f amx_int8")) != plain
    assert told(x86().replace("143", "106")) != plain
    assert told(x86().replace("2048 KB", "1024 KB")) != plain


def test_arithmetic_knows_each_kind_of_core_of_an_arm_processor(told):
    little = ARM.format(number=0, vectors="asimddp", part="0xd05")
    big = ARM.format(number=1, vectors="asimddp", part="0xd41")
    assert told(little + big) == told(big + little)
    assert told(little + big) != told(little)
    assert told(little.replace("asimddp", "sve")) != told(little)


@pytest.mark.parametrize(
    "choice",
    [{"ATEN_CPU_CAPABILITY": "avx2"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"MKL_CBWR": "COMPATIBLE"}],
)
def test_arithmetic_knows_what_libraries_are_told(choice, told):
    assert told("", **choice) != told("")
    assert told("", OMP_NUM_THREADS="3") == told("")
