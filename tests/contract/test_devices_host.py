"""This machine as a device: what comes back, and that nothing stays behind."""

import json
import os
import time
from pathlib import Path

import pytest

from edgese.devices import host
from edgese.errors import ConfigError, DeviceError, MissingDependency
from edgese.records.measurement import Job, Push

# Starts a process of its own, says both ids, and waits for ever.
FAMILY = """
import json, os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(json.dumps([os.getpid(), child.pid]), flush=True)
time.sleep(600)
"""


def job(script, *arguments, **fields):
    push = (Push(name="script.py", content=script.encode()), *fields.pop("push", ()))
    return Job(argv=("{python}", "script.py", *arguments), push=push, **fields)


def ignore(_):
    """Hears nothing."""


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone_soon(pids):
    deadline = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(alive, pids))


def test_a_job_gives_back_its_code_its_words_and_its_files(tmp_path):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"\x00\x01")
    outcome = host.run(
        job(
            "import sys, pathlib\n"
            "given = pathlib.Path('in/weights.bin').read_bytes()\n"
            "pathlib.Path('out.bin').write_bytes(given * 2)\n"
            "print('said'); print('warned', file=sys.stderr); sys.exit(int(sys.argv[1]))",
            "3",
            push=(Push(name="in/weights.bin", source=str(weights)),),
            pull=("out.bin", "never.bin"),
        ),
        ignore,
    )
    assert outcome.returncode == 3
    assert outcome.stdout == "said\n"
    assert outcome.stderr == "warned\n"
    assert outcome.files == {"out.bin": b"\x00\x01\x00\x01"}


def test_lines_are_heard_in_order_and_the_last_one_needs_no_newline():
    heard = []
    host.run(job("import sys; sys.stdout.write('one\\ntwo\\nthree')"), heard.append)
    assert heard == ["one", "two", "three"]


def test_the_folder_of_a_job_is_gone_afterwards():
    heard = []
    host.run(job("import os; print(os.getcwd())"), heard.append)
    assert not Path(heard[0]).exists()


def test_a_job_that_dies_of_a_signal_tells_which():
    outcome = host.run(job("import os, signal; os.kill(os.getpid(), signal.SIGABRT)"), ignore)
    assert outcome.returncode == -6


def test_a_job_over_its_time_is_a_device_error_and_leaves_no_process():
    heard = []
    with pytest.raises(DeviceError, match="did not end within 2 s"):
        host.run(job(FAMILY, timeout_s=2), heard.append)
    assert gone_soon(json.loads(heard[0]))


def test_an_interrupted_job_leaves_no_process():
    pids = []

    def interrupt(line):
        pids.extend(json.loads(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host.run(job(FAMILY), interrupt)
    assert len(pids) == 2
    assert gone_soon(pids)


def test_a_process_that_outlives_its_parent_is_ended_with_the_job():
    heard = []
    script = """
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL
)
print(child.pid)
"""
    assert host.run(job(script), heard.append).returncode == 0
    assert gone_soon([int(heard[0])])


def test_a_command_that_does_not_exist_is_a_device_error():
    with pytest.raises(DeviceError, match="cannot be started"):
        host.run(Job(argv=("/nonexistent/runner",)), ignore)


def test_the_host_knows_itself():
    info = host.info()
    assert info.name == "host"
    assert info.cpu
    assert 1 <= info.physical_cores <= info.cores <= (os.cpu_count() or 1)
    assert info.memory_mb is not None
    assert info.memory_mb > 100


@pytest.mark.parametrize(
    ("siblings", "expected"),
    [(["0,2", "1,3", "0,2", "1,3"], 2), (["0", "1", "2", "3"], 4), ([None] * 4, 4)],
    ids=["hyper-threads", "plain cores", "not told"],
)
def test_hyper_threads_of_one_core_count_once(tmp_path, siblings, expected):
    for number, text in enumerate(siblings):
        if text is not None:
            path = tmp_path / f"cpu{number}" / "topology" / "thread_siblings_list"
            path.parent.mkdir(parents=True)
            path.write_text(text + "\n", encoding="ascii")
    assert host.physical_cores({0, 1, 2, 3}, tmp_path) == expected


def test_a_containers_share_of_the_cores_is_all_that_counts(monkeypatch):
    monkeypatch.setattr(host.machine, "cores", lambda: 1)
    info = host.info()
    assert (info.cores, info.physical_cores) == (1, 1)


def test_core_ml_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(DeviceError, match="Apple systems only"):
        host.check("coreml")


def test_a_target_that_nothing_here_executes_is_refused_by_name():
    with pytest.raises(ConfigError, match="'tensorrt'"):
        host.check("tensorrt")


def test_a_missing_runtime_is_told_with_its_install_command(monkeypatch):
    monkeypatch.setattr("edgese.targets.requests.find_spec", lambda _: None)
    with pytest.raises(MissingDependency) as caught:
        host.check("tflite")
    assert caught.value.hint == "pip install 'edgese[tflite]'"
