"""Phones through the real `adb` client and a fake phone: what comes back, and each fault."""

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

from edgese.__main__ import run
from edgese.devices.adb import AdbDevice
from edgese.devices.adb_client import AdbClient
from edgese.devices.locking import held
from edgese.devices.phones import reachable
from edgese.errors import DeviceError, InputError, MissingDependency
from edgese.measure.binaries import binary_job, parsed_run
from edgese.records.device import DeviceFacts
from edgese.records.measurement import Job, Push

PIXEL8 = DeviceFacts(
    name="pixel8",
    title="Pixel 8",
    kind="android",
    transport="adb",
    properties={"ro.product.model": "Pixel 8"},
)
MODEL = {"ro.product.model": "Pixel 8"}
# Starts a process of its own, says that, and waits for ever.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("started", flush=True)
time.sleep(600)
"""


def script(text, *arguments, **fields):
    push = (Push(name="script.py", content=text.encode()), *fields.pop("push", ()))
    return Job(argv=("{python}", "script.py", *arguments), push=push, **fields)


def ignore(_):
    """Hears nothing."""


def soon(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def nothing_left(phone):
    return soon(lambda: not any(phone.storage.iterdir()) and not phone.processes())


@pytest.fixture
def device(adb_server):
    def make(facts=PIXEL8, **settings):
        settings = {"python": (sys.executable,), "cool_c": None} | settings
        return AdbDevice(
            facts,
            server=adb_server.address,
            environment=adb_server.environment,
            **settings,
        )

    return make


@pytest.fixture
def cores():
    """Two clusters that this machine's cores can play."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2 or allowed[:2] != [0, 1]:
        pytest.skip("pinning needs the use of cores 0 and 1")
    return ((1, 1704.0), (1, 2914.0))


def test_a_job_gives_back_its_code_its_words_and_its_files(phones, device, tmp_path):
    phone = phones(properties=MODEL)
    weights = tmp_path / "weights of mine.bin"
    weights.write_bytes(b"\x00\x01" * 500_000)
    heard = []
    outcome = device().run(
        script(
            "import sys, pathlib\n"
            "given = pathlib.Path('in/weights.bin').read_bytes()\n"
            "pathlib.Path('out.bin').write_bytes(given * 2)\n"
            "print('one'); print('two', end=''); print('warned', file=sys.stderr)\n"
            "sys.exit(int(sys.argv[1]))",
            "3",
            push=(Push(name="in/weights.bin", source=str(weights)),),
            pull=("out.bin", "never.bin"),
        ),
        heard.append,
    )
    assert outcome.returncode == 3
    assert heard == ["one", "two"]
    assert outcome.stdout == "one\ntwo\n"
    assert outcome.stderr == "warned\n"
    assert outcome.files == {"out.bin": weights.read_bytes() * 2}
    assert nothing_left(phone)


def test_words_and_names_reach_a_program_as_they_are(phones, device):
    phones(properties=MODEL)
    words = ["a b", "$HOME", "'", '"', "*", "\\", "`id`", "é"]
    outcome = device().run(
        script("import sys, json; print(json.dumps(sys.argv[1:]))", *words), ignore
    )
    assert json.loads(outcome.stdout) == words


def test_a_folder_arrives_whole(phones, device, tmp_path):
    phones(properties=MODEL)
    package = tmp_path / "model.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "weight.bin").write_bytes(b"w" * 1000)
    (package / "Manifest.json").write_text("{}", encoding="utf-8")
    outcome = device().run(
        script(
            "import pathlib\n"
            "print(sorted(str(p) for p in pathlib.Path('m.mlpackage').rglob('*') if p.is_file()))",
            push=(Push(name="m.mlpackage", source=str(package)),),
        ),
        ignore,
    )
    assert outcome.stdout == "['m.mlpackage/Data/weight.bin', 'm.mlpackage/Manifest.json']\n"


def test_a_job_that_dies_of_a_signal_tells_which(phones, device):
    phone = phones(properties=MODEL)
    outcome = device().run(script("import os; os.abort()"), ignore)
    assert outcome.returncode == -signal.SIGABRT
    assert nothing_left(phone)


