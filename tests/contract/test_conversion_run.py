"""The conversion stage with targets that save the program, through real worker processes."""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from edgese import project, store
from edgese.conversion import cache
from edgese.conversion.api import convert, exit_code
from edgese.conversion.outcome import check
from edgese.errors import (
    Collapsed,
    ConfigError,
    ConversionError,
    EdgeseError,
    InputError,
    MissingDependency,
    OutputError,
    StoreError,
)
from edgese.program import storage
from edgese.records.artifact import ConversionOutcome, Manifest, TargetOptions
from edgese.records.model import ModelSpec
from edgese.seals import sealed
from edgese.targets import TARGETS

FAKES = Path(__file__).with_name("fake_targets.py")
LOAD_FAKES = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("fake_targets", {str(FAKES)!r})
fakes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fakes)
"""
REGISTER_FAKES = LOAD_FAKES + "from edgese.targets import TARGETS\nfakes.register(TARGETS)\n"
TINY_TOML = """
name = "tiny"
family = "test"
classes = 10
stem = { channels = [8] }
stages = [{ block = "mbconv", channels = 8, depth = 1, expansion = 2 }]
head = { channels = 16 }
preprocessing = { height = 32, width = 32 }
"""
TINY = ModelSpec.from_toml(TINY_TOML, "tiny.toml")


@contextmanager
def prepared(folder):
    """A project with facts of the fake targets, and a path on which every process finds them."""
    namespace = {}
    exec(LOAD_FAKES, namespace)  # noqa: S102 - the same lines that the workers run
    fakes = namespace["fakes"]
    fakes.write_facts(folder / "targets")
    (folder / project.FILE).write_text("")
    (folder / "tiny.toml").write_text(TINY_TOML)
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(REGISTER_FAKES)
    with pytest.MonkeyPatch.context() as patch:
        for name in fakes.NAMES:
            patch.setitem(TARGETS, name, fakes.target(name))
        patch.setenv("PYTHONPATH", str(folder / "site"), prepend=os.pathsep)
        patch.setenv(store.CACHE_VARIABLE, str(folder / "cache"))
        patch.chdir(folder)
        project.root.cache_clear()
        yield folder
    project.root.cache_clear()


@pytest.fixture(autouse=True)
def place(tmp_path):
    """An empty project for each test."""
    with prepared(tmp_path) as folder:
        yield folder


@pytest.fixture(scope="module")
def converted_once(tmp_path_factory):
    """A project in which the tiny model is converted to the targets "good" and "folder"."""
    with prepared(tmp_path_factory.mktemp("once")) as folder:
        assert [row.status for row in tiny("good", "folder")] == ["converted"] * 2
    return folder


@pytest.fixture
def warm(place, converted_once):
    """A project whose cache and folder hold what was converted once."""
    shutil.copytree(converted_once / "cache", place / "cache")
    shutil.copytree(converted_once / "out", place / "out")
    return place


def tiny(*targets, **settings):
    return convert(
        TINY, targets, **{"weights": "none", "out": Path("out"), "strict": False} | settings
    )


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_an_artifact_and_its_manifest_are_left_and_nothing_else(place):
    news = []
    (row,) = tiny("good", progress=lambda *event: news.append(event))
    assert (row.status, row.exit_code, row.error) == ("converted", 0, "")
    assert files(place / "out") == ["tiny-untrained-fp32.good", "tiny-untrained-fp32.good.json"]
    assert files(place / "cache" / "work") == []
    manifest = store.read_manifest(Path(row.artifact))
    assert manifest.parity == row.parity
    assert row.parity.verdict == "passed"
    assert row.parity.pictures == 8
    assert manifest.spec == TINY
    assert not manifest.weights.trained
    assert manifest.size_bytes == row.size_bytes == Path(row.artifact).stat().st_size
    assert {"torch", "numpy", "python"} <= set(manifest.toolchain)
    assert row.peak_memory_mb > 50
    assert row.seconds > 0
    assert [event[0] for event in news] == ["good"] * len(news)
    assert ("good", "save", pytest.approx(0.425)) in news
    assert news[-1] == ("good", "done", 1.0)


def test_a_failed_target_raises_once_the_others_are_there(place):
    with pytest.raises(ConversionError) as caught:
        tiny("refuses", "good", "fills", strict=True)
    message, hint = caught.value.message, caught.value.hint
    assert message.startswith("2 of 3 targets failed.\nrefuses: ")
    assert "\nfills: " in message
    assert "strict=False" in hint
    assert "tiny-untrained-fp32.good" in hint
    assert files(place / "out") == ["tiny-untrained-fp32.good", "tiny-untrained-fp32.good.json"]


@pytest.mark.parametrize(
    ("targets", "kind"),
    [
        (("fills", "good"), OutputError),
        (("fills", "lacking"), MissingDependency),
        (("wrong",), ConversionError),
    ],
)
def test_the_lowest_exit_code_says_what_is_raised(targets, kind):
    with pytest.raises(EdgeseError) as caught:
        tiny(*targets, strict=True)
    assert type(caught.value) is kind


def test_an_artifact_that_collapsed_counts_as_failed():
    good, bad = (
        ConversionOutcome(target=target, recipe="int8", status="cached", artifact=f"a.{target}")
        for target in ("good", "folder")
    )
    check([good])
    bad = msgspec.structs.replace(bad, collapse="all images are of one class", exit_code=6)
    with pytest.raises(Collapsed, match=r"(?s)1 of 2 .*folder: COLLAPSED: all images.*a\.folder"):
        check([good, bad])


def test_failures_of_every_kind_do_not_take_the_others_down(place):
    rows = tiny("refuses", "breaks", "fills", "crashes", "good", "wrong", "lacking")
    told = {row.target: (row.status, row.exit_code) for row in rows}
    assert told == {
        "refuses": ("failed", 4),
        "breaks": ("failed", 4),
        "fills": ("failed", 9),
        "crashes": ("failed", 4),
        "good": ("converted", 0),
        "wrong": ("failed", 4),
        "lacking": ("failed", 3),
    }
    assert [row.target for row in rows] == list(told)
    refuses, breaks, fills, crashes, _, wrong, lacking = rows
    assert fills.error.endswith("cannot be written: the disk is full.")
    assert (refuses.error, refuses.hint) == ("It knows no convolution.", "Take another network.")
    assert breaks.error.endswith("failed: ZeroDivisionError: a bug in a converter")
    assert 'raise ZeroDivisionError("a bug in a converter")' in breaks.hint
    assert crashes.error.endswith("was ended by SIGKILL")
    assert "out of memory" in crashes.hint
    assert re.search(r"differs from PyTorch on 8 pictures: the smallest cosine is", wrong.error)
    assert "there_is_no_such_package" in lacking.error
    assert lacking.hint == "pip install 'edgese[train]'"
    assert exit_code(rows) == 3
    assert [name for name in files(place / "out") if "good" not in name] == []
    assert files(place / "cache" / "work") == []


def test_what_stands_in_for_a_runtime_is_told_with_the_parity():
    (row,) = tiny("folder")
    assert (row.parity.verdict, row.parity.by) == ("passed", "a stand-in")
    assert tiny("good")[0].parity.by == ""


def test_an_operator_that_the_real_runtime_alone_executes_leaves_the_parity_open():
    (row,) = tiny("exotic")
    assert row.status == "converted"
    assert row.parity.verdict == "not_run"
    assert "the real runtime alone" in row.parity.reason


def test_a_target_that_cannot_run_here_is_never_passed():
    (row,) = tiny("absent")
    assert row.status == "converted"
    assert (row.parity.verdict, row.parity.reason) == ("not_run", "it runs nowhere")
    assert (row.parity.cosine, row.parity.pictures) == (None, 0)


@pytest.mark.usefixtures("warm")
def test_an_artifact_that_is_a_folder_is_published_and_cached_whole():
    first = Path("out") / "tiny-untrained-fp32.bundle"
    assert (first / "inner" / "weights").is_file()
    (second,) = tiny("folder", out=Path("elsewhere"))
    assert second.status == "cached"
    assert store.read_manifest(Path(second.artifact)) == store.read_manifest(first)


def test_a_batch_and_a_resolution_reach_the_artifact():
    (row,) = tiny("good", options=TargetOptions(batch=3), resolution=(48, 32))
    manifest = store.read_manifest(Path(row.artifact))
    assert manifest.interface.input.shape == (3, 3, 48, 32)
    assert manifest.artifact == "tiny-48x32px-batch3-untrained-fp32.good"
    assert manifest.parity.verdict == "passed"


def test_a_users_own_module_is_converted_and_left_as_it_was():
    import torch

    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    (row,) = convert(
        module,
        "good",
        preprocessing=TINY.preprocessing,
        labels=("a", "b", "c", "d"),
        name="mine",
        out="out",
    )
    manifest = store.read_manifest(Path(row.artifact))
    assert module.training
    assert (row.status, manifest.artifact) == ("converted", "mine-fp32.good")
    assert manifest.spec is None
    assert (manifest.model.classes, manifest.model.labels) == (4, ("a", "b", "c", "d"))
    assert cache.cache_entries() == ()


def test_a_module_that_torch_cannot_export_is_a_conversion_error_and_no_graph(capfd):
    import torch

    from edgese.errors import ConversionError

    class Branches(torch.nn.Module):
        """Decides on a value, which an exported program cannot."""

        def forward(self, x):
            return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))

    with pytest.raises(ConversionError, match=r"Cannot export mine with torch\.export"):
        convert(Branches(), "good", preprocessing=TINY.preprocessing, name="mine", out="out")
    said = capfd.readouterr()
    assert "aten" not in said.out + said.err
    assert "Unable to find user code" not in said.err


CACHED = """
import json, sys, time
from pathlib import Path
from edgese.conversion.api import convert
started = time.monotonic()
rows = convert("tiny.toml", "good", weights="none", out=Path(sys.argv[1]))
print(json.dumps({
    "seconds": time.monotonic() - started,
    "status": rows[0].status,
    "heavy": sorted({"torch", "numpy", "PIL", "rich"} & set(sys.modules)),
}))
"""


@pytest.mark.parametrize("out", ["out", "elsewhere"])
def test_what_did_not_change_is_answered_at_once_without_torch(warm, out):
    run = subprocess.run(
        [sys.executable, "-c", CACHED, out], capture_output=True, text=True, check=True
    )
    told = json.loads(run.stdout)
    assert (told["status"], told["heavy"]) == ("cached", [])
    assert told["seconds"] < 1.0
    store.read_manifest(warm / out / "tiny-untrained-fp32.good")


def test_without_the_cache_nothing_is_written_there(place):
    (row,) = tiny("good", use_cache=False)
    assert row.status == "converted"
    assert not (place / "cache").exists()


@pytest.mark.parametrize("damaged", ["artifact", "manifest.json"])
def test_a_damaged_cache_entry_is_made_again(warm, damaged):
    artifact = "tiny-untrained-fp32.good"
    (entry,) = (path.parent for path in warm.glob(f"cache/artifacts/*/{artifact}"))
    (entry / (artifact if damaged == "artifact" else damaged)).write_bytes(b"damaged")
    (row,) = tiny("good", out=Path("elsewhere"))
    assert row.status == "converted"
    store.read_manifest(Path(row.artifact))
    assert tiny("good", out=Path("third"))[0].status == "cached"


def resealed(entry, **changes):
    """The entry's manifest with other contents, its seal and its binding made anew."""
    manifest = json.loads((entry / "manifest.json").read_text()) | changes
    text = sealed(Manifest.from_json(json.dumps(manifest), "it")).to_json()
    (entry / "manifest.json").write_text(text)
    digest = hashlib.sha256(f"{entry.name}\0".encode() + text.encode()).hexdigest()
    (entry / "bound").write_text(digest)


