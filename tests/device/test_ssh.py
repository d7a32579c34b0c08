"""Boards through the real `ssh`, to an sshd on this machine: what comes back, and each fault."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edgese.devices import boards, sysfs
from edgese.devices.locking import held
from edgese.devices.ssh import SshDevice
from edgese.errors import DeviceError, InputError, MissingDependency
from edgese.records.device import DeviceFacts
from edgese.records.measurement import Job, Push

# Starts a process of its own, says both ids, and waits for ever.
FAMILY = """
import json, os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(json.dumps([os.getpid(), child.pid]), flush=True)
time.sleep(600)
"""


def script(text, *arguments, **fields):
    push = (Push(name="script.py", content=text.encode()), *fields.pop("push", ()))
    return Job(argv=("{python}", "script.py", *arguments), push=push, **fields)


def ignore(_):
    """Hears nothing."""


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def board(ssh_server):
    def make(**settings):
        # This machine plays the board, and may be at work.
        own = {"python": (sys.executable,), "config": ssh_server.config, "cool_c": None}
        settings = own | settings
        return SshDevice(settings.pop("address", ssh_server.address), **settings)

    return make


@pytest.fixture
def nothing_left(ssh_server):
    def looked(pids=()):
        def left():
            folder = ssh_server.cache
            return any(map(alive, pids)) or (folder.exists() and any(folder.iterdir()))

        deadline = time.monotonic() + 10
        while left() and time.monotonic() < deadline:
            time.sleep(0.02)
        return not left()

    return looked


def test_a_job_gives_back_its_code_its_words_and_its_files(board, nothing_left, tmp_path):
    weights = tmp_path / "weights of 'mine' *.bin"
    weights.write_bytes(b"\x00\x01" * 100_000)
    heard = []
    outcome = board().run(
        script(
            "import sys, pathlib\n"
            "given = pathlib.Path('in/the weights.bin').read_bytes()\n"
            "pathlib.Path('out put.bin').write_bytes(given * 2)\n"
            "print('one'); print('two', end=''); print('warned', file=sys.stderr)\n"
            "sys.exit(int(sys.argv[1]))",
            "3",
            push=(Push(name="in/the weights.bin", source=str(weights)),),
            pull=("out put.bin", "never.bin"),
        ),
        heard.append,
    )
    assert outcome.returncode == 3
    assert heard == ["one", "two"]
    assert outcome.stderr == "warned\n"
    assert outcome.files == {"out put.bin": weights.read_bytes() * 2}
    assert nothing_left()


def test_words_reach_a_program_as_they_are(board):
    words = ["a b", "$HOME", "'", '"', "*", "\\", "`id`", "é", "!x"]
    outcome = board().run(
        script("import sys, json; print(json.dumps(sys.argv[1:]))", *words), ignore
    )
    assert json.loads(outcome.stdout) == words


def test_a_folder_arrives_whole(board, tmp_path):
    package = tmp_path / "a model.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "weight.bin").write_bytes(b"w" * 1000)
    outcome = board().run(
        script(
            "print(open('m.mlpackage/Data/weight.bin').read() == 'w' * 1000)",
            push=(Push(name="m.mlpackage", source=str(package)),),
        ),
        ignore,
    )
    assert outcome.stdout == "True\n"


def test_a_job_that_dies_of_a_signal_tells_which(board):
    outcome = board().run(script("import os; os.abort()"), ignore)
    assert outcome.returncode == -signal.SIGABRT


def test_the_board_is_looked_at_before_and_after(board):
    looking = board()
    looking.run(script("pass"), ignore)
    assert looking.before.architecture == os.uname().machine
    assert looking.after.taken >= looking.before.taken
    assert len(looking.before.cores) >= len(os.sched_getaffinity(0))
    assert looking.info().system.startswith("Linux ")


def test_a_connection_dropped_in_mid_run_is_never_taken_for_success(
    board, ssh_server, nothing_left
):
    pids = []

    def hear(line):
        pids.extend(json.loads(line))
        ssh_server.drop()

    with pytest.raises(DeviceError, match="lost during the job: its end mark did not come"):
        board().run(script(FAMILY), hear)
    assert len(pids) == 2
    assert nothing_left(pids)


def test_an_interrupted_job_leaves_no_process(board, nothing_left):
    pids = []

    def interrupt(line):
        pids.extend(json.loads(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        board().run(script(FAMILY), interrupt)
    assert nothing_left(pids)


def test_a_job_over_its_time_leaves_no_process(board, nothing_left):
    heard = []
    with pytest.raises(DeviceError, match="did not end within 2 s"):
        board().run(script(FAMILY, timeout_s=2), heard.append)
    assert nothing_left(json.loads(heard[0]))


def test_a_host_that_dies_leaves_nothing_on_the_board(ssh_server, nothing_left):
    code = f"""