def test_lines_are_heard_when_they_come(phones, device):
    phones(properties=MODEL)
    times = []
    device().run(
        script("import time\nfor _ in range(3): print(1, flush=True); time.sleep(0.4)"),
        lambda _: times.append(time.monotonic()),
    )
    assert times[2] - times[0] > 0.5


def test_a_job_is_pinned_to_the_fast_cores(phones, device, cores):
    phones(properties=MODEL, clusters=cores)
    fast = device(threads=1)
    outcome = fast.run(script("import os; print(os.sched_getaffinity(0))"), ignore)
    assert outcome.stdout == "{1}\n"
    assert fast.before.pinned == (1,)


def test_where_pinning_does_not_work_the_job_runs_and_the_reason_is_kept(phones, device):
    phone = phones(properties=MODEL)
    phone.without("taskset")
    plain = device()
    assert plain.run(script("print(1)"), ignore).stdout == "1\n"
    assert plain.before.pinned == ()
    assert "taskset" in plain.before.pinning


def test_the_phone_is_looked_at_before_and_after(phones, device):
    phone = phones(properties=MODEL)
    phone.warm(case_c=31.5)
    looking = device()
    looking.run(script("pass"), lambda _: None)
    phone.warm(case_c=36.5, status=1)
    assert looking.before.skin_c == looking.after.skin_c == 31.5
    assert looking.state().skin_c == 36.5
    assert looking.before.battery_percent == 84
    assert looking.info().name == "pixel8"
    assert looking.info().system == "Android 14 (FAKE.240101.001)"
    assert (looking.info().cores, looking.info().physical_cores) == (9, 5)


def test_a_warm_phone_is_waited_for(phones, device):
    phone = phones(properties=MODEL)
    phone.warm(case_c=41.0, status=2)
    heard = []
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        phone.warm(case_c=41.0 - 4 * len(waited), status=0)

    waiting = device(cool_c=35.0, sleep=sleep)
    waiting.run(script("pass"), heard.append)
    assert len(waited) == 2
    stages = [json.loads(line)["stage"] for line in heard]
    assert "thermal status is 2" in stages[0]
    assert "37 °C, not below 35 °C" in stages[1]
    assert waiting.before.skin_c == 33.0


def test_a_throttled_phone_that_does_not_cool_down_is_given_up(phones, device):
    phone = phones(properties=MODEL)
    phone.warm(case_c=44.0, status=3)
    with pytest.raises(DeviceError, match=r"too warm.*thermal status is 3"):
        device(cool_c=35.0, cool_timeout_s=10, sleep=lambda _: None).run(script("pass"), ignore)
    assert nothing_left(phone)


def test_a_connection_dropped_in_a_push_is_told_and_cleared_up(phones, device, tmp_path):
    phone = phones(properties=MODEL)
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(2_000_000))
    phone.fault = "drop_in_push"
    with pytest.raises(DeviceError, match=r"connection to Pixel 8 .* was lost"):
        device().run(script("pass", push=(Push(name="x", source=str(large)),)), ignore)
    assert phone.fault == ""
    assert nothing_left(phone)


def test_a_connection_dropped_in_mid_run_is_never_taken_for_success(phones, device):
    phone = phones(properties=MODEL)
    phone.fault = "drop_in_run"
    with pytest.raises(DeviceError, match="lost during the job: its end mark did not come"):
        device().run(script(FAMILY), ignore)
    assert phone.fault == ""
    assert nothing_left(phone)


def test_a_phone_that_does_not_come_back_clears_up_alone_and_the_doubt_is_told(
    phones, device, monkeypatch
):
    monkeypatch.setattr("edgese.devices.remote_job.RETURN_S", 1)
    phone = phones(properties=MODEL)
    phone.fault = "gone_in_run"
    with pytest.raises(DeviceError) as caught:
        device().run(script(FAMILY), ignore)
    assert "/data/local/tmp/edgese-job-" in caught.value.hint
    assert nothing_left(phone)


