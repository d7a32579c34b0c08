"""Bundles, whole: made here, measured by another Python in another folder, brought home."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from fake_devices import system

from edgese import project
from edgese.__main__ import run
from edgese.devices.emulator import cpus, program
from edgese.errors import DeviceError, StoreError
from edgese.measure.bundles import import_results, make_bundle
from edgese.records.profile import ProfileResult
from edgese.seals import sealed
from edgese.store import manifest_path, read_manifest, sha256_of, write_record

QUICK = {
    "threads": 1,
    "launches": 2,
    "blocks": 4,
    "min_runs": 20,
    "min_time_s": 0.0,
    "warmup_time_s": 0.0,
}
DEVICE = """
name = "box"
title = "My box"
kind = "linux"
transport = "ssh"
[delegates]
onnxruntime = ["cpu"]
[properties]
"{path}" = "Box of *"
"""


@pytest.fixture
def identity(tmp_path, monkeypatch):
    """A device of one's own that this machine is; gives the file that says so."""
    path = tmp_path / "model"
    path.write_bytes(b"Box of the tests\0")
    folder = tmp_path / "mine/targets/devices"
    folder.mkdir(parents=True)
    (tmp_path / "mine/edgese.toml").write_text("", encoding="utf-8")
    (folder / "box.toml").write_text(DEVICE.format(path=path), encoding="utf-8")
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "mine")
    project.root.cache_clear()
    yield path
    monkeypatch.undo()
    project.root.cache_clear()


@pytest.fixture
def away(tmp_path):
    """A folder elsewhere."""
    folder = tmp_path / "a way"
    folder.mkdir()
    return folder


@pytest.fixture
def bundle(identity, tiny, away):  # noqa: ARG001  # the device must be known
    return make_bundle([tiny, tiny], device="box", out=away / "box.pyz", **QUICK | {"launches": 4})


@pytest.fixture
def long(identity, tiny, away):  # noqa: ARG001  # the device must be known
    """A bundle that measures for a minute."""
    settings = QUICK | {"launches": 1, "blocks": 1000, "min_time_s": 60}
    return make_bundle([tiny], device="box", out=away / "long.pyz", **settings)


