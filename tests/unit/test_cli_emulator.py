"""`edgese emulator`: what is missing is told before anything is fetched."""

import json

import pytest

from edgese.__main__ import run


def unwanted(*_, **__):
    pytest.fail("nothing was to be fetched")


def test_a_missing_qemu_ends_in_its_install_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("EDGESE_QEMU", "/nonexistent/qemu-aarch64")
    monkeypatch.setattr("edgese.devices.sysroot.setup", unwanted)
    assert run(["emulator", "setup"]) == 3
    assert "sudo apt-get install qemu-user" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_bundle_alone_and_a_guest_exclude_each_other(monkeypatch, capsys):
    monkeypatch.setattr("edgese.devices.sysroot.setup", unwanted)
    assert run(["emulator", "setup", "--bundle-only", "--guest"]) == 2
    assert "--guest" in capsys.readouterr().err


def test_the_doctor_tells_every_part_that_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("EDGESE_QEMU", "/nonexistent/qemu-aarch64")
    assert run(["emulator", "doctor", "--json"]) == 3
    parts = {part["name"]: part for part in json.loads(capsys.readouterr().out)["parts"]}
    for name in ("qemu-aarch64", "arm64-a76", "counter"):
        assert parts[name]["status"] == "missing"
        assert parts[name]["remedy"] == "sudo apt-get install qemu-user"
    assert parts["sysroot"]["remedy"] == "edgese emulator setup"
    assert not parts["executorch"]["needed"]