def test_a_full_phone_is_told(phones, device, tmp_path):
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(2_000_000))
    phone = phones(properties=MODEL, quota_bytes=1_000_000)
    with pytest.raises(DeviceError, match=r"is full.*No space left on device"):
        device().run(script("pass", push=(Push(name="x", source=str(large)),)), ignore)
    assert nothing_left(phone)


def test_a_phone_without_permission_to_copy_is_told(phones, device):
    phone = phones(properties=MODEL)
    phone.fault = "no_permission"
    with pytest.raises(DeviceError, match="denies permission"):
        device().run(script("pass"), ignore)
    assert nothing_left(phone)


def test_a_phone_without_permission_to_make_a_folder_is_told(phones, device):
    phone = phones(properties=MODEL)
    phone.tool("mkdir", "echo \"mkdir: '$1': Permission denied\" >&2; exit 1")
    with pytest.raises(DeviceError, match="denies permission: making a folder"):
        device().run(script("pass"), ignore)
    assert nothing_left(phone)


def test_a_file_that_got_lost_is_told(phones, device):
    phone = phones(properties=MODEL)
    phone.fault = "lost_file"
    with pytest.raises(DeviceError, match=r"script\.py was copied .* but it is not there"):
        device().run(script("pass"), ignore)
    assert nothing_left(phone)


def test_a_file_that_was_spoilt_on_the_way_is_told(phones, device):
    phone = phones(properties=MODEL)
    phone.fault = "spoilt_file"
    with pytest.raises(DeviceError, match="not what was sent"):
        device().run(script("pass"), ignore)
    assert nothing_left(phone)


def test_where_nothing_can_hash_the_size_is_compared(phones, device):
    phone = phones(properties=MODEL)
    phone.without("sha256sum")
    assert device().run(script("print(1)"), ignore).stdout == "1\n"
    assert nothing_left(phone)


def test_a_runner_that_is_not_there_is_told(phones, device):
    phone = phones(properties=MODEL)
    with pytest.raises(DeviceError, match=r"\./benchmark_model cannot be started"):
        device().run(Job(argv=("./benchmark_model",)), ignore)
    assert nothing_left(phone)


def test_a_file_that_is_not_here_is_told_before_anything_is_done(phones, device):
    phone = phones(properties=MODEL)
    with pytest.raises(InputError, match="nowhere"):
        device().run(script("pass", push=(Push(name="x", source="/nowhere/x"),)), ignore)
    assert nothing_left(phone)


def test_a_runner_for_another_processor_is_told(phones, device):
    phone = phones(properties=MODEL, architecture="armv7l")
    program = Path(sys.executable).resolve()
    with pytest.raises(DeviceError, match=r"was built for .* is armv7l"):
        device().run(
            Job(argv=("./python",), push=(Push(name="python", source=str(program)),)), ignore
        )
    assert nothing_left(phone)


def test_a_runner_of_ones_own_is_made_executable(phones, device, tmp_path):
    phone = phones(properties=MODEL)
    program = tmp_path / "runner.sh"
    program.write_text(f"#!{phone.root}/system/bin/sh\necho ran $1\n", encoding="utf-8")
    program.chmod(0o644)
    job = Job(argv=("./runner", "it"), push=(Push(name="runner", source=str(program)),))
    assert device(python=None).run(job, ignore).stdout == "ran it\n"


def test_a_runtimes_own_program_is_run_and_read(phones, device, tmp_path):
    phone = phones(properties=MODEL)
    # It says on its output what the program's log would be, and in Android's log what only
    # executor_runner puts there.
    phone.tool("logcat", "echo 'Iteration 1 of 2: 3.0 ms'; echo 'Iteration 2 of 2: 2.0 ms'")
    program = tmp_path / "executor_runner"
    program.write_text(
        f"#!{phone.root}/system/bin/sh\n"
        'for word in "$@"; do echo "$word"; done\n'
        "echo 'Model executed successfully 2 time(s) in 5.0 ms.'\n",
        encoding="utf-8",
    )
    artifact = tmp_path / "b0.pte"
    artifact.write_bytes(b"program")
    job = binary_job(program, artifact, "executorch", threads=4, runs=1, warmup_runs=1)
    outcome = device(python=None).run(job, ignore)
    words = outcome.files["log.txt"].decode().splitlines()
    assert words[0] == "--model_path=artifact.pte"
    run = parsed_run(program, outcome, delegate="", device="pixel8", warmup_runs=1)
    assert (run.samples_ms, run.first_run_ms) == ((2.0,), 3.0)
    assert nothing_left(phone)