def started(path, *words, python=(sys.executable,), **settings):
    """Starts a bundle as one does where it is."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.Popen(
        [*python, path.name, *words],
        cwd=path.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def ended(path, *words, **settings):
    """Runs a bundle to its end; gives its code and what it said."""
    with started(path, *words, **settings) as process:
        _, said = process.communicate(timeout=300)
    return process.returncode, said


def running(process):
    """Waits until blocks are measured."""
    for line in process.stderr:
        if "round" in line:
            return
    pytest.fail("it ended before it had begun")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_bundle_is_measured_elsewhere_and_comes_home(bundle, away, tiny, tmp_path):
    code, said = ended(bundle.path, "--warm")
    assert code == 0, said
    assert "launch 4 of 4: round 1" in said
    assert names(away) == ["box.pyz", bundle.results]
    home = tmp_path / bundle.results
    shutil.move(away / bundle.results, home)
    result = import_results(home, bundle.path)
    assert [one.label for one in result.profiles] == [str(tiny), f"{tiny} (2)"]
    for one in result.profiles:
        assert (one.source, one.sha256) == ("measured", sha256_of(tiny))
        assert one.device.name == "box"
        assert [len(launch.blocks) for launch in one.launches] == [1, 1, 1, 1]
        assert all(len(b.samples_ns) == 5 for launch in one.launches for b in launch.blocks)
        assert one.versions["onnxruntime"]
    assert len(result.ratios) == 1
    assert result.before.architecture == os.uname().machine
    assert result.before.taken <= result.after.taken == result.created
    assert ProfileResult.from_json(result.to_json(), "x") == result


def test_the_commands_print_how_it_is_done_and_what_came_home(
    identity, tiny, away, capsys, tmp_path
):
    out = away / "box.pyz"
    settings = ("--threads", "1", "--launches", "1", "--blocks", "2", "--min-runs", "4")
    words = ["bundle", str(tiny), "--device", "box", "--out", str(out), "--min-time", "0"]
    assert run([*words, *settings]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("for My box")
    assert told[1:] == ["  python3 box.pyz", "  edgese import box.pyz.results.jsonl"]
    assert ended(out, "--warm")[0] == 0
    record = tmp_path / "box.json"
    assert run(["import", str(away / "box.pyz.results.jsonl"), "--out", str(record)]) == 0
    shown = capsys.readouterr()
    assert "measured on box" in shown.out
    assert "Measured elsewhere, on My box" in shown.err
    assert ProfileResult.from_json(record.read_bytes(), record).profiles[0].latency.count == 4
    assert run(["import", str(away / "box.pyz.results.jsonl"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["profiles"][0]["source"] == "measured"
    del identity


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_leaves_nothing_and_can_be_started_again(long, away, sent):
    with started(long.path, "--warm") as process:
        running(process)
        process.send_signal(sent)
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert said.endswith("Interrupted: nothing was written. It can be started again.\n")
    assert names(away) == ["long.pyz"]
    with started(long.path, "--warm") as again:
        running(again)
        again.kill()


def until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def test_what_a_killed_run_leaves_is_cleared_by_the_next(long, away):
    with started(long.path, "--warm") as process:
        running(process)
        process.kill()
    assert names(away) == ["long.pyz", "long.pyz.results.jsonl.work"]
    rest = away / "long.pyz.results.jsonl.work/rest"
    rest.write_text("of the first run", encoding="ascii")
    with started(long.path, "--warm") as again:
        running(again)
        assert not rest.exists()
        again.terminate()
        again.communicate(timeout=20)
    assert names(away) == ["long.pyz"]


def test_a_kill_ends_what_measures_too(long):
    marker = f"EDGESE_TEST_RUN={os.getpid()}-{time.monotonic_ns()}"

    def alive():
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if marker.encode() in path.read_bytes().split(b"\0"):
                    found.append(path.parent.name)
            except OSError:
                continue
        return found

    with started(long.path, "--warm", python=("env", marker, sys.executable)) as process:
        running(process)
        # The bundle, its guard, the runner and the process of the artifact.
        assert len(alive()) == 4
        process.kill()
    until(lambda: not alive())


def test_a_bundle_is_measured_once_at_a_time(long):
    with started(long.path, "--warm") as process:
        running(process)
        code, said = ended(long.path, "--warm")
        process.kill()
    assert code == 1
    assert "being measured by another process" in said


def test_it_measures_on_no_other_device(bundle, identity, away):
    identity.write_text("Crate of the tests", encoding="ascii")
    code, said = ended(bundle.path)
    assert code == 1
    assert "This is no My box: of itself it says 'Crate of the tests'." in said
    assert names(away) == ["box.pyz"]


def test_whether_it_can_be_measured_is_told_without_measuring(bundle, away):
    code, said = ended(bundle.path, "--check")
    assert (code, said) == (0, "My box: it can be measured here.\n")
    assert names(away) == ["box.pyz"]


def test_a_python_without_the_runtime_is_told(bundle):
    code, said = ended(bundle.path, "--check", python=(sys.executable, "-S"))
    assert code == 1
    assert "lacks the runtime of ONNX Runtime: install onnxruntime" in said


def test_a_damaged_bundle_is_not_measured(bundle, away):
    content = bytearray(bundle.path.read_bytes())
    at = content.index(b"files/artifact0.onnx") + 100
    content[at] ^= 1
    bundle.path.write_bytes(content)
    code, said = ended(bundle.path, "--warm")
    assert code == 1
    assert "artifact0.onnx in the bundle is damaged" in said
    assert names(away) == ["box.pyz"]
    bundle.path.write_bytes(content[:2000])
    assert ended(bundle.path)[0] != 0


def test_an_artifact_that_fails_there_is_told_here(identity, tiny, away, capsys):
    broken = away / "broken.onnx"
    broken.write_bytes(b"no model at all")
    other = {"artifact": broken.name, "sha256": sha256_of(broken), "size_bytes": 15}
    write_record(
        sealed(msgspec.structs.replace(read_manifest(tiny), **other)), manifest_path(broken)
    )
    settings = QUICK | {"launches": 4}
    packed = make_bundle([tiny, broken], device="box", out=away / "box.pyz", **settings)
    assert ended(packed.path, "--warm")[0] == 0
    path = str(away / packed.results)
    assert run(["import", path]) == DeviceError.exit_code
    assert "InvalidProtobuf" in capsys.readouterr().err
    del identity


def test_results_that_were_edited_are_refused(bundle, away):
    assert ended(bundle.path, "--warm")[0] == 0
    path = away / bundle.results
    path.write_text(path.read_text().replace('"returncode": 0', '"returncode": 1'))
    with pytest.raises(StoreError, match="is not what was written"):
        import_results(path, bundle.path)


@pytest.fixture
def emulated(sysroot):
    """The words that run the sysroot's programs here."""
    cpu, qemu = cpus.find_cpu("arm64-a76"), program.find_qemu()
    folder, _ = cpus.view(cpu, qemu, sysroot)
    quiet = ("-U", "LD_PRELOAD", "-U", "LD_LIBRARY_PATH")
    return (str(qemu.path), *quiet, "-cpu", cpu.qemu, "-L", str(folder))


@pytest.mark.slow
def test_a_bundle_with_its_interpreter_is_measured_on_a_phone_with_three_commands_of_adb(
    phones, adb_server, emulated, tiny, tmp_path
):
    phone = phones(properties={"ro.product.model": "Pixel 8"})
    out = tmp_path / "pixel8.sh"
    settings = QUICK | {"launches": 1, "blocks": 2, "min_runs": 4, "warmup_runs": 1}
    packed = make_bundle(
        [tiny], device="pixel8", out=out, with_python=True, prefix=emulated, **settings
    )
    push, measure, pull, remove = (command.split() for command in packed.commands)
    assert [words[:2] for words in (push, pull)] == [["adb", "push"], ["adb", "pull"]]
    assert adb_server.adb("-s", phone.serial, "push", str(out), push[3]).returncode == 0
    # Where something is missing it is told before anything is measured.
    system.replace(phone.root, "getprop", "echo Pixel 7")
    refused = adb_server.adb("-s", phone.serial, *measure[1:])
    assert "This is no Google Pixel 8: of itself it says 'Pixel 7'." in refused.stderr
    assert refused.returncode == 1
    system.replace(phone.root, "getprop", "echo Pixel 8")
    measured = adb_server.adb("-s", phone.serial, *measure[1:])
    assert measured.returncode == 0, measured.stderr
    assert adb_server.adb("-s", phone.serial, *pull[1:], str(tmp_path)).returncode == 0
    assert names(phone.storage) == ["pixel8.sh", packed.results]
    assert adb_server.adb("-s", phone.serial, *remove[1:]).returncode == 0
    assert names(phone.storage) == []
    result = import_results(tmp_path / packed.results)
    assert result.profiles[0].device.name == "pixel8"
    assert result.profiles[0].device.architecture == "aarch64"
    assert result.profiles[0].latency.count == 4
    assert result.before.skin_c == 25.0
    assert "/edgese-bundle-" in result.notes[0]
