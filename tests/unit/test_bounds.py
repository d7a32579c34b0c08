"""What is read: regular files alone, so large and so deep, and never an exception of a library."""

import errno
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edgese
from edgese import bounds, catalog, project, store
from edgese.budgets.load_budget import load_budget
from edgese.data.labels import label_names
from edgese.data.listing import unlabelled
from edgese.errors import ConfigError, ConversionError, EdgeseError, InputError, OutputError, stage
from edgese.models.registry import find_model
from edgese.records.artifact import Manifest
from edgese.records.budget import Budget
from edgese.results import read_result
from edgese.selection.candidates import enumerated

DEEP = 100_000


def special(kind, path):
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path.name)
        case "nothing":
            pass
    return path


READERS = {
    "result": (".json", read_result),
    "manifest": (".json", lambda path: store.read_record(Manifest, path, remake="convert")),
    "budget": (".toml", load_budget),
    "model": (".toml", lambda path: find_model(str(path))),
    "candidates": (".toml", lambda path: enumerated([str(path)], targets=["tflite"])),
    "labels": (".txt", label_names),
    "hash": (".bin", store.sha256_of),
    "listing": (".csv", unlabelled),
}


@pytest.mark.parametrize(
    ("reader", "kind"),
    [
        (reader, kind)
        for reader in READERS
        for kind in ("pipe", "folder", "socket", "device", "loop", "nothing")
        if (reader, kind) not in {("hash", "folder"), ("listing", "folder")}  # these take folders
    ],
)
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, monkeypatch, kind, reader):
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 characters
    suffix, read = READERS[reader]
    path = special(kind, Path(f"x{suffix}"))
    began = time.monotonic()
    with pytest.raises(InputError, match=f"x{suffix}"):
        read(path)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
def test_a_name_that_cannot_be_is_an_input_error(name):
    with pytest.raises(InputError, match="cannot be read"):
        bounds.content(Path(name), "result", 10)


def test_what_is_too_large_is_refused_without_reading_it_all(tmp_path):
    path = tmp_path / "sparse.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="larger than 1 MiB"):
        bounds.content(path, "result", 2**20)


def test_what_a_shell_passes_as_a_descriptor_is_read():
    reader, writer = os.pipe()
    os.write(writer, b"[[budget]]\nsize_mb = 3\n")
    os.close(writer)
    try:
        assert load_budget(Path(f"/dev/fd/{reader}")).tables[0].size_mb == 3
    finally:
        os.close(reader)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"schema": 1, "x": ['])
def test_json_that_is_nested_without_end_is_an_input_error(tmp_path, opening):
    path = tmp_path / "deep.json"
    path.write_text('{"schema": 1, "device": ' + opening * DEEP)
    for read in (read_result, READERS["manifest"][1]):
        with pytest.raises(InputError, match=r"deep\.json"):
            read(path)
    with pytest.raises(InputError, match=r"deep\.json"):
        Budget.from_json(path.read_bytes(), path)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * DEEP,
        "a = " + "{a = " * DEEP,
        "a = " + "9" * 5000,
        ".".join("a" * DEEP) + " = 1",
        "[" + " . ".join("a" * DEEP) + "]",
        "[" + ".".join(['"a.b"'] * DEEP) + "]",
        "[[" + ".".join(["'a'"] * DEEP) + "]]",
    ],
    ids=["arrays", "tables", "digits", "dotted", "header", "quoted", "array of tables"],
)
def test_toml_without_end_is_an_input_error_in_no_time(tmp_path, text):
    path = tmp_path / "deep.toml"
    path.write_text(f"{text}\n")
    began = time.monotonic()
    for read in (load_budget, READERS["model"][1], READERS["candidates"][1]):
        with pytest.raises(InputError, match=r"deep\.toml"):
            read(path)
    assert time.monotonic() - began < 3


def test_dots_in_strings_and_numbers_are_no_keys():
    text = 'a = "' + "x." * 100 + '"\nb = [' + "1.5, " * 100 + "]\n# " + "e.g. this, " * 100
    bounds.check_toml(text, "x")
    bounds.check_toml("\n".join(f"[a.b.c{number}]" for number in range(100)), "x")


def test_a_key_that_is_there_twice_is_an_input_error():
    with pytest.raises(InputError, match="'budget' twice"):
        Budget.from_json('{"budget": [{"size_mb": 1}], "budget": [{"size_mb": 9}]}', "x")
    nested = '{"budget": [{"size_mb": 1, "device": "host", "size_mb": 9}]}'
    with pytest.raises(InputError, match="'size_mb' twice"):
        Budget.from_json(nested, "x")


