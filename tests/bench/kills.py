"""Kills edgese's commands at many moments, and looks at what is left.

Usage: python tests/bench/kills.py [--moments 20] [--seed 0] [--command train ...] [--markdown]

Each try runs a command in a fresh project with a cache and a folder for temporary files of its own,
kills it (SIGKILL) at a moment, and then asks:

    running    which of its processes still run ten seconds later
    partial    what reads as whole and is not: every file under its final name is read as edgese
               reads it, and compared with an uninterrupted run's where it has to be the same
    left       files that the same command, run again to its end, does not clear away: in the
               folder for temporary files, among the outputs, in the cache's workplace
    unequal    results of that second run that differ from an uninterrupted run's

Moments are of two kinds: as soon as a certain file appears (a checkpoint, an artifact under its
temporary name, its manifest), with a delay of 0 to 20 ms, and evenly random over the time that the
command takes. The seed decides them all; how fast the machine is does the rest.
"""

import argparse
import atexit
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from edgese import project as project_file
from edgese.__main__ import main as entry
from edgese.errors import Collapsed, EdgeseError

SPEC: Final = """
name = "tiny"
family = "mine"
classes = 10

[stem]
channels = [8]

[[stages]]
block = "basic"
channels = 8
depth = {depth}
se = {{ reduction = 2 }}

[preprocessing]
height = 16
width = 16
crop = 1.0
"""
DEVICE: Final = """
name = "box"
title = "My box"
kind = "linux"
transport = "ssh"
[delegates]
onnxruntime = ["cpu"]
[properties]
"{path}" = "Box of *"
"""
BUDGET: Final = """
[budget]
size_mb = 50.0
latency_p50_ms = 10000.0
"""
QUICK: Final = ("--threads", "1", "--launches", "2", "--blocks", "4", "--min-runs", "8")
# Of results: when something ran and how long it took, and the seal over all of it.
VOLATILE: Final = frozenset(
    {"created", "seconds", "started", "ended", "taken", "seal", "images_per_s", "seconds_left"}
)
FILE: Final = frozenset({"sha256", "size_bytes"})
_DELAY_S: Final = 0.02
_POLL_S: Final = 0.001
_AFTERWARDS_S: Final = 10.0
_LIMIT_S: Final = 600.0
_TRIES_PER_MOMENT: Final = 4
_MARK: Final = "EDGESE_KILLS"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command and what is to be known of it.

    Attributes:
        argv: without the program; run in the project's folder, it writes to ``out``.
        again: added where it goes on with what was interrupted and there is a checkpoint.
        appears: patterns of files, relative to the project, whose appearance is a moment.
        facts: what an uninterrupted run and a resumed one have in common, by name.
    """

    argv: tuple[str, ...]
    again: tuple[str, ...] = ()
    appears: tuple[str, ...] = ()
    facts: Callable[[Path], dict[str, str]]


@dataclass
class Row:
    """What the tries of one command came to."""

    command: str
    moments: int = 0
    # The command had ended by itself.
    too_late: int = 0
    running: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Everything that was found, in words."""
        kinds = ("running", "partial", "left", "unequal")
        return [f"{self.command}: {kind}: {one}" for kind in kinds for one in getattr(self, kind)]


TRAIN: Final = ("--recipe", "digits", "--weights", "none", "--device", "cpu", "--threads", "1")
CONVERT: Final = (
    *("tiny1.toml", "--weights", "tiny1.safetensors"),
    *("--target", "onnxruntime"),
)


def environment(place: Path, mark: str = "") -> dict[str, str]:
    """Variables of a command that has a cache and temporary files of its own."""
    temporary = place / "temporary"
    temporary.mkdir(exist_ok=True)
    return {
        "TMPDIR": str(temporary),
        "EDGESE_CACHE_DIR": str(place / "cache"),
        "OMP_NUM_THREADS": "1",
        _MARK: mark or "none",
    }


def words(place: Path, argv: Sequence[str]) -> list[str]:
    """The arguments; "artifact" stands for the project's own."""
    artifact = place / "artifact"
    own = str(artifact.readlink()) if artifact.is_symlink() else ""
    return [own if word == "artifact" else word for word in argv]


