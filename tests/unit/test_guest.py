"""What the guest starts from, and with which arguments, without starting one."""

import gzip
from pathlib import Path

import pytest

from edgese.devices.emulator.cpus import CPUS
from edgese.devices.guest import machine
from edgese.devices.guest.archive import write_archive
from edgese.errors import MissingDependency


def entries(packed):
    """Name, mode and content of each entry of a "newc" archive."""
    content, at, found = gzip.decompress(packed), 0, {}
    while True:
        assert content[at : at + 6] == b"070701"
        assert at % 4 == 0
        fields = [int(content[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = content[at + 110 : at + 110 + length - 1].decode()
        start = -(-(at + 110 + length) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, content[start : start + size])
        at = -(-(start + size) // 4) * 4


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/tool").write_bytes(b"12345")
    (root / "bin/tool").chmod(0o755)
    (root / "link").symlink_to("bin/tool")
    (root / "empty").write_bytes(b"")
    return root


def test_an_archive_holds_files_folders_and_links(folder, tmp_path):
    write_archive(folder, tmp_path / "a.gz")
    found = entries((tmp_path / "a.gz").read_bytes())
    assert list(found) == ["bin", "bin/tool", "empty", "link"]
    assert found["bin/tool"] == (0o100755, b"12345")
    assert found["link"] == (0o120777, b"bin/tool")
    assert found["bin"][0] & 0o170000 == 0o040000
    assert found["empty"][1] == b""


def test_an_archive_of_the_same_files_is_the_same(folder, tmp_path):
    write_archive(folder, tmp_path / "a.gz")
    (folder / "empty").touch()
    write_archive(folder, tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_the_guest_is_reached_on_this_machine_alone():
    words = machine.command("qemu", Path("/image"), CPUS["arm64-a72"], 7777, Path("/log"), 2048)
    (network,) = [word for word in words if word.startswith("user,")]
    assert "restrict=on" in network
    assert network.endswith("hostfwd=tcp:127.0.0.1:7777-:5555")
    assert words[words.index("-cpu") + 1] == "cortex-a72"
    assert words[words.index("-icount") + 1] == "shift=0,sleep=off"


def test_a_missing_emulator_of_machines_is_told_with_its_install_command(monkeypatch):
    monkeypatch.setattr(machine, "which", lambda _: None)
    with pytest.raises(MissingDependency) as caught, machine.running("arm64-a76"):
        pass
    assert "qemu-system-arm" in caught.value.hint
