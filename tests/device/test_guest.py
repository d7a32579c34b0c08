"""A whole emulated machine behind the real adb."""

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path
from shutil import which

import pytest

from edgese.devices import guest
from edgese.devices.guest import image, machine
from edgese.errors import EdgeseError, MissingDependency

# Counts the nanoseconds of a loop by the machine's own clock, thrice.
LOOP = """
i=0; while [ $i -lt 3 ]; do
    a=$(cut -d' ' -f1 /proc/uptime); n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done
    b=$(cut -d' ' -f1 /proc/uptime); echo $a $b; i=$((i+1))
done
"""


@pytest.fixture(scope="module")
def ready():
    """The image in the user's cache; fetched once, 35 MB."""
    if which(machine.PROGRAM) is None:
        pytest.skip(f"{machine.PROGRAM} is missing: apt-get install qemu-system-arm")
    try:
        return guest.setup(lambda *_: None)
    except EdgeseError as error:
        pytest.skip(f"the guest cannot be set up: {error}")


@pytest.fixture(scope="module")
def adb(ready, tmp_path_factory):  # noqa: ARG001  # without an image there is nobody to talk to
    """Calls the real adb, with a server and keys of its own."""
    program = which("adb")
    if program is None:
        pytest.skip("adb is missing: apt-get install adb")
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])

    def call(*arguments):
        return subprocess.run(
            [program, "-P", port, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=os.environ | {"HOME": str(home)},
        )

    yield call
    call("kill-server")


@pytest.fixture(scope="module")
def a76(adb):
    """A guest that adb is connected to, and how to talk to its shell."""
    with guest.running("arm64-a76") as found:
        assert f"connected to {found.address}" in adb("connect", found.address).stdout
        yield found, lambda *words: adb("-s", found.address, *words)


def test_it_is_an_arm_machine_with_the_processor_that_was_asked_for(a76):
    _, call = a76
    assert call("shell", "uname -m").stdout.strip() == "aarch64"
    cpuinfo = call("shell", "cat /proc/cpuinfo").stdout
    assert "CPU part\t: 0xd0b" in cpuinfo
    assert "asimddp" in cpuinfo
    assert call("shell", "getprop ro.product.model").stdout.strip() == "arm64-a76"
    assert "[ro.product.cpu.abi]: [arm64-v8a]" in call("shell", "getprop").stdout


def test_files_go_in_and_come_back_and_return_codes_pass(a76, tmp_path):
    _, call = a76
    given = tmp_path / "given"
    given.write_bytes(bytes(range(256)) * 4000)
    assert call("push", str(given), "/data/local/tmp/x").returncode == 0
    assert call("pull", "/data/local/tmp/x", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == given.read_bytes()
    assert call("shell", "exit 7").returncode == 7


def listeners(port):
    """The addresses that somebody listens on at a port, as the kernel writes them."""
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if int(number, 16) == port and state == "0A":
                found.append(address)
    return found


def test_nobody_listens_beyond_this_machine(a76):
    found, _ = a76
    # 127.0.0.1, its bytes reversed.
    assert listeners(int(found.address.partition(":")[2])) == ["0100007F"]


def test_the_guest_reaches_nothing_outside(a76):
    _, call = a76
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        # 10.0.2.2 is this machine, if the network lets through.
        outcome = call("shell", f"nc -w 3 10.0.2.2 {port} </dev/null; echo rc=$?")
        assert "rc=1" in outcome.stdout
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_its_clock_counts_instructions_and_not_time(a76):
    _, call = a76
    lines = call("shell", LOOP).stdout.split()
    rounds = [float(b) - float(a) for a, b in zip(lines[::2], lines[1::2], strict=True)]
    assert len(rounds) == 3
    assert min(rounds) > 0
    # /proc/uptime tells hundredths of a second.
    assert max(rounds) - min(rounds) <= 0.021


def test_it_is_gone_when_its_block_ends_by_an_interruption(ready):
    assert ready.is_dir()
    with contextlib.suppress(KeyboardInterrupt), guest.running("arm64-a53") as found:
        raise KeyboardInterrupt
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", int(found.address.partition(":")[2])))


def test_a_missing_image_is_told_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path))
    with pytest.raises(MissingDependency) as caught:
        image.required()
    assert caught.value.hint == "edgese emulator setup --guest"


def test_a_changed_image_is_no_image(ready, monkeypatch, tmp_path):
    place = tmp_path / "guest-arm64"
    place.mkdir()
    for name in ("guest.json", image.KERNEL, image.ARCHIVE):
        (place / name).write_bytes((ready / name).read_bytes())
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path))
    assert image.required() == place
    manifest = json.loads((place / "guest.json").read_text(encoding="utf-8"))
    assert manifest["packages"]["adbd"].startswith("34.")
    with (place / image.ARCHIVE).open("r+b") as file:
        file.seek(5000)
        file.write(b"\x00\x01\x02")
    with pytest.raises(MissingDependency):
        image.required()
