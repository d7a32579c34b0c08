"""The interpreter that is copied to phones and boards, with this machine's own in its place."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgese.devices.adb import AdbDevice
from edgese.devices.ssh import SshDevice
from edgese.errors import DeviceError, MissingDependency
from edgese.records.measurement import Job, Push

# Of the standard library, what is large and never imported here.
LEFT_OUT = {
    *("test", "site-packages", "idlelib", "tkinter", "ensurepip", "turtledemo", "lib2to3"),
    *("distutils", "unittest", "asyncio", "pydoc_data", "ctypes", "venv", "multiprocessing"),
}
# Starts itself anew, as the runner does.
ANEW = """
import json, subprocess, sys
inner = [sys.executable, "-c", "import json, sys, wheel_of_mine; print(json.dumps(sys.prefix))"]
outcome = subprocess.run(inner, capture_output=True, text=True)
print(json.dumps([sys.prefix, sys.executable, outcome.stdout, outcome.stderr]))
"""


@dataclass(frozen=True)
class Small:
    """A bundle of this machine's loader, libraries and Python."""

    root: Path
    python: str
    loader: str
    home: str
    libraries: tuple[str, ...]
    site: tuple[str, ...]
    versions: dict[str, str]
    digest: str


def libraries_of(program):
    """Paths of a program's libraries and its loader, as the loader finds them."""
    text = subprocess.run(
        [shutil.which("ldd"), program], capture_output=True, text=True, check=True
    ).stdout
    found = [Path(path) for path in re.findall(r"(/\S+) \(0x", text)]
    loader = next(path for path in found if path.name.startswith("ld-linux"))
    return [path for path in found if path != loader], loader


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundle")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = Path(sys.executable).resolve()
    try:
        libraries, loader = libraries_of(program)
    except (TypeError, subprocess.CalledProcessError, StopIteration):
        pytest.skip("this interpreter does not tell its libraries (ldd)")
    stdlib = Path(sysconfig.get_path("stdlib"))
    for folder in ("lib/x86-linux-gnu", f"usr/lib/{version}", "usr/bin", "opt/site", "proc"):
        (root / folder).mkdir(parents=True)
    for path in libraries:
        (root / "lib/x86-linux-gnu" / path.name).symlink_to(path)
    (root / "lib" / loader.name).symlink_to(loader)
    shutil.copy(program, root / "usr/bin" / version)
    for path in stdlib.iterdir():
        if path.name not in LEFT_OUT and not path.name.startswith(("config-", "__pycache__")):
            (root / "usr/lib" / version / path.name).symlink_to(path)
    (root / "opt/site/wheel_of_mine.py").write_text("", encoding="utf-8")
    (root / "opt/site/onnxruntime").mkdir()
    (root / "opt/site/onnxruntime/__init__.py").write_text("", encoding="utf-8")
    # Neither what leads nowhere nor what leads back is followed.
    (root / "opt/site/nowhere").symlink_to(root / "nothing")
    (root / "opt/site/round").symlink_to(root)
    (root / "proc/cpuinfo").write_text("not for the phone", encoding="utf-8")
    return Small(
        root=root,
        python=f"usr/bin/{version}",
        loader=f"lib/{loader.name}",
        home="usr",
        libraries=("lib/x86-linux-gnu",),
        site=("opt/site",),
        versions={"onnxruntime": "1.0"},
        digest="0123456789abcdef" * 4,
    )


@pytest.fixture
def phone(phones):
    return phones(architecture=os.uname().machine)


@pytest.fixture
def device(adb_server, bundle):
    return AdbDevice(
        server=adb_server.address, environment=adb_server.environment, python=bundle, cool_c=None
    )


def job():
    push = (Push(name="anew.py", content=ANEW.encode()),)
    return Job(argv=("{python}", "-P", "anew.py"), push=push)


def stages(heard):
    return [line for line in heard if line.startswith("{")]


