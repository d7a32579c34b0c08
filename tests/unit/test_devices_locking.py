"""One device, one run: what waits, for how long, and what is said meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from edgese.devices import heat, host
from edgese.devices.cooling import cooled
from edgese.devices.heat import board_too_warm
from edgese.devices.locking import held
from edgese.errors import DeviceError, OutputError
from edgese.records.device import PhoneState
from edgese.records.measurement import Job

HOLD = """
import sys, time
from edgese.devices.locking import held
with held(sys.argv[1], "a phone", print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def elsewhere():
    """Another process that has a device until it is told to end."""
    processes = []

    def hold(key):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def ignore(_):
    """Hears nothing."""


def test_a_device_that_another_run_has_is_waited_for_and_the_run_is_named(elsewhere):
    other = elsewhere("adb-1")
    heard = []

    def hear(line):
        heard.append(json.loads(line))
        other.stdin.close()

    with held("adb-1", "Pixel 8 (1)", hear, wait_s=20):
        assert other.wait(10) == 0
    assert heard == [
        {
            "stage": f"wait for Pixel 8 (1): another edgese (process {other.pid}) measures on it",
            "fraction": 0.0,
        }
    ]


def test_a_device_that_does_not_become_free_is_given_up(elsewhere):
    other = elsewhere("adb-1")
    with (
        pytest.raises(DeviceError, match=f"after 0.1 s another edgese .process {other.pid}."),
        held("adb-1", "Pixel 8 (1)", ignore, wait_s=0.1),
    ):
        pytest.fail("it was not held by another")


def test_another_device_is_not_waited_for(elsewhere):
    elsewhere("adb-1")
    entered = False
    with held("adb-2", "Pixel 8 (2)", pytest.fail, wait_s=0):
        entered = True
    assert entered


def test_a_run_that_was_killed_holds_nothing(elsewhere):
    other = elsewhere("adb-1")
    other.send_signal(signal.SIGKILL)
    other.wait()
    entered = False
    with held("adb-1", "Pixel 8 (1)", pytest.fail, wait_s=0):
        entered = True
    assert entered


def test_a_failure_frees_the_device_and_nothing_stays(cache):
    def fail():
        with held("ssh-pi@rpi5:22/..", "a board", ignore):
            assert len(list((cache / "devices").iterdir())) == 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list((cache / "devices").iterdir()) == []


def test_many_that_wait_go_one_after_the_other():
    inside, most = [], []

    def run(number):
        with held("host", "this host", ignore, wait_s=30):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.02)
            inside.remove(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_a_cache_that_cannot_be_written_is_told(cache):
    cache.write_text("a file", encoding="ascii")
    with pytest.raises(OutputError, match="cannot be written"), held("host", "this host", ignore):
        pytest.fail("nothing can be held there")


def test_this_host_is_measured_by_one_run_at_a_time(elsewhere):
    elsewhere("host")
    job = Job(argv=("{python}", "-c", "print(1)"))
    with pytest.raises(DeviceError, match="this host is busy"):
        host.run(job, ignore, busy_timeout_s=0.1)
    # Nothing is timed in an emulator.
    assert host.executed(job, ignore).stdout == "1\n"


def board(**zones):
    return PhoneState(
        serial="pi@rpi5",
        model="",
        soc="",
        abi="",
        android="",
        build="",
        architecture="aarch64",
        taken="",
        temperatures_c=zones,
    )


def test_the_hottest_zone_of_a_board_decides():
    assert board_too_warm(board(cpu=59.9, gpu=40.0), 60) == ""
    assert board_too_warm(board(cpu=45.0, gpu=60.0), 60) == "its gpu has 60 °C, not below 60 °C"


def test_a_board_that_tells_no_temperature_is_not_waited_for():
    assert board_too_warm(board(), 60) == ""


def test_a_warm_board_is_waited_for_and_what_for_is_said():
    looks = iter([board(cpu=70.0), board(cpu=62.0), board(cpu=55.0)])
    heard, slept = [], []
    now = cooled(
        lambda: next(looks),
        lambda now: board_too_warm(now, 60),
        "the board",
        heard.append,
        hint="",
        sleep=slept.append,
    )
    assert now.temperatures_c == {"cpu": 55.0}
    assert slept == [heat.BETWEEN_LOOKS_S] * 2
    assert [json.loads(line)["stage"] for line in heard] == [
        "wait for the board: its cpu has 70 °C, not below 60 °C",
        "wait for the board: its cpu has 62 °C, not below 60 °C",
    ]


def test_a_board_that_stays_warm_is_given_up():
    with pytest.raises(DeviceError, match="after 10 s its cpu has 70 °C") as caught:
        cooled(
            lambda: board(cpu=70.0),
            lambda now: board_too_warm(now, 60),
            "the board",
            ignore,
            hint="a fan",
            timeout_s=10,
            sleep=ignore,
        )
    assert caught.value.hint == "a fan"


def test_the_holder_is_this_process(cache):
    with held("host", "this host", ignore):
        assert (cache / "devices/host.holder").read_text() == str(os.getpid())
