"""Measures what it is packed with, and stands alone: the ``__main__.py`` of a bundle.

    python3 FILE [--out RESULTS] [--check] [--warm]

It needs Python 3.11 and the runtimes of the artifacts; of edgese only the few files that are packed
beside it. It takes a private folder beside its results, checks every file by its hash, keeps to the
fast cores, waits until the machine is cool, runs the measuring command, and writes one file with
all samples, under its name only when it is whole. Interrupted, it leaves nothing, and can be
started again.

The results file has two lines: what was found, and an end mark with the hash of the first line. The
mark tells damage from a whole file; it is no signature.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

RESULTS_SCHEMA: Final = 1
SUFFIX: Final = ".results.jsonl"
# `measure/runner.py` is written for this Python.
_OLDEST: Final = (3, 11)
_TAIL_BYTES: Final = 8000
_ASK_TIMEOUT_S: Final = 60
_CPUS: Final = Path("/sys/devices/system/cpu")
_INTERRUPTED: Final = 130

# What reading a damaged archive ends in; in `RuntimeError` where a flipped bit says that it is
# encrypted, or packed in a way that nobody knows.
DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    RuntimeError,
    ValueError,
    struct.error,
)

Facts = dict[str, Any]


class Refused(Exception):
    """Why nothing was measured."""


class Core(NamedTuple):
    """A core as the kernel tells it."""

    number: int
    maximum_mhz: float | None
    online: bool = True


def main(arguments: list[str]) -> int:
    """Measures and gives the exit code: 0, 1 where it failed, 130 where it was interrupted."""
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name, description="Measures the artifacts that it is packed with."
    )
    parser.add_argument("--out", type=Path, help="where to write the results")
    parser.add_argument(
        "--check", action="store_true", help="only tell whether it can be measured here"
    )
    parser.add_argument("--warm", action="store_true", help="do not wait until it is cool")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    source = Path(__file__).parent
    try:
        check_python()
        with _alone(source) as archive:
            text, contents = _contents(archive)
            answers = _answers(contents["facts"]["properties"])
            _check(contents, answers)
            if options.check:
                _say(f"{contents['facts']['title']}: it can be measured here.")
                return 0
            out = options.out or source.with_name(f"{source.name}{SUFFIX}")
            results = measured(archive, contents, out, cool=not options.warm)
            results |= {"bundle": hashlib.sha256(text).hexdigest(), "answers": answers}
            written(results, out)
    except (Refused, OSError) as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("Interrupted: nothing was written. It can be started again.")
        return _INTERRUPTED
    _say(f"{out}: send it home; there `edgese import` reads it.")
    return 0


def measured(archive: zipfile.ZipFile, contents: Facts, out: Path, *, cool: bool) -> Facts:
    """Runs the measuring command in a private folder, and gives all that is to be known of it.

    Args:
        cool: waits before until the machine is cool.
    """
    started = _now()
    with _workplace(out) as folder:
        _unpacked(archive, contents["files"], folder)
        pinned, pinning = _pinned(contents["plan"]["threads"])
        before = _cooled(contents, cool=cool)
        outcome = _run(contents, folder)
        after = _asked(contents["questions"])
        ran = {name: _sha256(folder / name) for name in contents["files"]}
    return {
        "schema": RESULTS_SCHEMA,
        "ran": ran,
        "before": before,
        "after": after,
        "pinned": pinned,
        "pinning": pinning,
        "python": f"{sys.version.split()[0]} ({sys.executable})",
        "started": started,
        "ended": _now(),
        "outcome": outcome,
    }


def written(results: Facts, out: Path) -> None:
    """Writes the results with their end mark; the name is theirs when they are whole."""
    line = json.dumps(results).encode() + b"\n"
    mark = json.dumps({"end": hashlib.sha256(line).hexdigest()}).encode() + b"\n"
    part = out.with_name(f"{out.name}.part")
    with part.open("wb") as file:
        file.write(line + mark)
        file.flush()
        os.fsync(file.fileno())
    part.replace(out)


@contextmanager
def _alone(source: Path) -> Iterator[zipfile.ZipFile]:
    """The bundle's archive, for this process alone: two at once would disturb each other."""
    with source.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("This bundle is being measured by another process.") from None
        try:
            archive = zipfile.ZipFile(file)
        except DAMAGED as error:
            raise Refused(f"{source} is damaged ({error}); copy it again.") from None
        with archive:
            yield archive


def check_python() -> None:
    """Raises Refused where this Python is too old for what is packed."""
    if sys.version_info < _OLDEST:
        raise Refused(f"This is Python {sys.version.split()[0]}; 3.11 or later is needed.")


def _contents(archive: zipfile.ZipFile) -> tuple[bytes, Facts]:
    """What the bundle says of itself, as it is and as it is read."""
    try:
        text = archive.read("contents.json")
        return text, json.loads(text)
    except DAMAGED as error:
        raise Refused(f"contents.json in the bundle is damaged ({error}); copy it again.") from None