class Started(Protocol):
    """A command that runs."""

    def poll(self) -> int | None:
        """Return its exit code, or None."""

    def kill(self) -> None:
        """Kill it."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""


Start = Callable[[Sequence[str], Path, str], Started]


def executed(argv: Sequence[str], place: Path, mark: str) -> Started:
    """Start a command as a shell does; what it says goes to the file "said"."""
    with (place / "said").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "edgese", *words(place, argv)],
            cwd=place,
            env=os.environ | environment(place, mark),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


class Forked:
    """A command in a fork of this process, which has imported what takes seconds to import."""

    def __init__(self, argv: Sequence[str], place: Path, mark: str) -> None:
        self.code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            self._become(argv, place, mark)

    def _become(self, argv: Sequence[str], place: Path, mark: str) -> None:
        os.setsid()
        os.chdir(place)
        os.environ.update(environment(place, mark))
        tempfile.tempdir = None
        # The parent has read the project that it stands in.
        project_file.root.cache_clear()
        project_file.file.cache_clear()
        said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(said, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["edgese", *words(place, argv)]
        code = 70
        try:
            entry()
        except SystemExit as left:
            code = int(left.code or 0)
        finally:
            atexit._run_exitfuncs()  # noqa: SLF001  # as the interpreter does it
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """See `Started`."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def kill(self) -> None:
        """See `Started`."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """See `Started`."""
        deadline = time.monotonic() + (timeout or _LIMIT_S)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("edgese", timeout or _LIMIT_S)
            time.sleep(_POLL_S)
        return code


def done(argv: Sequence[str], place: Path, start: Start, *, code: int = 0) -> None:
    """Run a command to its end, which must have the exit code.

    What networks so small learn in so few steps is not the question: 0 stands for collapsed too.
    """
    started = start(argv, place, "")
    try:
        found: int | str = started.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        started.kill()
        found = f"nothing in {_LIMIT_S:g} s"
    if found not in ((code,) if code else (0, Collapsed.exit_code)):
        said = (place / "said").read_text("utf-8", "replace")
        raise RuntimeError(f"{' '.join(argv)} ended with {found}: {said[-600:]}")


def main() -> int:
    """Run the tries and print the table; 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", action="append", choices=sorted(COMMANDS), default=None)
    options = parser.parse_args()
    rows = []
    # No TemporaryDirectory: the forks would remove it when they end.
    place = Path(tempfile.mkdtemp(prefix="kills-"))
    os.environ["TMPDIR"] = str(place)  # what importing leaves
    try:
        warm()
        model = project(place / "model", Forked)
        for command in options.command or COMMANDS:
            started = time.monotonic()
            row = tries(command, model, place, options.moments, options.seed, Forked)
            rows.append(row)
            for fault in row.faults:
                note(fault)
            note(f"{command}: {row.moments} moments in {time.monotonic() - started:.0f} s")
    finally:
        shutil.rmtree(place)
    print(table(rows))
    return 1 if any(row.faults for row in rows) else 0


def warm() -> None:
    """Import what the commands import, so that their forks need not."""
    # OpenMP reads it once; its threads lose much on a busy machine.
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in ("torch", "torch._dynamo", "torch.export", "matplotlib.pyplot", "onnxruntime"):
        import_module(name)
    for name in ("cli.app", "training.api", "quantization.api", "evaluation.api", "selection.api"):
        import_module(f"edgese.{name}")


def table(rows: Sequence[Row]) -> str:
    """The tries as a table in Markdown."""
    lines = [
        "| command | kills | after its end | partial | still running | files left | unequal |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.command} | {row.moments} | {row.too_late} | {len(row.partial)} | "
        f"{len(row.running)} | {len(row.left)} | {len(row.unequal)} |"
        for row in rows
    ]
    return "\n".join(lines)


def project(place: Path, start: Start = executed) -> Path:
    """Make a project with everything that the commands need as their input."""
    inputs(place)
    made(place, start)
    return place


