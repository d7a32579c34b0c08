import errno
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgese import store
from edgese.errors import InputError, OutputError, StoreError
from edgese.records.base import Record
from edgese.store import manifest_path, read_manifest, sha256_of, write_record


class Result(Record, frozen=True):
    """A record with a schema."""

    value: int = 0
    schema: int = 2


class Loss(Record, frozen=True):
    """A record with a number that has no bounds."""

    loss: float


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half(final, error):
    with store.staging(final) as (partial,):
        partial.write_text("half")
        raise error


def test_a_block_that_ends_well_leaves_its_file_alone(tmp_path):
    final = tmp_path / "out" / "file"
    with store.staging(final) as (partial,):
        partial.write_text("new")
        assert not final.exists()
    assert final.read_text() == "new"
    assert names(tmp_path / "out") == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error):
    final = tmp_path / "file"
    final.write_text("old")
    with pytest.raises(error):
        write_half(final, error())
    assert final.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_folder_replaces_an_older_folder_whole(tmp_path):
    final = tmp_path / "package"
    final.mkdir()
    (final / "old").write_text("old")
    with store.staging(final) as (partial,):
        partial.mkdir()
        (partial / "new").write_text("new")
    assert names(final) == ["new"]
    assert names(tmp_path) == ["package"]


def test_an_older_description_is_withdrawn_before_what_it_describes_changes(tmp_path, monkeypatch):
    artifact, manifest = tmp_path / "a", tmp_path / "a.json"
    artifact.write_text("old")
    manifest.write_text("of the old")
    seen = []
    replace = Path.replace

    def spy(self, target):
        seen.append(names(tmp_path))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", spy)
    with store.staging(artifact, manifest) as (new_artifact, new_manifest):
        new_artifact.write_text("new")
        new_manifest.write_text("of the new")
    assert "a.json" not in seen[0]
    assert (artifact.read_text(), manifest.read_text()) == ("new", "of the new")


def test_a_place_that_the_block_leaves_empty_keeps_its_contents(tmp_path):
    artifact, manifest = tmp_path / "a", tmp_path / "a.json"
    artifact.write_text("old")
    manifest.write_text("of the old")
    with store.staging(artifact, manifest):
        pass
    assert (artifact.read_text(), manifest.read_text()) == ("old", "of the old")


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    script = (
        "import os, signal; from pathlib import Path; from edgese import store\n"
        f"with store.staging(Path({str(tmp_path / 'file')!r})) as (partial,):\n"
        "    partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert len(names(tmp_path)) == 2, "the partial file and the lock"
    store.write_record(Result(), tmp_path / "other")
    assert names(tmp_path) == ["other"]


def test_two_processes_never_write_into_a_folder_at_once(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from edgese import store\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "for _ in range(30):\n"
        "    with store.staging(folder / 'file') as (partial,):\n"
        "        assert not partial.exists()\n"
        "        partial.write_text(sys.argv[1]); time.sleep(0.001)\n"
        "        assert partial.read_text() == sys.argv[1]\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, name]) for name in "ab"]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert names(tmp_path) == ["file"]


def test_whoever_waits_for_a_lock_is_told_once(tmp_path):
    script = (
        "import time; from pathlib import Path; from edgese import store\n"
        f"with store.locked(Path({str(tmp_path)!r})):\n"
        "    print('held', flush=True); time.sleep(0.5)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        told = []
        started = time.monotonic()
        with store.locked(tmp_path, on_wait=lambda: told.append("waits")):
            waited = time.monotonic() - started
    assert told == ["waits"]
    assert waited > 0.2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "permission is denied"),
        (errno.EROFS, "the file system is read-only"),
    ],
)
def test_a_refusal_to_write_is_an_output_error_with_its_reason(tmp_path, code, reason):
    with pytest.raises(OutputError, match=f"{tmp_path} cannot be written: {reason}"):
        write_half(tmp_path / "file", OSError(code, os.strerror(code)))
    assert names(tmp_path) == []


def test_another_system_error_stays_what_it_is(tmp_path):
    with pytest.raises(OSError, match="No such process"), store.writing(tmp_path):
        raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))


def test_a_device_that_is_full_is_an_output_error():
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has a device that is always full")
    with pytest.raises(OutputError, match="the disk is full"), store.writing(Path("/dev/full")):
        Path("/dev/full").write_bytes(bytes(10))


@pytest.mark.parametrize("below", ["", "below", "far/below"])
def test_a_file_where_a_folder_should_be_is_an_output_error(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file, not a folder"):
        store.writable_folder(tmp_path / "file" / below)


def test_a_place_where_nothing_can_be_made_is_an_output_error():
    if not Path("/proc/self").exists():
        pytest.skip("only Linux has /proc")
    with pytest.raises(OutputError):
        store.writable_folder(Path("/proc/edgese"))


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / "taken").mkdir()
    with (
        pytest.raises(OutputError, match=rf"{tmp_path}/taken cannot .*: a folder is in the way"),
        store.staging(tmp_path / "taken") as (partial,),
    ):
        partial.write_text("new")
    assert names(tmp_path) == ["taken"]