def test_a_csv_column_that_is_there_twice_is_an_input_error(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "x.csv").write_text("file,label,file\na.jpg,1,b.jpg\n")
    with pytest.raises(InputError, match="'file' twice"):
        unlabelled(tmp_path / "x.csv")


def test_one_image_in_three_spellings_is_named_as_one(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.jpg").touch()
    for other in ("./a.jpg", "sub/../a.jpg", str(tmp_path / "a.jpg")):
        (tmp_path / "x.csv").write_text(f"file\na.jpg\n{other}\n")
        with pytest.raises(InputError, match="the image of line 2"):
            unlabelled(tmp_path / "x.csv")


def test_a_listing_may_name_whole_paths_and_odd_ones_are_missing(tmp_path):
    (tmp_path / "a.jpg").touch()
    listing = tmp_path / "lists" / "x.csv"
    listing.parent.mkdir()
    listing.write_text(f"file\n{tmp_path / 'a.jpg'}\n")
    assert unlabelled(listing) == (tmp_path / "a.jpg",)
    for odd in ("a" * 5000, "a\0b", "lists"):
        listing.write_text(f"file\n{odd}\n")
        with pytest.raises(InputError, match=r"which is not there|not a readable CSV"):
            unlabelled(listing)


def test_the_projects_files_are_bounded_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edgese.toml").write_text("a = " + "[" * DEEP)
    (tmp_path / "calibration" / "recipes").mkdir(parents=True)
    (tmp_path / "calibration" / "recipes" / "own.toml").write_text("a = " + "[" * DEEP)
    project.root.cache_clear()
    project.file.cache_clear()
    try:
        with pytest.raises(InputError, match=r"edgese\.toml"):
            project.file()
        with pytest.raises(InputError, match=r"own\.toml"):
            catalog.recipe("own")
    finally:
        project.root.cache_clear()
        project.file.cache_clear()


def own_code(text):
    """Code that counts as edgese's own."""
    return compile(text, str(Path(edgese.__file__).parent / "made_up.py"), "exec")


@pytest.mark.parametrize(
    "text",
    ["{}['x']", "None.x", "[][1]", "len(1)", "1 / 0", "assert False", "raise ValueError('x')"],
)
def test_a_mistake_of_our_own_passes_a_stage_as_it_is(text):
    with pytest.raises(Exception) as caught, stage("do it"):  # noqa: PT011  # that is the question
        exec(own_code(text), {})  # noqa: S102  # the code stands above
    assert not isinstance(caught.value, EdgeseError)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import json; json.loads('{')", "JSONDecodeError in json.decoder: Expecting"),
        ("import struct; struct.unpack('<I', b'')", "error: unpack requires"),
        ("raise RecursionError", "it is nested deeper than 1000 levels"),
        ("raise MemoryError", "there is not enough memory for it"),
        ("'\\ud800'.encode()", "UnicodeEncodeError: "),
        ("open('/nowhere')", "No such file or directory (/nowhere)"),
        ("raise RuntimeError", "RuntimeError"),
        ("import decimal; decimal.Decimal('x')", "InvalidOperation: "),
    ],
)
def test_what_others_raise_becomes_the_error_of_the_stage(text, said):
    with (
        pytest.raises(ConversionError) as caught,
        stage("do it with x", ConversionError, hint="so"),
    ):
        exec(own_code(text), {})  # noqa: S102  # the code stands above
    assert caught.value.message.startswith(f"Cannot do it with x: {said}")
    assert caught.value.hint == "so"
    assert isinstance(caught.value.__cause__, Exception)


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(3),
        BrokenPipeError(errno.EPIPE, "x"),
        ModuleNotFoundError("x", name="torch"),
        OutputError("full"),
    ],
)
def test_what_has_an_answer_of_its_own_passes_a_stage(error):
    with pytest.raises(type(error)) as caught, stage("do it"):
        raise error
    assert caught.value is error


def test_a_stage_may_name_what_a_compiled_library_raises():
    with pytest.raises(InputError, match="ValueError: x"), stage("do it", also=(ValueError,)):
        exec(own_code("raise ValueError('x')"), {})  # noqa: S102  # the code stands above


def test_a_record_with_a_name_that_is_not_utf_8_is_not_written():
    odd = os.fsdecode(b"\xff.jpg")
    with pytest.raises(OutputError, match="not UTF-8"):
        project.Defaults(model=odd).to_json()


def test_an_argument_that_is_not_utf_8_is_told(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "edgese", "report", b"\xff.json", "--html", "x.html"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert ended.returncode == ConfigError.exit_code
    assert "is not UTF-8" in ended.stderr