def inputs(place: Path) -> None:
    """Write what nothing has to be run for: specs, images, a device and a budget."""
    from PIL import Image

    from edgese.data.classes import ClassNames
    from edgese.data.digits import digit_pictures

    (place / "targets/devices").mkdir(parents=True)
    (place / "edgese.toml").write_text("", encoding="utf-8")
    (place / "identity").write_bytes(b"Box of the kills\0")
    (place / "budget.toml").write_text(BUDGET, encoding="utf-8")
    (place / "targets/devices/box.toml").write_text(
        DEVICE.format(path=place / "identity"), encoding="utf-8"
    )
    for number in (1, 2):
        text = SPEC.format(depth=number).replace("tiny", f"tiny{number}")
        (place / f"tiny{number}.toml").write_text(text, encoding="utf-8")
    images, _ = digit_pictures(ClassNames(classes=10))
    for number in range(120):
        folder = place / f"images/{images.labels[number]}"
        folder.mkdir(parents=True, exist_ok=True)
        image = images.read(number).resize((16, 16), Image.Resampling.BILINEAR)
        image.save(folder / f"{number}.png")


def made(place: Path, start: Start) -> None:
    """Make weights, an artifact, a bundle and what came of it."""
    for number in (1, 2):
        argv = ("train", f"tiny{number}.toml", *TRAIN, "--epochs", "1", "--out", f"trained{number}")
        done(argv, place, start)
        shutil.copy(
            place / f"trained{number}/weights.safetensors", place / f"tiny{number}.safetensors"
        )
        shutil.rmtree(place / f"trained{number}")
    done(("convert", *CONVERT, "--out", "artifacts"), place, start)
    artifact = str(next(place.glob("artifacts/*.onnx")).relative_to(place))
    (place / "artifact").symlink_to(artifact)
    done(("bundle", artifact, "--device", "box", "--out", "box.pyz", *QUICK), place, start)
    subprocess.run(
        [sys.executable, "box.pyz", "--warm"], cwd=place, check=True, capture_output=True
    )


