"""A whole emulated machine behind the real adb."""

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path
from shutil import which

import pytest

from edgese import store
from edgese.conversion.api import convert
from edgese.devices import guest
from edgese.devices.guest import image, machine
from edgese.devices.guest.device import answering
from edgese.errors import ConfigError, EdgeseError, MissingDependency
from edgese.measure.api import profile
from edgese.measure.guests import operator_instructions
from edgese.records.measurement import Job, Push

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


@pytest.fixture
def own_server(monkeypatch, tmp_path):
    """Whoever calls adb starts a server of its own, so that a user's is not touched."""
    program = which("adb")
    if program is None:
        pytest.skip("adb is missing: apt-get install adb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(probe.getsockname()[1]))
    # adb's keys lie at home; what was set up for emulation does too.
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(store.cache_folder()))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    subprocess.run([program, "kill-server"], check=False, capture_output=True, timeout=60)


@pytest.mark.usefixtures("ready", "sysroot", "own_server")
def test_a_job_on_real_adbd_ends_with_its_code_and_leaves_nothing(tmp_path):
    heard = []
    (tmp_path / "given").write_bytes(b"given")
    with answering("arm64-a76") as device:
        job = Job(
            argv=("sh", "-c", "echo said; cp given back; exit 3"),
            push=(Push(name="given", source=str(tmp_path / "given")),),
            pull=("back",),
            timeout_s=60,
        )
        outcome = device.run(job, heard.append)
        left = device.clean()
    assert (outcome.returncode, outcome.files) == (3, {"back": b"given"})
    assert heard == ["said"]
    assert left == ()


@pytest.mark.usefixtures("ready", "sysroot", "own_server")
def test_instructions_of_operators_add_up_to_those_that_are_counted(tmp_path):
    (made,) = convert(
        "efficientnet_lite0",
        "onnxruntime",
        weights="none",
        recipe="int8-minmax",
        data="embedded",
        resolution=(96, 96),
        out=tmp_path,
    )
    result = profile([Path(made.artifact)], device="arm64-a76", operators=True)
    (told,), (counted,) = result.operators, result.emulations
    assert told.source == "emulated"
    assert told.kinds[0].operator == "QLinearConv"
    # Recording takes some 40,000 instructions for each operator.
    recorded = told.inference_ms * 1e6 - counted.instructions.total
    assert 0 < recorded < 80_000 * len(told.operators)
    assert told.amount(1.5) == "1.500 M instructions"


def test_a_runtime_that_tells_no_operators_is_refused_before_anything_boots(tmp_path):
    (made,) = convert(
        "efficientnet_lite0", "tflite", weights="none", resolution=(64, 64), out=tmp_path
    )
    with pytest.raises(ConfigError, match="No operators are told of tflite"):
        operator_instructions([Path(made.artifact)], "arm64-a76")