def unsealed(entry, **changes):
    manifest = json.loads((entry / "manifest.json").read_text()) | changes
    (entry / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("edit", "changes"),
    [
        (unsealed, {"operators": {"operators": {}, "delegate": "", "partitions": 1}}),
        (unsealed, {"seal": ""}),
        # Whoever seals anew what was changed finds the other checks.
        (resealed, {"size_bytes": 1}),
        (resealed, {"sha256": "0" * 64}),
        (resealed, {"delegate": "other"}),
        (resealed, {"artifact": "../../x"}),
        (resealed, {"spec": None}),
    ],
)
def test_an_edited_manifest_in_the_cache_is_not_served(warm, edit, changes):
    (entry,) = (path.parent for path in warm.glob("cache/artifacts/*/tiny-untrained-fp32.good"))
    truth = store.read_manifest(Path("out/tiny-untrained-fp32.good"))
    edit(entry, **changes)
    (row,) = tiny("good", out=Path("elsewhere"))
    assert (row.status, row.exit_code) == ("converted", 0)
    assert "was made again" in row.note
    manifest = store.read_manifest(Path(row.artifact))
    assert (manifest.operators, manifest.size_bytes) == (truth.operators, truth.size_bytes)
    again = tiny("good", out=Path("third"))[0]
    assert (again.status, again.note) == ("cached", "")