def _check(contents: Facts, answers: dict[str, str]) -> None:
    from edgese.records.recognition import recognised

    facts = contents["facts"]
    if not recognised(facts["properties"], answers):
        said = ", ".join(value for value in answers.values() if value) or "nothing"
        raise Refused(f"This is no {facts['title']}: of itself it says {said!r}.")
    threads, cores = contents["plan"]["threads"], len(os.sched_getaffinity(0))
    if threads > cores:
        raise Refused(f"It is to be measured with {threads} threads; here are {cores} cores.")
    missing = [
        title
        for module, title in contents["runtimes"].items()
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise Refused(
            f"{sys.executable} lacks the runtime of {', '.join(missing)}: install "
            f"{', '.join(contents['runtimes'])}, or pack the bundle with --with-python."
        )


def _answers(properties: dict[str, str]) -> dict[str, str]:
    """What this machine says to the properties: a file's content, or an Android property."""
    answers = {}
    for key in properties:
        if key.startswith("/"):
            with suppress(OSError):
                # The kernel ends such texts with a zero byte.
                answers[key] = Path(key).read_text("utf-8", "replace").strip("\0\n ")
        elif path := shutil.which("getprop"):
            answers[key] = _output([path, key]).strip()
    return answers


def _cooled(contents: Facts, *, cool: bool) -> str:
    """What the machine says of itself once nothing speaks against measuring any more."""
    from edgese.devices import heat

    waited_s = 0.0
    while True:
        text = _asked(contents["questions"])
        if contents["facts"]["kind"] == "android":
            reason = heat.phone_too_warm(heat.read(text), heat.PHONE_COOL_C)
        else:
            reason = heat.board_too_warm(heat.read(text), heat.BOARD_COOL_C)
        if not (cool and reason):
            return text
        if waited_s >= heat.TIMEOUT_S:
            raise Refused(
                f"It is too warm to be measured: after {waited_s:g} s {reason}. --warm does it "
                "nevertheless."
            )
        _say(f"wait: {reason}")
        time.sleep(heat.BETWEEN_LOOKS_S)
        waited_s += heat.BETWEEN_LOOKS_S


def _asked(questions: str) -> str:
    return _output([shutil.which("sh") or "/system/bin/sh", "-c", questions])


def _output(command: list[str]) -> str:
    """What a command says; nothing where it does not come to an end."""
    with suppress(subprocess.TimeoutExpired):
        outcome = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=_ASK_TIMEOUT_S,
            check=False,
        )
        return outcome.stdout
    return ""


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """A private folder beside the results that is gone afterwards; an earlier one's rest too."""
    folder = out.with_name(f"{out.name}.work")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_names(names: Iterable[str]) -> None:
    """Raises Refused where a name is not that of a file right in the private folder."""
    for name in names:
        if name in ("", ".", "..") or set(name) & {"/", "\\", "\0"}:
            raise Refused(f"The bundle has a file called {name!r}, which lies elsewhere.")


def _unpacked(archive: zipfile.ZipFile, files: dict[str, str], folder: Path) -> None:
    check_names(files)
    for name, expected in files.items():
        path = folder / name
        try:
            with archive.open(f"files/{name}") as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file)
        except DAMAGED as error:
            raise Refused(f"{name} in the bundle is damaged ({error}); copy it again.") from None
        if _sha256(path) != expected:
            raise Refused(f"{name} in the bundle is not what was packed; copy it again.")


def _pinned(threads: int) -> tuple[list[int], str]:
    """Keeps this process and all that it starts on the fast cores; "" or why it cannot."""
    from edgese.devices.affinity import fast_cores

    fast = fast_cores(_cores(), threads)
    if not fast:
        return [], "the machine does not tell how fast its cores are"
    try:
        os.sched_setaffinity(0, fast)
    except OSError as error:
        return [], f"the machine does not allow cores {fast}: {error.strerror}"
    return sorted(os.sched_getaffinity(0)), ""


def _cores() -> list[Core]:
    allowed = os.sched_getaffinity(0)
    found = []
    for number in sorted(allowed):
        mhz = None
        with suppress(OSError, ValueError):
            mhz = int((_CPUS / f"cpu{number}/cpufreq/cpuinfo_max_freq").read_text("ascii")) / 1000
        found.append(Core(number=number, maximum_mhz=mhz))
    return found


def _run(contents: Facts, folder: Path) -> Facts:
    """Runs the command to its end; however this is left, no process of it stays."""
    argv = [sys.executable if word == "{python}" else word for word in contents["argv"]]
    from edgese import lifeline

    check_names(contents["pull"])
    temporary = folder / "tmp"
    temporary.mkdir()
    limit_s = contents["plan"]["timeout_s"]
    over = threading.Event()
    with (folder / "stderr").open("w+b") as log:
        process = lifeline.Child(
            argv,
            cwd=folder,
            # Android has no /tmp.
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=log,
        )

        def give_up() -> None:
            over.set()
            process.kill_group()

        timer = threading.Timer(limit_s, give_up)
        timer.start()
        try:
            stdout = _heard(process)
        finally:
            timer.cancel()
            process.end()
        stderr = _tail(log)
    if over.is_set():
        raise Refused(f"It did not end within {limit_s:g} s.")
    if process.returncode:
        raise Refused(f"Measuring ended with code {process.returncode}:\n{stderr.strip()}")
    files = {
        name: base64.b64encode((folder / name).read_bytes()).decode()
        for name in contents["pull"]
        if (folder / name).is_file()
    }
    return {"returncode": process.returncode, "stdout": stdout, "stderr": stderr, "files": files}


def _heard(process: subprocess.Popen[bytes]) -> str:
    """The end of the command's output; its news are shown as they come."""
    text = ""
    stage = ""
    for line in process.stdout or ():
        decoded = line.decode("utf-8", "replace")
        text = (text + decoded)[-_TAIL_BYTES:]
        with suppress(json.JSONDecodeError):
            news = json.loads(decoded)
            if isinstance(news, dict) and news.get("stage", stage) != stage:
                stage = news["stage"]
                _say(f"{news['fraction']:4.0%}  {stage}")
    process.wait()
    return text


def _tail(log: Any) -> str:  # noqa: ANN401  # a binary file
    log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
    return bytes(log.read()).decode("utf-8", "replace")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def _now() -> str:
    now = datetime.now(timezone.utc)  # noqa: UP017  # an older Python shall say that it is
    return now.isoformat(timespec="seconds")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