import sys
from pathlib import Path
from edgese.devices import boards, sysfs
from edgese.devices.locking import held
from edgese.devices.ssh import SshDevice
from edgese.records.measurement import Job, Push
SshDevice(
    {ssh_server.address!r}, config=Path({str(ssh_server.config)!r}), python=(sys.executable,),
    cool_c=None,
).run(
    Job(argv=("{{python}}", "s.py"), push=(Push(name="s.py", content={FAMILY.encode()!r}),)),
    lambda line: print(line, flush=True),
)
"""
    # What it leaves on this machine is not ours to judge: nobody can clear up after SIGKILL.
    with (
        tempfile.TemporaryDirectory() as place,
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            env=os.environ | {"TMPDIR": place},
        ) as host,
    ):
        pids = json.loads(host.stdout.readline())
        host.kill()
        assert nothing_left(pids)
        # No connection outlives it either.
        deadline = time.monotonic() + 10
        while ssh_server.connections() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert ssh_server.connections() == []


def test_an_unknown_host_key_is_told(board, ssh_server):
    strange = ssh_server.client_config("known_nobody", "user")
    with pytest.raises(DeviceError, match="its host key was never confirmed") as caught:
        board(config=strange).info()
    assert "fingerprint" in caught.value.hint
    assert not (ssh_server.folder / "known_nobody").exists()


def test_a_changed_host_key_is_told(board, ssh_server):
    key = " ".join((ssh_server.folder / "stranger.pub").read_text().split()[:2])
    (ssh_server.folder / "known_other").write_text(f"[127.0.0.1]:{ssh_server.port} {key}\n")
    with pytest.raises(DeviceError, match="its host key has changed"):
        board(config=ssh_server.client_config("known_other", "user")).info()


def test_a_key_that_is_not_accepted_is_told(board, ssh_server):
    with pytest.raises(DeviceError, match="takes none of your keys") as caught:
        board(config=ssh_server.client_config("known_hosts", "stranger")).info()
    assert "ssh-copy-id" in caught.value.hint


def test_a_port_where_nothing_listens_is_told(board):
    with pytest.raises(DeviceError, match="refuses the connection"):
        board(address="127.0.0.1:9").info()


def test_a_name_that_does_not_exist_is_told(board):
    with pytest.raises(DeviceError, match="cannot be found by its name"):
        board(address="nobody@board.invalid").info()


@pytest.fixture
def small_disk(ssh_server):
    """Puts a file system of one megabyte where the board keeps edgese's files."""
    folder = ssh_server.cache.parent
    folder.mkdir(exist_ok=True)
    mounting = [
        shutil.which("mount") or "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=1m",
        "edgese-test",
        str(folder),
    ]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield
    subprocess.run([shutil.which("umount"), str(folder)], check=True)


@pytest.mark.usefixtures("small_disk")
def test_a_full_board_is_told(board, tmp_path, nothing_left):
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(2_000_000))
    with pytest.raises(DeviceError, match=r"is full.* kB are free for 1954 kB"):
        board().run(script("pass", push=(Push(name="x", source=str(large)),)), ignore)
    assert nothing_left()


def test_a_runner_that_is_not_there_is_told(board, nothing_left):
    with pytest.raises(DeviceError, match=r"\./executor_runner cannot be started"):
        board().run(Job(argv=("./executor_runner",)), ignore)
    assert nothing_left()


def test_a_file_that_is_not_here_is_told(board, nothing_left):
    with pytest.raises(InputError, match="nowhere"):
        board().run(script("pass", push=(Push(name="x", source="/nowhere/x"),)), ignore)
    assert nothing_left()


def test_another_board_is_told_by_what_it_says_of_itself(board):
    facts = DeviceFacts(
        name="rpi5",
        title="Raspberry Pi 5",
        kind="linux",
        transport="ssh",
        properties={"/proc/device-tree/model": "Raspberry Pi 5*"},
    )
    with pytest.raises(DeviceError, match="is no Raspberry Pi 5: of itself it says"):
        board(facts=facts).info()


def test_a_python_that_is_too_old_is_told(board, tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho 3 9\n", encoding="utf-8")
    old.chmod(0o755)
    with pytest.raises(DeviceError, match=r"is Python 3\.9; measuring needs 3\.11"):
        board(python=(str(old),)).check("tflite")


def test_an_interpreter_without_the_runtime_is_told(board):
    board().check("onnxruntime")
    with pytest.raises(MissingDependency, match="TFLite"):
        board(python=(sys.executable, "-S", "-I")).check("tflite")


def test_core_ml_is_refused(board):
    with pytest.raises(DeviceError, match="Apple"):
        board().check("coreml")


def test_what_is_left_of_other_days_can_be_removed(board, ssh_server):
    for name in ("edgese-job-old", "edgese-python-1234", "mine"):
        (ssh_server.cache / name).mkdir(parents=True)
    assert board().clean() == ("edgese-job-old", "edgese-python-1234")
    assert [path.name for path in ssh_server.cache.iterdir()] == ["mine"]
    (ssh_server.cache / "mine").rmdir()


def test_a_warm_board_is_waited_for_and_given_up(board, monkeypatch):
    zones = f"printf '\\n{sysfs.HEADING}zones\\n70000 cpu-thermal\\n'"
    monkeypatch.setattr(boards, "QUESTIONS", zones)
    heard, slept = [], []
    device = board(cool_c=60.0, cool_timeout_s=10, sleep=slept.append)
    with pytest.raises(DeviceError, match="its cpu-thermal has 70 °C, not below 60 °C"):
        device.run(script("print(1)"), heard.append)
    assert len(slept) == 2
    assert "wait for the board" in json.loads(heard[0])["stage"]


def test_a_board_that_another_run_measures_on_is_not_disturbed(board, ssh_server, nothing_left):
    key = f"ssh-{ssh_server.user}@127.0.0.1-{ssh_server.port}"
    device = board(busy_timeout_s=0.1)
    with held(key, "the board", ignore):
        for act in (lambda: device.run(script("print(1)"), ignore), device.clean):
            with pytest.raises(DeviceError, match=r"another edgese .* still measures on it"):
                act()
    assert nothing_left()
    assert device.run(script("print(1)"), ignore).stdout == "1\n"