def test_a_folder_is_no_place_for_a_file(tmp_path):
    store.writable_file(tmp_path / "new" / "file")
    with pytest.raises(OutputError, match="is a folder, not a file"):
        store.writable_file(tmp_path / "new")


def test_trying_a_folder_leaves_it_empty(tmp_path):
    store.writable_folder(tmp_path / "new" / "folder")
    assert names(tmp_path / "new" / "folder") == []


def test_the_hash_of_a_folder_depends_on_names_and_contents_alone(tmp_path):
    hashes = []
    for number, files in enumerate(
        [{"a": "1", "b/c": "2"}, {"b/c": "2", "a": "1"}, {"a": "1", "b/d": "2"}, {"a": "12"}]
    ):
        folder = tmp_path / str(number)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        hashes.append(store.sha256_of(folder))
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_size_and_copy_take_files_and_folders(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").write_bytes(bytes(10))
    store.copy(tmp_path / "folder", tmp_path / "copy")
    store.copy(tmp_path / "folder" / "inner" / "file", tmp_path / "file")
    assert [store.size_of(tmp_path / name) for name in ("copy", "file")] == [10, 10]


def test_a_record_is_read_as_it_was_written(tmp_path):
    store.write_record(Result(value=7), tmp_path / "r.json")
    assert store.read_record(Result, tmp_path / "r.json", remake="make it") == Result(value=7)


@pytest.mark.parametrize(
    ("schema", "message", "hint"),
    [(1, "from an older edgese", "Make it again: `x`."), (3, "from a newer edgese", "Upgrade")],
)
def test_older_and_newer_schemas_have_two_different_messages(tmp_path, schema, message, hint):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"schema": schema, "unknown": 1}))
    with pytest.raises(StoreError, match=message) as caught:
        store.read_record(Result, path, remake="x")
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema": 2, "value": "x"}', '{"schema": "2"}']
)
def test_what_is_no_such_record_is_an_input_error(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is not a readable Result"):
        store.read_record(Result, path, remake="x")


def test_a_missing_record_is_an_input_error_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(InputError) as caught:
        store.read_record(Result, tmp_path / "r.json", remake="edgese convert X")
    assert caught.value.hint == "`edgese convert X` makes it."


def test_a_disk_that_is_full_while_a_folder_is_copied_is_an_output_error(tmp_path, monkeypatch):
    package = tmp_path / "package" / "inner"
    package.mkdir(parents=True)
    (package / "weights").write_bytes(bytes(10))

    def full(_source, dest):
        raise OSError(errno.ENOSPC, "No space left on device", str(dest))

    monkeypatch.setattr("edgese.store.shutil.copyfile", full)
    with pytest.raises(OutputError, match="the disk is full"), store.writing(tmp_path):
        store.copy(tmp_path / "package", tmp_path / "copy")


def test_a_copied_folder_has_the_hash_of_the_original(tmp_path):
    package = tmp_path / "package" / "inner"
    package.mkdir(parents=True)
    (package / "weights").write_bytes(bytes(10))
    (tmp_path / "package" / "empty").mkdir()
    store.copy(tmp_path / "package", tmp_path / "copy")
    assert store.sha256_of(tmp_path / "copy") == store.sha256_of(tmp_path / "package")
    assert (tmp_path / "copy" / "empty").is_dir()


def test_an_artifact_without_a_manifest_is_told_apart_from_a_broken_one(tmp_path):
    artifact = tmp_path / "foreign.tflite"
    artifact.write_bytes(b"bytes")
    with pytest.raises(InputError, match=r"foreign\.tflite has no manifest") as caught:
        read_manifest(artifact)
    assert "edgese convert" in caught.value.hint
    manifest_path(artifact).write_text("{")
    with pytest.raises(InputError, match="not a readable Manifest"):
        read_manifest(artifact)


@pytest.mark.parametrize("kind", ["link to a folder", "link to a file", "pipe"])
def test_a_folder_with_more_than_files_and_folders_has_no_hash(tmp_path, kind):
    """What a link leads to would be read with the folder, and is not under its hash."""
    folder, other = tmp_path / "a.mlpackage", tmp_path / "other"
    (folder / "Data").mkdir(parents=True)
    other.mkdir()
    (other / "weights.bin").write_bytes(b"1")
    place = folder / "Data" / "more"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(other if kind == "link to a folder" else other / "weights.bin")
    with pytest.raises(InputError, match="more is neither a file nor a folder"):
        sha256_of(folder)


def test_a_number_that_json_has_no_form_for_is_not_written(tmp_path):
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(OutputError, match="NaN or infinite"):
            write_record(Loss(loss=value), tmp_path / "a.json")
    assert not list(tmp_path.glob("a.json"))