def test_an_entry_of_another_key_is_not_served(warm):
    (good,) = (path.parent for path in warm.glob("cache/artifacts/*/tiny-untrained-fp32.good"))
    (folder,) = (path.parent for path in warm.glob("cache/artifacts/*/*.bundle"))
    shutil.rmtree(folder)
    shutil.copytree(good, folder)
    (row,) = tiny("folder", out=Path("elsewhere"))
    assert row.status == "converted"
    assert "was made again" in row.note


def test_an_edited_record_of_a_program_is_exported_again(warm):
    (program,) = (warm / "cache" / "programs").iterdir()
    record = json.loads((program / "program.json").read_text())
    record["weights"]["trained"] = True
    (program / "program.json").write_text(json.dumps(record))
    (row,) = tiny("absent")
    assert not store.read_manifest(Path(row.artifact)).weights.trained


@pytest.mark.usefixtures("warm")
def test_an_edited_manifest_of_an_artifact_is_told():
    path = Path("out/tiny-untrained-fp32.good.json")
    manifest = json.loads(path.read_text())
    manifest["operators"]["partitions"] = 99
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="is not what was written"):
        store.read_manifest(Path("out/tiny-untrained-fp32.good"))


@pytest.mark.usefixtures("warm")
def test_a_damaged_artifact_in_the_users_folder_is_replaced_from_the_cache():
    artifact = Path("out") / "tiny-untrained-fp32.good"
    artifact.write_bytes(b"edited")
    with pytest.raises(StoreError, match="is not what its manifest describes"):
        store.read_manifest(artifact)
    assert tiny("good")[0].status == "cached"
    store.read_manifest(artifact)


