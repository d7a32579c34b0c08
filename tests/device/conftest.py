"""Fixtures of the tests that need something from outside Python: adb, sshd."""

import os
import shutil
import socket
import subprocess
from contextlib import ExitStack

import pytest

from edgese.devices.fake import FakePhone


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
        return subprocess.run(
            ["adb", "-P", str(self.port), *words],
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