def test_a_job_over_its_time_leaves_no_process(phones, device):
    phone = phones(properties=MODEL)
    heard = []
    with pytest.raises(DeviceError, match="did not end within 2 s"):
        device().run(script(FAMILY, timeout_s=2), heard.append)
    assert heard == ["started"]
    assert nothing_left(phone)


def test_an_interrupted_job_leaves_no_process(phones, device):
    phone = phones(properties=MODEL)

    def interrupt(_):
        assert len(phone.processes()) > 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        device().run(script(FAMILY), interrupt)
    assert nothing_left(phone)


def test_a_process_that_outlives_its_parent_is_ended_with_the_job(phones, device):
    phone = phones(properties=MODEL)
    outcome = device().run(
        script(
            "import subprocess, sys\n"
            "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
            " stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"
        ),
        ignore,
    )
    assert outcome.returncode == 0
    assert nothing_left(phone)


def test_a_host_that_dies_leaves_nothing_on_the_phone(phones, adb_server):
    phone = phones(properties=MODEL)
    code = f"""
import sys
from edgese.__main__ import run
from edgese.devices.adb import AdbDevice
from edgese.records.measurement import Job, Push
AdbDevice(
    server={adb_server.address!r}, environment={adb_server.environment!r},
    python=(sys.executable,), cool_c=None,
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
        assert host.stdout.readline() == b"started\n"
        host.kill()
        assert nothing_left(phone)


def test_an_old_phone_that_tells_no_return_codes_does_as_well(phones, device):
    phone = phones(properties=MODEL, packets=False)
    outcome = device().run(
        script("import sys; print('out'); print('err', file=sys.stderr); sys.exit(4)"), ignore
    )
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (4, "out\n", "err\n")
    assert nothing_left(phone)


def test_no_phone_at_all_is_told(adb_server, device):
    assert adb_server.adb("devices").stdout.strip() == "List of devices attached"
    with pytest.raises(DeviceError, match="Pixel 8 is not attached: adb lists no phone") as caught:
        device().info()
    assert "USB debugging" in caught.value.hint


def test_another_phone_is_told_by_its_model(phones, device):
    phone = phones(properties={"ro.product.model": "Pixel 8 Pro"})
    with pytest.raises(DeviceError, match=r"Pixel 8 is not attached.*Pixel 8 Pro") as caught:
        device().info()
    assert phone.serial in caught.value.message


def test_two_phones_of_one_kind_are_an_error_that_lists_them(phones, device):
    one, other = phones(properties=MODEL), phones(properties=MODEL)
    phones(properties={"ro.product.model": "Pixel 6"})
    with pytest.raises(DeviceError, match="2 phones are attached that are Pixel 8") as caught:
        device().info()
    assert one.serial in caught.value.message
    assert other.serial in caught.value.message
    assert device(serial=other.serial).phone.serial == other.serial


def test_a_serial_of_another_kind_of_phone_is_refused(phones, device):
    phone = phones(properties={"ro.product.model": "Pixel 6"})
    with pytest.raises(DeviceError, match="is no Pixel 8: it calls itself 'Pixel 6'"):
        device(serial=phone.serial).info()


def test_a_serial_that_is_not_there_is_told(phones, device):
    phone = phones(properties=MODEL)
    with pytest.raises(DeviceError, match="phone ABC is not attached; there is") as caught:
        device(serial="ABC").info()
    assert phone.serial in caught.value.message


def test_a_phone_that_was_not_allowed_is_told(phones, device):
    phones(properties=MODEL, authorized=False)
    with pytest.raises(DeviceError, match=r"attached but (unauthorized|authorizing)") as caught:
        device().info()
    assert "allow USB debugging" in caught.value.hint


def test_a_phone_that_does_not_answer_is_told(phones, device, adb_server):
    phone = phones(properties=MODEL, silent=True, connect=False)
    with subprocess.Popen(
        [shutil.which("adb"), "-P", str(adb_server.port), "connect", phone.serial],
        env=os.environ | adb_server.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as connecting:
        try:
            assert soon(lambda: phone.serial in adb_server.adb("devices").stdout)
            with pytest.raises(DeviceError, match="attached but offline"):
                device().info()
        finally:
            connecting.kill()
            adb_server.adb("disconnect", phone.serial)


def test_the_serial_of_the_environment_is_taken(phones, device, monkeypatch):
    phones(properties=MODEL)
    other = phones(properties=MODEL)
    monkeypatch.setenv("ANDROID_SERIAL", other.serial)
    assert device().phone.serial == other.serial


@pytest.mark.usefixtures("adb_server")
def test_a_server_that_is_not_there_is_told():
    with pytest.raises(DeviceError, match=r"adb server on 127\.0\.0\.1:9 cannot be asked"):
        AdbDevice(server="127.0.0.1:9").info()


def test_whether_a_phone_can_be_reached_is_told_in_a_few_words(phones, adb_server, monkeypatch):
    monkeypatch.setenv("HOME", adb_server.environment["HOME"])
    assert reachable(PIXEL8, adb_server.address) == "not attached"
    phone = phones(properties=MODEL)
    assert reachable(PIXEL8, adb_server.address) == f"attached ({phone.serial})"
    phones(properties=MODEL)
    assert reachable(PIXEL8, adb_server.address) == "several attached"
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert reachable(PIXEL8, adb_server.address) == "adb is not installed"


def test_without_adb_the_hint_is_how_to_get_it(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(MissingDependency) as caught:
        AdbClient().attached()
    assert "apt-get install adb" in caught.value.hint


def test_core_ml_is_refused(phones, device):
    phones(properties=MODEL)
    with pytest.raises(DeviceError, match="Apple"):
        device().check("coreml")


def test_an_interpreter_without_the_runtime_is_told(phones, device):
    phones(properties=MODEL)
    device().check("onnxruntime")
    with pytest.raises(MissingDependency, match="TFLite"):
        device(python=(sys.executable, "-S", "-I")).check("tflite")


def test_what_is_left_of_other_days_can_be_removed(phones, device):
    phone = phones(properties=MODEL)
    (phone.storage / "edgese-job-old").mkdir()
    (phone.storage / "edgese-python-1234").mkdir()
    (phone.storage / "mine").mkdir()
    assert device().clean() == ("edgese-job-old", "edgese-python-1234")
    assert [path.name for path in phone.storage.iterdir()] == ["mine"]
    assert device().clean() == ()


def test_a_phone_that_another_run_measures_on_is_not_disturbed(phones, device, adb_server):
    phone = phones(properties={"ro.product.model": "Pixel 8"})
    key = f"adb-{adb_server.address}-{phone.serial}"
    busy = device(busy_timeout_s=0.1)
    with held(key, "Pixel 8", ignore):
        for act in (lambda: busy.run(script("print(1)"), ignore), busy.clean):
            with pytest.raises(DeviceError, match=r"another edgese .* still measures on it"):
                act()
    assert nothing_left(phone)
    assert busy.run(script("print(1)"), ignore).stdout == "1\n"


def test_what_edgese_has_on_a_phone_is_removed_by_a_command(
    phones, adb_server, capsys, monkeypatch
):
    phone = phones(properties={"ro.product.model": "Pixel 8"})
    for name in ("edgese-python-0123456789abcdef", "edgese-job-1", "somebody-else"):
        (phone.storage / name).mkdir()
    for name, value in adb_server.environment.items():
        monkeypatch.setenv(name, value)
    words = ["devices", "pixel8", "--clean", "--adb-server", adb_server.address]
    assert run([*words, "--serial", phone.serial, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "device": "pixel8",
        "removed": ["edgese-job-1", "edgese-python-0123456789abcdef"],
    }
    assert [path.name for path in phone.storage.iterdir()] == ["somebody-else"]
    assert run(words) == 0
    assert capsys.readouterr().out == "Google Pixel 8: nothing to remove.\n"
