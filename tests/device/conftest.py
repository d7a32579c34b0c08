"""Fixtures of tests that need something from outside Python; they skip and say what is missing."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from shutil import which

import pytest
from fake_devices import FakePhone

from edgese.devices import sysroot as making
from edgese.devices.emulator import counter, program
from edgese.errors import EdgeseError

# Not in the path of users on Debian.
SSHD = "/usr/sbin/sshd"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class AdbServer:
    """An adb server of its own, so that a user's phones and keys are not touched."""

    def __init__(self, home):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.environment = {"HOME": str(home), "TMPDIR": str(home)}

    def adb(self, *words):
        """Runs an adb command with this server."""
        return subprocess.run(
            [shutil.which("adb"), "-P", str(self.port), *words],
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture(scope="session")
def adb_server(tmp_path_factory):
    if shutil.which("adb") is None:
        pytest.skip("adb is not installed: apt-get install adb")
    server = AdbServer(tmp_path_factory.mktemp("adb"))
    started = server.adb("start-server")
    assert started.returncode == 0, started.stderr
    yield server
    server.adb("kill-server")


@pytest.fixture
def phones(adb_server, tmp_path):
    """Makes fake phones that adb is connected to."""
    with ExitStack() as stack:
        made = []

        def make(*, connect=True, **settings):
            root = tmp_path / f"phone{len(made)}"
            root.mkdir()
            phone = stack.enter_context(FakePhone(root, **settings))
            made.append(phone)
            if connect:
                stack.callback(adb_server.adb, "disconnect", phone.serial)
                adb_server.adb("connect", phone.serial)
            return phone

        yield make


class SshServer:
    """Debian's sshd on a port of its own, with keys of its own, for the user who runs the tests."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.address = f"{self.user}@127.0.0.1:{self.port}"
        self.cache = folder / "far" / "edgese"
        for name in ("host", "user", "stranger"):
            self._keygen(name)
        shutil.copy(folder / "user.pub", folder / "authorized_keys")
        host = (folder / "host.pub").read_text().split()[:2]
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {' '.join(host)}\n")
        self.config = self.client_config("known_hosts", "user")
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {folder}/host\n"
            f"PidFile {folder}/pid\nAuthorizedKeysFile {folder}/authorized_keys\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            f"Subsystem sftp internal-sftp\nSetEnv XDG_CACHE_HOME={folder}/far\n"
        )
        self._process = None

    def _keygen(self, name):
        subprocess.run(
            [shutil.which("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name],
            check=True,
        )

    def client_config(self, known_hosts, key):
        """A client's configuration that knows nothing but these two files."""
        path = self.folder / f"config-{known_hosts}-{key}"
        path.write_text(
            f"IdentityFile {self.folder}/{key}\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {self.folder}/{known_hosts}\nGlobalKnownHostsFile /dev/null\n"
        )
        return path

    def start(self):
        """Starts it, or skips."""
        self._process = subprocess.Popen(
            [SSHD, "-D", "-E", self.folder / "log", "-f", self.folder / "sshd_config"],
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.skip(f"sshd does not start: {(self.folder / 'log').read_text()[-300:]}")

    def connections(self):
        """Ids of the processes that serve one connection each."""
        return children(self._process.pid)

    def drop(self):
        """Cuts every connection, as a network that fails."""
        for pid in self.connections():
            for child in children(pid):
                os.kill(child, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)

    def stop(self):
        """Ends it and all connections."""
        if self._process is not None:
            self.drop()
            self._process.terminate()
            self._process.wait()


def children(pid):
    """Ids of a process's sshd children; where root serves, one speaks and one stands behind it."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        found = [int(word) for word in text.split()]
        return [one for one in found if b"sshd" in Path(f"/proc/{one}/cmdline").read_bytes()]
    except OSError:
        return []


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory):
    for needed in ("ssh", "sftp", "ssh-keygen", SSHD):
        if shutil.which(needed) is None:
            pytest.skip(f"{needed} is missing: apt-get install openssh-client openssh-server")
    # Where sshd runs as root it wants a folder that its start script would have made.
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = SshServer(tmp_path_factory.mktemp("ssh"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, described):
    """An ONNX artifact of one convolution, with its manifest."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    np = pytest.importorskip("numpy")
    helper = onnx.helper
    path = tmp_path_factory.mktemp("artifact") / "tiny.onnx"
    weight = onnx.numpy_helper.from_array(np.full((3, 3, 3, 3), 0.1, np.float32), "w")
    sides = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 3, 16, 16)) for name in "xy"
    ]
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "tiny", sides[:1], sides[1:], [weight])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return described(path)


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