def check_anew(outcome, place):
    assert outcome.returncode == 0, outcome.stderr
    prefix, executable, inner, stderr = json.loads(outcome.stdout.splitlines()[-1])
    assert prefix == f"{place}/root/usr"
    assert executable == f"{place}/python"
    assert json.loads(inner) == prefix, stderr


def test_it_is_copied_once_and_starts_itself_anew(phone, device):
    first, second = [], []
    place = phone.storage / "edgese-python-0123456789abcdef"
    check_anew(device.run(job(), first.append), place)
    check_anew(device.run(job(), second.append), place)
    assert any("copy the interpreter" in line for line in first)
    assert not any("copy the interpreter" in line for line in second)
    assert [path.name for path in phone.storage.iterdir()] == [place.name]
    assert not (place / "interpreter.tar").exists()
    assert not (place / "root/proc").exists()
    assert not (place / "root/opt/site/round").exists()
    device.clean()
    assert not any(phone.storage.iterdir())


def test_a_copy_that_was_cut_off_is_made_again(phone, device):
    phone.fault = "drop_in_push"
    with pytest.raises(DeviceError):
        device.run(job(), lambda _: None)
    assert not any(phone.storage.iterdir())
    place = phone.storage / "edgese-python-0123456789abcdef"
    (place / "root").mkdir(parents=True)
    check_anew(device.run(job(), lambda _: None), place)


def test_a_phone_that_has_no_room_for_it_is_left_empty(phones, device):
    phone = phones(architecture=os.uname().machine, quota_bytes=1_000_000)
    with pytest.raises(DeviceError, match="is full"):
        device.run(job(), lambda _: None)
    assert not any(phone.storage.iterdir())


def test_a_phone_with_another_processor_is_refused_before_anything_is_copied(phones, device):
    phone = phones(architecture="armv7l")
    with pytest.raises(DeviceError, match="is armv7l"):
        device.run(job(), lambda _: None)
    assert not any(phone.storage.iterdir())


def test_an_interpreter_that_does_not_start_there_is_told_and_removed(phone, device):
    # As on a phone that does not let its shell run what it was given.
    phone.tool("chmod", "exit 0")
    with pytest.raises(DeviceError, match=r"denies permission|starting the interpreter"):
        device.run(job(), lambda _: None)
    assert not any(phone.storage.iterdir())


def test_a_program_in_front_of_it_is_kept_when_it_starts_itself_anew(phones, adb_server, bundle):
    phone = phones()
    device = AdbDevice(
        server=adb_server.address,
        environment=adb_server.environment,
        python=bundle,
        # In the place of an emulator; the phone says that it is another kind of machine.
        prefix=(shutil.which("env"), "EMULATED=1"),
        cool_c=None,
    )
    code = (
        "import os, subprocess, sys\n"
        "print(os.environ['EMULATED'], flush=True)\n"
        "del os.environ['EMULATED']\n"
        "subprocess.run([sys.executable, '-c', 'import os; print(os.environ[\"EMULATED\"])'])"
    )
    push = (Push(name="s.py", content=code.encode()),)
    outcome = device.run(Job(argv=("{python}", "s.py"), push=push), lambda _: None)
    assert outcome.stdout.splitlines() == ["1", "1"], outcome.stderr
    assert any(phone.storage.iterdir())


def test_whether_it_has_a_runtime_is_known_without_a_copy(phone, device):
    device.check("onnxruntime")
    with pytest.raises(MissingDependency, match="TFLite"):
        device.check("tflite")
    with pytest.raises(MissingDependency, match="ExecuTorch") as caught:
        device.check("executorch")
    assert caught.value.hint == "edgese emulator setup --executorch"
    assert not any(phone.storage.iterdir())


def test_a_board_gets_the_same(ssh_server, bundle):
    board = SshDevice(ssh_server.address, config=ssh_server.config, python=bundle, cool_c=None)
    board.check("onnxruntime")
    place = ssh_server.cache / "edgese-python-0123456789abcdef"
    check_anew(board.run(job(), lambda _: None), place)
    assert board.clean() == (place.name,)
    assert not any(ssh_server.cache.iterdir())