def test_what_cannot_be_published_from_the_cache_does_not_take_the_others_down(warm):
    (warm / "elsewhere" / "tiny-untrained-fp32.good").mkdir(parents=True)
    good, folder = tiny("good", "folder", out=Path("elsewhere"))
    assert (good.status, good.exit_code, folder.status) == ("failed", 9, "cached")
    assert "tiny-untrained-fp32.good cannot be written" in good.error
    assert files(warm / "elsewhere") == [
        "tiny-untrained-fp32.bundle.json",
        "tiny-untrained-fp32.bundle/inner/weights",
        "tiny-untrained-fp32.bundle/readme.txt",
    ]


def test_pruning_removes_what_killed_conversions_left(place):
    (place / "cache" / "work" / "left").mkdir(parents=True)
    assert cache.prune(older_than_days=1) == ()
    assert list((place / "cache" / "work").iterdir()) == []


@pytest.mark.usefixtures("warm")
def test_a_cache_that_can_only_be_read_answers(monkeypatch):
    def refused(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(os, "utime", refused)
    assert tiny("good")[0].status == "cached"


def test_a_cache_that_cannot_be_written_is_told_as_the_cache(place):
    (place / "cache").write_text("")
    with pytest.raises(OutputError, match="a file, not a folder") as told:
        tiny("good")
    assert store.CACHE_VARIABLE in told.value.hint
    assert "--no-cache" in told.value.hint


def test_a_target_added_later_uses_the_stored_program(warm):
    (program,) = (warm / "cache" / "programs").iterdir()
    written = (program / storage.PROGRAM).stat().st_mtime_ns
    rows = tiny("good", "absent")
    assert [row.status for row in rows] == ["cached", "converted"]
    assert (program / storage.PROGRAM).stat().st_mtime_ns == written
    manifests = [store.read_manifest(Path(row.artifact)) for row in rows]
    assert manifests[0].program_sha256 == manifests[1].program_sha256


def test_a_damaged_program_is_exported_again(warm):
    (program,) = (warm / "cache" / "programs").iterdir()
    (program / storage.PROGRAM).write_bytes(b"damaged")
    assert tiny("absent")[0].status == "converted"
    assert (program / storage.PROGRAM).stat().st_size > 100


@pytest.mark.usefixtures("warm")
def test_the_cache_lists_and_prunes_what_it_holds():
    entries = cache.cache_entries()
    assert sorted((e.kind, e.title) for e in entries) == [
        ("artifact", "tiny-untrained-fp32.bundle"),
        ("artifact", "tiny-untrained-fp32.good"),
        ("program", "tiny"),
    ]
    assert cache.prune(older_than_days=1) == ()
    assert len(cache.prune(max_size_bytes=sum(e.size_bytes for e in entries) - 1)) == 1
    assert len(cache.prune(everything=True)) == 2
    assert cache.cache_entries() == ()


def test_pruning_to_a_size_keeps_the_latest_used(warm):
    for age, (kind, record) in enumerate(
        [("programs", "program.json"), ("artifacts", "manifest.json")]
    ):
        for path in warm.glob(f"cache/{kind}/*/{record}"):
            os.utime(path, (1e9 - age, 1e9 - age))
    newest, *older = cache.cache_entries()
    assert newest.kind == "program"
    # It alone is too large, so that nothing may stay, not even what would fit.
    assert len(cache.prune(max_size_bytes=newest.size_bytes - 1)) == 1 + len(older)


@pytest.mark.usefixtures("warm")
def test_limits_beyond_all_measure_remove_nothing():
    assert cache.prune(older_than_days=1e300, max_size_bytes=math.inf) == ()


@pytest.mark.parametrize(
    "limits",
    [{}, {"older_than_days": -1}, {"max_size_bytes": -1}, {"older_than_days": math.nan}],
)
def test_pruning_without_a_sensible_limit_is_refused(limits):
    with pytest.raises(ConfigError):
        cache.prune(**limits)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"weights": None}, ConfigError, "No weights were named for tiny"),
        ({"recipe": "fp16"}, ConfigError, "good cannot execute the recipe .fp16."),
        ({"recipe": "fp1"}, ConfigError, "no recipe named 'fp1'"),
        ({"resolution": 0}, ConfigError, "0x0 px"),
        ({"options": TargetOptions(batch=0)}, ConfigError, "A batch of 0"),
        ({"labels": ("a",)}, ConfigError, "1 labels were given"),
        ({"workers": 0}, ConfigError, "0 workers"),
        ({"features": True, "classes": 3}, ConfigError, "Features and 3 classes"),
        ({"classes": 0}, ConfigError, "0 classes were asked for"),
        ({"options": TargetOptions(image_input=True)}, ConfigError, "image-input means nothing"),
        ({"pictures": Path("nowhere")}, InputError, "nowhere"),
        ({"weights": "nowhere.pth"}, InputError, "nowhere.pth"),
        ({"out": Path("targets/good.toml")}, OutputError, "a file, not a folder"),
        ({"name": "other"}, ConfigError, "beside a model that brings its own"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(place, settings, error, message):
    with pytest.raises(error, match=message):
        tiny("good", **settings)
    assert not (place / "cache").exists()
    assert not (place / "out").exists() or files(place / "out") == []


@pytest.mark.parametrize("name", ["../tiny", "a/b", ".hidden", ""])
def test_a_name_that_would_leave_the_folder_is_refused(name):
    spec = msgspec.structs.replace(TINY, name=name)
    with pytest.raises(ConfigError, match="cannot be part of a file name"):
        convert(spec, "good", weights="none", out="out")


def test_a_picture_folder_that_is_too_small_says_how_many_it_takes(place):
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (40, 40)).save(place / f"{number}.png")
    with pytest.raises(InputError, match="holds 3 pictures; comparing takes at least 8"):
        tiny("good", pictures=place)