def tries(
    name: str, model: Path, place: Path, moments: int, seed: int, start: Start = executed
) -> Row:
    """Kill one command at many moments.

    Args:
        model: the project that each try begins with.
        place: an existing folder to work in.
    """
    command = COMMANDS[name]
    with fresh(model, place) as whole:
        started = time.monotonic()
        done(command.argv, whole, start)
        seconds = time.monotonic() - started
        wanted = command.facts(whole)
        left = debris(whole)
    assert wanted, f"{name} left nothing to compare"
    row = Row(name, left=[f"after success: {one}" for one in left])
    chance = random.Random(f"{seed} {name}")
    number = 0
    # A kill that came after the end proves nothing: it is made up for by another one.
    while row.moments - row.too_late < moments and number < _TRIES_PER_MOMENT * moments:
        # Half of them at files, in turn.
        pattern = (
            command.appears[number // 2 % len(command.appears)]
            if command.appears and number % 2
            else ""
        )
        after_s = chance.uniform(0, _DELAY_S if pattern else seconds)
        when = f"{after_s:.3f} s after {pattern or 'its start'}"
        with fresh(model, place) as trial:
            attempt(command, trial, wanted, pattern, after_s, when, row, start)
        number += 1
    return row


def attempt(
    command: Command,
    place: Path,
    wanted: dict[str, str],
    pattern: str,
    after_s: float,
    when: str,
    row: Row,
    start: Start,
) -> None:
    """Kill it once, look, run it again, and look again."""
    mark = uuid.uuid4().hex
    process = start(command.argv, place, mark)
    deadline = time.monotonic() + _LIMIT_S
    while pattern and process.poll() is None and time.monotonic() < deadline:
        if next(place.glob(pattern), None) is not None:
            break
        time.sleep(_POLL_S)
    time.sleep(after_s)
    ended = process.poll() is not None
    process.kill()
    process.wait()
    row.moments += 1
    row.too_late += ended
    deadline = time.monotonic() + _AFTERWARDS_S
    while (still := running(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    if still:
        row.running.append(f"{when}: {still}")
        for pid in still:
            os.kill(pid, signal.SIGKILL)
    row.partial += [f"{when}: {one}" for one in unsound(place)]
    goes_on = command.again if next(place.glob("out/**/checkpoint*"), None) else ()
    # A finished training refuses to be trained over.
    finished = bool(command.again) and (place / "out/result.json").is_file()
    try:
        done((*command.argv, *goes_on), place, start, code=2 if finished else 0)
    except RuntimeError as error:
        row.unequal.append(f"{when}: {error}")
        return
    note(f"{row.command}: {row.moments}: {when}")
    found = command.facts(place)
    row.unequal += [f"{when}: {key}" for key in wanted if found.get(key) != wanted[key]]
    row.left += [f"{when}: {one}" for one in debris(place)]


@contextmanager
def fresh(model: Path, place: Path) -> Iterator[Path]:
    """A copy of the project, for one try."""
    folder = place / "try"
    shutil.copytree(model, folder, symlinks=True)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    shutil.rmtree(folder / "temporary", ignore_errors=True)
    yield folder
    shutil.rmtree(folder)


def running(mark: str) -> list[int]:
    """Processes with the mark in their environment, which is all that a command started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{_MARK}={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def debris(place: Path) -> list[str]:
    """What nobody needs any more: temporary files, partial outputs, locks."""
    found = list(place.glob("temporary/*"))
    found += place.glob("cache/work/*")
    names = ("**/*edgese-partial*", "**/*.lock", "**/.edgese*", "**/*.part", "**/*.holder")
    found += [path for pattern in names for path in place.glob(pattern)]
    if (place / "out/result.json").is_file():
        found += place.glob("out/checkpoint*")
    return sorted({str(path.relative_to(place)) for path in found})


def unsound(place: Path) -> list[str]:
    """Files under a final name that their own reader takes, and that are not whole.

    A file that its reader refuses would be partial under a final name too: also a fault.
    """
    from safetensors import SafetensorError, safe_open

    from edgese.results import read_result
    from edgese.store import manifest_path, read_manifest

    found = []
    for path in sorted(place.glob("out/**/*")):
        if path.is_dir() or ".edgese" in path.name or path.suffix == ".lock":
            continue
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, "numpy") as tensors:
                    assert tensors.keys()
            elif manifest_path(path).is_file():
                if path.suffix in {".onnx", ".tflite"}:
                    read_manifest(path)
            elif path.suffix == ".json":
                json.loads(path.read_bytes())
                if path.name in {"evaluation.json", "decision.json", "profile.json"}:
                    read_result(path)
        except (EdgeseError, SafetensorError, ValueError, OSError) as error:
            found.append(f"{path.relative_to(place)}: {error}")
    return found


def hashed(place: Path, *patterns: str) -> dict[str, str]:
    """Hashes of files."""
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in patterns
        for path in sorted(place.glob(pattern))
        if path.is_file()
    }


def lasting(place: Path, *patterns: str, but: frozenset[str] = frozenset()) -> dict[str, str]:
    """JSON files without what differs from run to run, and without ``but``."""
    left_out = VOLATILE | but
    return {
        str(path.relative_to(place)): json.dumps(
            _lasting(json.loads(path.read_bytes()), left_out), sort_keys=True
        )
        for pattern in patterns
        for path in sorted(place.glob(pattern))
    }


def _lasting(value: Any, left_out: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(one, left_out) for key, one in value.items() if key not in left_out}
    if isinstance(value, list):
        return [_lasting(one, left_out) for one in value]
    # A whole number in a place for fractions is written without its point before it is read back.
    return float(value) if type(value) is int else value


def trained(place: Path) -> dict[str, str]:
    """Every tensor of the weights, and every loss on the way there."""
    from safetensors.numpy import load_file

    tensors = load_file(place / "out/weights.safetensors")
    return {
        name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in tensors.items()
    } | lasting(place, "out/log.json")


def packed(place: Path) -> dict[str, str]:
    """All that a bundle holds; when it was made stands in its contents."""
    with zipfile.ZipFile(place / "out/box.pyz") as archive:
        found = {
            name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()
        }
        contents = json.loads(archive.read("contents.json"))
    return found | {"contents.json": json.dumps(_lasting(contents, VOLATILE), sort_keys=True)}


def chosen(place: Path) -> dict[str, str]:
    """Of a selection: who was chosen, who was not, and the files themselves; latencies differ."""
    decision = json.loads((place / "out/decision.json").read_bytes())["decision"]
    states = {one["candidate"]["model"]: one["state"] for one in decision["standings"]}
    return {"states": json.dumps(states), "chosen": decision["chosen"]} | {
        Path(name).name: value for name, value in hashed(place, "out/work/**/*.onnx").items()
    }


COMMANDS: Final = {
    "convert": Command(
        argv=("convert", *CONVERT, "--out", "out"),
        appears=(
            "cache/work/*/program/*",
            "cache/work/*/*/artifact/*",
            "cache/artifacts/*/manifest.json",
            "out/.*.edgese-partial",
            "out/*.onnx",
            "out/*.json",
        ),
        facts=lambda place: hashed(place, "out/*.onnx") | lasting(place, "out/*.json"),
    ),
    "quantize --qat": Command(
        argv=(
            *("quantize", "tiny1.toml", "--weights", "tiny1.safetensors", "--data", "images"),
            *("--qat", "--train", "images", "--epochs", "3", "--out", "out"),
        ),
        again=("--resume",),
        appears=(
            "out/**/.checkpoint*.edgese-partial",
            "out/**/checkpoint*",
            "out/**/log.json",
            "out/.*.program*.edgese-partial",
            "out/*.program*",
        ),
        # Every loss of the training, and what came of it; the file itself has times in it.
        facts=lambda place: lasting(place, "out/*.json", "out/*/log.json", but=FILE),
    ),
    "train": Command(
        argv=(
            *("train", "tiny1.toml", "--data", "images", *TRAIN, "--workers", "2"),
            *("--epochs", "4", "--out", "out"),
        ),
        again=("--resume",),
        appears=(
            "out/.edgese-training.lock",
            "out/.checkpoint*.edgese-partial",
            "out/checkpoint*",
            "out/log.csv",
            "out/.weights*.edgese-partial",
            "out/weights.safetensors",
            "out/result.json",
        ),
        facts=trained,
    ),
    "select": Command(
        argv=(
            *("select", "tiny1.toml", "tiny2.toml", "--device", "host", "--budget", "budget.toml"),
            *("--target", "onnxruntime", "--recipe", "fp32", "--weights", "{model}.safetensors"),
            *("--data", "images", *QUICK, "--min-time", "0", "--folder", "out/work"),
            *("--out", "out/decision.json"),
        ),
        appears=(
            "out/work/**/.*.edgese-partial",
            "out/work/**/*.onnx",
            "out/work/**/*.json",
            "cache/devices/*.holder",
            "out/.decision.json.edgese-partial",
        ),
        facts=chosen,
    ),
    "evaluate": Command(
        argv=("evaluate", "artifact", "--data", "images", "--out", "out/evaluation.json"),
        appears=("out/.*", "out/.*.edgese-partial", "out/evaluation.json"),
        facts=lambda place: lasting(place, "out/evaluation.json"),
    ),
    "bundle": Command(
        argv=("bundle", "artifact", "--device", "box", "--out", "out/box.pyz", *QUICK),
        appears=("out/.*.edgese-partial", "out/box.pyz", "cache/**/.*.edgese-partial"),
        facts=packed,
    ),
    "import": Command(
        argv=(
            "import",
            "box.pyz.results.jsonl",
            "--bundle",
            "box.pyz",
            "--out",
            "out/profile.json",
        ),
        appears=("out/.*", "out/.*.edgese-partial", "out/profile.json"),
        facts=lambda place: lasting(place, "out/profile.json"),
    ),
}


def note(line: str) -> None:
    """Say how it goes."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