def test_own_pictures_are_what_is_compared(place):
    from PIL import Image

    (place / "mine").mkdir()
    for number in range(9):
        Image.effect_noise((40, 40), 20 * number).save(place / "mine" / f"{number}.png")
    (row,) = tiny("good", pictures=place / "mine")
    assert row.parity.pictures == 9


TWO = """
import sys
from pathlib import Path
from edgese.conversion.api import convert
for row in convert("tiny.toml", ["good", "folder"], weights="none", out=Path("out")):
    print(row.status)
"""


def test_two_conversions_into_one_folder_both_end_well(place):
    both = [
        subprocess.Popen([sys.executable, "-c", TWO], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(told) == [["cached", "cached"], ["converted", "converted"]]
    for name in ("tiny-untrained-fp32.good", "tiny-untrained-fp32.bundle"):
        store.read_manifest(place / "out" / name)
    assert not [name for name in files(place) if "partial" in name or "lock" in name]


HANG = """
from pathlib import Path
from edgese.__main__ import run
import edgese.cli.app
import sys
sys.exit(run(["convert", "tiny.toml", "--target", "hangs", "--target", "good",
              "--weights", "none", "--out", "out", "--workers", "2"]))
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


@pytest.fixture
def hanging(place):
    """A command in the middle of a conversion, and the id of its worker."""
    with subprocess.Popen(
        [sys.executable, "-c", HANG], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_until(
            lambda: (
                files(place / "out")
                == ["tiny-untrained-fp32.good", "tiny-untrained-fp32.good.json"]
                and (place / "hanging").is_file()
            )
        )
        yield process, int((place / "hanging").read_text())
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_what_is_complete_and_nothing_else(place, hanging, number):
    process, worker = hanging
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not alive(worker)
    assert files(place / "out") == ["tiny-untrained-fp32.good", "tiny-untrained-fp32.good.json"]
    assert files(place / "cache" / "work") == []


@pytest.mark.parametrize("cached", [False, True])
def test_what_a_killed_conversion_left_is_gone_after_the_next(place, hanging, cached):
    process, worker = hanging
    process.kill()
    process.wait(30)
    wait_until(lambda: not alive(worker), 10)
    assert files(place / "cache" / "work") != []
    if cached:
        tiny("good")
        assert files(place / "cache" / "work") == []
        return
    tiny("good", classes=4)
    assert [name for name in files(place / "cache" / "work") if not name.endswith(".lock")] == []
