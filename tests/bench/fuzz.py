"""Damaged and hostile inputs through the real commands: crashes, hangs, wrong passes of the gate.

Each try damages one file and runs a whole command on it in a process of its own, which is forked
from one that has imported everything: a runtime that aborts takes nothing else along, and one that
does not end is killed. What counts:

    crash       a traceback, exit code 70, or the end by a signal
    hang        no end within the limit
    wrong pass  the gate ends with 0 on a result whose contents changed and whose seal was not
                renewed; unchanged, the same result misses its budget

    python tests/bench/fuzz.py --tries 4000 --seconds 3600 --seed 1
"""

import argparse
import base64
import copy
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import tomllib
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import tomli_w

import edgese
from edgese import __main__
from edgese.budgets.regression import figure_of
from edgese.measure.summary import OF_LAUNCH
from edgese.records.budget import NOISE_RUNS, Baseline, Noise, NoiseFile
from edgese.records.evaluation import EvaluationResult
from edgese.records.inspection import Inspection
from edgese.records.measurement import MeasurePlan
from edgese.records.profile import ProfileResult
from edgese.results import KINDS
from edgese.seals import sealed
from edgese.store import manifest_path, read_record, sha256_of, size_of
from edgese.version import __version__

TINY: Final = """
name = "tiny"
family = "mine"
classes = 4
activation = "silu"

[stem]
channels = [8]

[[stages]]
block = "mbconv"
channels = 8
depth = 2
expansion = 2
se = { reduction = 4 }

[preprocessing]
height = 32
width = 32
"""
# Nothing that is measured, evaluated or inspected meets its own one.
BUDGETS: Final = {
    "latency": "latency_p50_ms = 0.000001",
    "accuracy": "accuracy = 1.0",
    "partitions": "partitions = 0",
    "slowdown": "max_slowdown = 0.0",
}
PROJECT: Final = """
[project]
model = "spec.toml"
targets = ["tflite"]
out = "here"

[[budget]]
latency_p50_ms = 0.000001
"""
EXITS: Final = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
# Of what a process may take beyond what its libraries take; a bomb ends in a MemoryError.
MEMORY: Final = 6 * 2**30
LIMIT_S: Final = 60.0
_PATIENCE: Final = 5


class Kind(NamedTuple):
    """What is damaged, and what is run on it.

    Attributes:
        file: relative to the folder of seeds.
        arguments: of edgese; "{}" stands for the damaged file.
        form: of the contents: decides how they are damaged.
        gated: the gate judges it by its contents, so that no change may pass.
        record: of JSON that carries a seal, which an adversary renews.
        weight: how often it is taken.
    """

    name: str
    file: str
    arguments: tuple[str, ...]
    form: str
    gated: bool = False
    record: type[Any] | None = None
    weight: float = 1.0


def _gate(name: str, file: str, limit: str, record: type[Any], *more: str) -> Kind:
    arguments = ("gate", *more, "{}", "--budget", f"{limit}.toml", "--json")
    return Kind(name, file, arguments, "json", gated=True, record=record)


EVALUATE: Final = ("evaluate", "spec.toml", "--threads", "1", "--json")
# Each with its own delegate: asking others takes compilers, and minutes.
ARTIFACTS: Final = {
    "tiny-fp32.tflite": "xnnpack",
    "tiny-fp32.pte": "xnnpack",
    "tiny-fp32.onnx": "cpu",
    "tiny-fp32.mlpackage": "coreml",
}

KINDS_OF_FILES: Final = (
    _gate("results", "profile.json", "latency", ProfileResult),
    _gate("results", "profile.json", "slowdown", ProfileResult, "--baseline", "baseline.json"),
    _gate("evaluations", "evaluation.json", "accuracy", EvaluationResult, "profile.json"),
    _gate("inspections", "inspection.json", "partitions", Inspection, "profile.json"),
    _gate("baselines", "baseline.json", "slowdown", Baseline, "profile.json", "--baseline"),
    _gate(
        "noise",
        "noise.json",
        "slowdown",
        NoiseFile,
        *("profile.json", "--baseline", "baseline.json", "--noise"),
    ),
    Kind("reports", "profile.json", ("report", "{}", "--html", "page.html"), "json"),
    Kind(
        "reports",
        "evaluation.json",
        ("report", "{}", "profile.json", "--html", "page.html"),
        "json",
        record=EvaluationResult,
    ),
    Kind("diffs", "profile.json", ("diff", "profile.json", "{}"), "json", record=ProfileResult),
    Kind("budgets", "latency.toml", ("gate", "profile.json", "--budget", "{}"), "toml"),
    Kind("projects", "edgese.toml", ("gate", "profile.json"), "toml"),
    Kind("projects", "edgese.toml", ("models",), "toml"),
    Kind("specs", "spec.toml", ("models", "{}"), "toml", weight=2),
    Kind(
        "recipes",
        "calibration/recipes/own.toml",
        ("convert", "spec.toml", "--weights", "none", "--recipe", "own", "--target", "tflite"),
        "toml",
    ),
    Kind(
        "recipes",
        "calibration/training/own.toml",
        ("train", "spec.toml", "--recipe", "own", "--data", "nowhere", "--out", "run"),
        "toml",
    ),
    Kind("weights", "w.safetensors", (*EVALUATE, "--data", "images", "--weights", "{}"), "tensors"),
    Kind("weights", "w.pth", (*EVALUATE, "--data", "images", "--weights", "{}"), "zip"),
    Kind("weights", "old.pth", (*EVALUATE, "--data", "images", "--weights", "{}"), "bytes"),
    Kind(
        "listings",
        "labels.csv",
        (*EVALUATE, "--data", "{}", "--weights", "w.safetensors"),
        "text",
        weight=2,
    ),
    *(
        Kind(
            "images",
            f"images/0/{name}",
            (*EVALUATE, "--data", "images", "--weights", "w.safetensors"),
            "bytes",
        )
        for name in ("a.jpg", "b.png", "c.webp", "d.bmp")
    ),
)
KINDS_OF_ARTIFACTS: Final = (
    *(
        Kind("manifests", f"{name}.json", ("inspect", name, "--delegate", own), "json")
        for name, own in ARTIFACTS.items()
    ),
    *(
        Kind(
            "manifests",
            f"{name}.json",
            ("evaluate", name, "--data", "images", "--threads", "1"),
            "json",
        )
        for name in ARTIFACTS
    ),
    Kind("diffs", "tiny-fp32.pte.json", ("diff", *list(ARTIFACTS)[:2]), "json"),
    *(
        Kind("artifacts", name, (command, name, *more), "artifact")
        for name, own in ARTIFACTS.items()
        for command, more in (
            ("inspect", ("--delegate", own)),
            ("evaluate", ("--data", "images", "--threads", "1")),
        )
    ),
)


def cheap_seeds(folder: Path) -> None:
    """Writes what no conversion and no measurement is needed for."""
    import torch
    from PIL import Image

    from edgese.models.registry import find_model
    from edgese.models.weights import load_network, resolve_weights, save_weights

    rng = random.Random(0)
    (folder / "spec.toml").write_text(TINY)
    for name, limit in BUDGETS.items():
        (folder / f"{name}.toml").write_text(f"[[budget]]\n{limit}\n")
    (folder / "edgese.toml").write_text(PROJECT)
    spec = find_model(str(folder / "spec.toml"))
    network, _ = load_network(spec, resolve_weights(spec, "none"))
    save_weights(network, folder / "w.safetensors")
    torch.save(network.state_dict(), folder / "w.pth")
    torch.save(network.state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    rows = ["file,label"]
    for label in range(4):
        place = folder / "images" / str(label)
        place.mkdir(parents=True)
        names = ("a.jpg", "b.png", "c.webp", "d.bmp") if label == 0 else ("a.png",)
        for name in names:
            pixels = bytes(rng.randrange(256) for _ in range(3 * 40 * 36))
            Image.frombytes("RGB", (40, 36), pixels).save(place / name)
            rows.append(f"images/{label}/{name},{label}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    root = Path(__main__.__file__).parents[1] / "calibration"
    for kind, name in (("recipes", "int8"), ("training", "digits")):
        place = folder / "calibration" / kind
        place.mkdir(parents=True)
        text = (root / kind / f"{name}.toml").read_text()
        (place / "own.toml").write_text(text.replace(f'name = "{name}"', 'name = "own"'))


def measured_seeds(folder: Path, target: str = "all") -> None:
    """Converts the tiny network and leaves real results of each kind."""
    runs = (
        ("convert", "spec.toml", "--weights", "w.safetensors", "--recipe", "fp32",
         "--target", target, "--out", "."),
        ("profile", "tiny-fp32.tflite", "--launches", "3", "--blocks", "6", "--min-runs", "30",
         "--min-time", "0.1", "--out", "profile.json"),
        ("evaluate", "tiny-fp32.tflite", "--data", "images", "--out", "evaluation.json"),
        ("inspect", "tiny-fp32.tflite", "--delegate", "xnnpack", "--json"),
        ("baseline", "update", "profile.json", "--baseline", "baseline.json"),
    )  # fmt: skip
    for arguments in runs:
        code, said = run(arguments, folder, LIMIT_S * 10)
        if arguments[0] == "inspect":
            (folder / "inspection.json").write_text(said[said.index("{") : said.rindex("}") + 1])
        if code:
            sys.exit(f"edgese {' '.join(arguments)} ended with {code}:\n{said}")
    write_noise(folder)


def write_noise(folder: Path) -> None:
    """The variability of the device that the profile is of, which takes an hour to measure."""
    found = read_record(ProfileResult, folder / "profile.json", remake="edgese profile").profiles[0]
    plan = json.loads((folder / "profile.json").read_bytes())["plan"]
    noise = Noise(
        device=found.device,
        target=found.target,
        delegate=found.delegate,
        threads=found.threads,
        label=found.label,
        sha256=found.sha256,
        plan=msgspec.convert(plan, MeasurePlan),
        levels_ms=tuple(found.latency.p50_ms * (1 + 0.001 * n) for n in range(NOISE_RUNS)),
        figures={
            name: tuple(
                figure_of(name, found.launches).value * (1 + 0.001 * n) for n in range(NOISE_RUNS)
            )
            for name in OF_LAUNCH
        },
        created=(datetime.now(UTC).isoformat(timespec="seconds"),) * NOISE_RUNS,
    )
    result = sealed(NoiseFile(noises=(noise,), edgese=__version__))
    (folder / "noise.json").write_text(result.to_json())


def run(arguments: Sequence[str], folder: Path, limit_s: float) -> tuple[int | None, str]:
    """Runs a command in a forked process.

    Returns:
        Its exit code, negative for a signal, None where it did not end; and what it printed.
    """
    log = folder.parent / f"{folder.name}.log"
    process = os.fork()
    if process == 0:
        _become(arguments, folder, log)
    deadline = time.monotonic() + limit_s
    pause = 0.002
    while time.monotonic() < deadline:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")
        time.sleep(pause)
        pause = min(0.05, 1.3 * pause)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None, log.read_text(errors="replace")


def _become(arguments: Sequence[str], folder: Path, log: Path) -> None:
    code = 71
    try:
        # An abort is counted; its trace would stand among what the parent says.
        faulthandler.disable()
        os.setsid()
        os.chdir(folder)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, dest in ((null, 0), (descriptor, 1), (descriptor, 2)):
            os.dup2(source, dest)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = used * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        os.environ["EDGESE_CACHE_DIR"] = str(folder / "cache")
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        code = __main__.run(list(arguments))
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


# ---- damage -------------------------------------------------------------------------------------

_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**40, 1e308, -1e308, 1e-320, 0.5),
    *("", "x", "x" * 70_000, "../../../etc/passwd", "\x00", "\u202e", "nan", "host", "/dev/zero"),
    *([], {}, [[]], [None], {"": {}}, [0] * 1000, [1e300, -1e300], ["x", 1, None]),
)


def damaged_bytes(raw: bytes, rng: random.Random) -> bytes:  # noqa: C901  # a list of ways
    """Damages bytes whatever they are."""
    data = bytearray(raw)
    size = max(1, len(data))
    at, more = rng.randrange(size), 1 + int(rng.paretovariate(0.5)) % size
    match rng.randrange(12):
        case 0:
            return raw[:at]
        case 1 | 2 | 3:
            for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
                # What formats say of themselves stands at their beginnings and ends.
                place = rng.choice((rng.randrange(size), min(size, 200), size - min(size, 200)))
                place = rng.randrange(place + 1) % size if rng.random() < 0.5 else place % size
                data[place : place + 1] = bytes([data[place] ^ 1 << rng.randrange(8)])
        case 4:
            other = rng.randrange(size)
            a, b = sorted((at, other))
            return raw[:a] + raw[b : b + more] + raw[a:b] + raw[b + more :]
        case 5 | 6:
            form = rng.choice(("<I", "<Q", ">I", ">H", "<i"))
            top = 2 ** (8 * struct.calcsize(form) - (form[1] == "i"))
            value = rng.choice((0, 1, 0x7F, 0xFF, top // 2, top - 1, len(raw), len(raw) + 1))
            place = rng.randrange(min(size, 4096)) if rng.random() < 0.6 else at
            data[place : place + struct.calcsize(form)] = struct.pack(form, value % top)
        case 7:
            data[at : at + more] = bytes(min(more, size - at))
        case 8:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 1000)))
        case 9:
            data[at:at] = data[at : at + more]
        case 10:
            del data[at : at + more]
        case 11:
            return rng.choice(
                (b"", b"\0", raw * 2, raw[::-1], rng.randbytes(300), b"\xff\xfe" + raw)
            )
    return bytes(data)


def damaged_text(raw: bytes, rng: random.Random) -> bytes:  # noqa: C901, PLR0911  # a list of ways
    """Damages what is read as text: its encoding, its numbers, its nesting, or any byte of it."""
    at = rng.randrange(len(raw) + 1)
    match rng.randrange(14):
        case 0:
            return raw[:at] + rng.choice((b"[", b"{", b'{"a":', b"(")) * 100_000 + raw[at:]
        case 1:
            depth = rng.choice((400, 5_000))
            return raw[:at] + b"[" * depth + b"]" * depth + raw[at:]
        case 2:
            return _numbers(raw, rng, rng.choice((b"9" * 5000, b"1e999", b"-1", b"NaN", b"1e-400")))
        case 3:
            return raw.decode(errors="replace").encode(
                rng.choice(("utf-16", "utf-32", "cp037")), "replace"
            )
        case 4:
            return b"\xef\xbb\xbf" + raw
        case 5:
            return (
                raw[:at]
                + rng.choice((b"\xff", b"\xed\xa0\x80", b"\0", b"\r", b'"', b"\\"))
                + raw[at:]
            )
        case 6:
            lines = raw.splitlines(keepends=True)
            rng.shuffle(lines)
            return b"".join(lines)
        case 7:
            lines = raw.splitlines(keepends=True) or [b""]
            return b"".join([*lines, rng.choice(lines)])
        case 8:
            return raw[:at] + b"a." * rng.choice((50, 20_000)) + b"a = 1\n" + raw[at:]
        case 9:
            return (
                raw[:at] + rng.choice((b"x", b" ", b"\n", b",", b"\xc3\xa9")) * 2_000_000 + raw[at:]
            )
    return damaged_bytes(raw, rng)


def _numbers(raw: bytes, rng: random.Random, value: bytes) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", raw))
    if not found:
        return raw + value
    place = rng.choice(found)
    return raw[: place.start()] + value + raw[place.end() :]


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a tree; of long lists only of some."""
    if path:
        yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _places(value, (*path, key))
    elif isinstance(tree, list):
        for index in range(min(len(tree), 8)):
            yield from _places(tree[index], (*path, index))


def damaged_tree(tree: Any, rng: random.Random) -> Any:  # noqa: C901  # a list of ways
    """Changes values, types and keys of what JSON or TOML hold."""
    places = list(_places(tree))
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        *path, last = rng.choice(places)
        holder = tree
        try:
            for key in path:
                holder = holder[key]
            value = holder[last]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
        if not isinstance(holder, dict | list):
            continue
        match rng.randrange(8):
            case 0:
                del holder[last]
            case 1 if isinstance(holder, dict):
                holder[f"{last}_"] = holder.pop(last)
            case 2 if isinstance(holder, list):
                holder.append(value)
            case 3 if isinstance(value, bool):
                holder[last] = not value
            case 3 | 4 if isinstance(value, int | float) and not isinstance(value, bool):
                factor = rng.choice((-1, 0, 0.5, 0.001, 2, 1000, 1e12))
                holder[last] = type(value)(value * factor)
            case 5 if isinstance(value, list) and value:
                holder[last] = value[: rng.randrange(len(value))]
            case 6 if isinstance(value, str):
                holder[last] = value[: rng.randrange(len(value) + 1)]
            case _:
                holder[last] = copy.deepcopy(rng.choice(_VALUES))
    return tree


def damaged_json(raw: bytes, rng: random.Random, record: type[Any] | None) -> tuple[bytes, bool]:
    """Damages JSON; and whether its seal was renewed, as an adversary would."""
    chance = rng.random()
    if chance < 0.4:
        return damaged_text(raw, rng), False
    tree = damaged_tree(json.loads(raw), rng)
    if chance < 0.5 and isinstance(tree, dict) and tree:
        # One key twice: what it was, and what it became.
        key = rng.choice(list(tree))
        other = json.dumps({key: rng.choice(_VALUES)})[1:-1]
        text = json.dumps(tree)
        return f"{text[:-1]}, {other}}}".encode(), False
    if chance < 0.75 and record is not None and "seal" in record.__struct_fields__:
        try:
            renewed = sealed(msgspec.convert(tree, record))
            return renewed.to_json().encode(), True
        except (msgspec.ValidationError, ValueError, OverflowError):
            pass  # such values are in no record, so no seal is of them
    return json.dumps(tree, allow_nan=True).encode(), False


def damaged_toml(raw: bytes, rng: random.Random) -> bytes:
    """Damages TOML as text or as a tree."""
    if rng.random() < 0.4:
        return damaged_text(raw, rng)
    tree = damaged_tree(tomllib.loads(raw.decode()), rng)
    try:
        return tomli_w.dumps(tree).encode()
    except TypeError:
        return damaged_text(raw, rng)  # TOML has no null


def damaged_safetensors(raw: bytes, rng: random.Random) -> bytes:
    """Damages the header, its length, or anything."""
    if rng.random() < 0.4:
        return damaged_bytes(raw, rng)
    length = int.from_bytes(raw[:8], "little")
    header, rest = raw[8 : 8 + length], raw[8 + length :]
    new = (
        damaged_text(header, rng)
        if rng.random() < 0.4
        else json.dumps(damaged_tree(json.loads(header), rng)).encode()
    )
    told = len(new) if rng.random() < 0.8 else rng.choice((0, 2**40, 2**63, 1, length))
    return told.to_bytes(8, "little") + new + rest


def damaged_zip(raw: bytes, rng: random.Random) -> bytes:
    """Damages a member and packs it again, or the archive."""
    if rng.random() < 0.4:
        return damaged_bytes(raw, rng)
    with zipfile.ZipFile(BytesIO(raw)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = next(n for n in members if n.endswith("data.pkl"))
    if rng.random() < 0.3:
        chosen = rng.choice(list(members))
    action = rng.randrange(10)
    if action == 0:
        del members[chosen]
    else:
        members[chosen] = damaged_bytes(members[chosen], rng)
    made = BytesIO()
    form = zipfile.ZIP_DEFLATED if action == 1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(made, "w", form) as archive:
        for name, content in members.items():
            archive.writestr(name, bytes(2**28) if action == 1 and name == chosen else content)
    return made.getvalue()


def special(path: Path, rng: random.Random) -> None:
    """Puts something that is no file into the place of one."""
    content = path.read_bytes() if path.is_file() else b""
    _remove(path)
    match rng.randrange(8):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to("/dev/zero")
        case 3:
            path.symlink_to(path.name)
        case 4:
            path.symlink_to("/dev/null")
        case 5:
            import socket

            here = Path.cwd()
            os.chdir(path.parent)  # a socket's whole path may have 107 characters
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
            os.chdir(here)
        case 6:
            with path.open("wb") as file:
                file.write(content[:100])
                file.truncate(2**33)
        case 7:
            pass


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def damage(kind: Kind, folder: Path, rng: random.Random) -> bool:
    """Damages the kind's file in a folder; returns whether its seal was renewed."""
    path = folder / kind.file
    if kind.form == "artifact":
        target = path
        if path.is_dir():
            target = rng.choice(sorted(each for each in path.rglob("*") if each.is_file()))
        if rng.random() < 0.05:
            special(target, rng)
            return False
        target.write_bytes(damaged_bytes(target.read_bytes(), rng))
        _describe_again(path)
        return False
    if rng.random() < 0.06:
        special(path, rng)
        return False
    raw, renewed = path.read_bytes(), False
    match kind.form:
        case "json":
            made, renewed = damaged_json(raw, rng, kind.record)
        case "toml":
            made = damaged_toml(raw, rng)
        case "text":
            made = damaged_text(raw, rng)
        case "tensors":
            made = damaged_safetensors(raw, rng)
        case "zip":
            made = damaged_zip(raw, rng)
        case _:
            made = damaged_bytes(raw, rng)
    path.write_bytes(made)
    return renewed


def _describe_again(artifact: Path) -> None:
    """The manifest of a damaged artifact, as an adversary writes it: the new hash, a new seal."""
    path = manifest_path(artifact)
    tree = json.loads(path.read_bytes())
    # An empty file cannot be described, so the adversary lies about it.
    tree |= {"sha256": sha256_of(artifact), "size_bytes": max(1, size_of(artifact))}
    record = next(kind.record for kind in KINDS if "parity" in kind.keys)
    found = msgspec.convert(tree, record)
    if "seal" in record.__struct_fields__:
        found = sealed(found)
    path.write_text(found.to_json())


def same(before: bytes, path: Path, record: type[Any] | None) -> bool:
    """Whether a file still says what it said: spaces and the order of keys say nothing."""
    try:
        now = path.read_bytes() if path.is_file() else b""
        return bool(json.loads(now) == json.loads(before)) or (
            record is not None
            and msgspec.json.decode(now, type=record) == msgspec.json.decode(before, type=record)
        )
    except (ValueError, RecursionError):
        return False


# ---- the runs -----------------------------------------------------------------------------------


class Fault(NamedTuple):
    """A try that ended as none may."""

    what: str
    kind: str
    number: int
    arguments: str
    said: str
    content: str


class Tally(NamedTuple):
    """What was seen: exits by kind of file, and faults."""

    exits: dict[str, Counter[str]]
    faults: list[Fault]
    seconds: float


def fuzz(
    seeds: Path,
    kinds: Sequence[Kind],
    *,
    seed: int,
    tries: int,
    seconds: float,
    limit_s: float = LIMIT_S,
    kept: Path | None = None,
    report: Callable[[str], None] = print,
) -> Tally:
    """Makes so many tries, or as many as the time allows; the same for the same seed.

    Args:
        seeds: a folder with the files of all kinds.
        kept: a folder for the files of faults.
    """
    began = time.monotonic()
    exits: dict[str, Counter[str]] = defaultdict(Counter)
    faults: list[Fault] = []
    weights = [kind.weight for kind in kinds]
    for number in range(tries):
        if time.monotonic() - began > seconds:
            break
        rng = random.Random(f"{seed} {number}")
        kind = rng.choices(kinds, weights)[0]
        with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
            folder = Path(place) / "a"
            shutil.copytree(seeds, folder)
            before = (folder / kind.file).read_bytes() if kind.gated else b""
            renewed = damage(kind, folder, rng)
            arguments = [part.replace("{}", kind.file) for part in kind.arguments]
            code, said = run(arguments, folder, limit_s)
            if code is None:
                # A busy machine may have been elsewhere; what waits for ever still does.
                code, said = run(arguments, folder, _PATIENCE * limit_s)
            what = _verdict(code, said)
            if (
                not what
                and code == 0
                and kind.gated
                and not renewed
                and "seal" in getattr(kind.record, "__struct_fields__", ())
                and not same(before, folder / kind.file, kind.record)
            ):
                what = "wrong pass"
            exits[kind.name][what or str(code)] += 1
            if what:
                fault = _fault(what, kind, number, arguments, said, folder / kind.file)
                faults.append(fault)
                report(f"{what}: {kind.name}, try {number}: edgese {fault.arguments}\n{fault.said}")
                if kept is not None:
                    shutil.copytree(folder, kept / str(number), symlinks=True, ignore=_irregular)
    return Tally(exits, faults, time.monotonic() - began)


def _irregular(folder: str, names: list[str]) -> list[str]:
    return [
        name
        for name in names
        if not Path(folder, name).is_file() and not Path(folder, name).is_dir()
    ]


def _verdict(code: int | None, said: str) -> str:
    if code is None:
        return "hang"
    if code not in EXITS or "Traceback (most recent" in said:
        return "crash"
    return ""


def _fault(
    what: str, kind: Kind, number: int, arguments: Sequence[str], said: str, path: Path
) -> Fault:
    lines = said.strip().splitlines()
    content = base64.b64encode(path.read_bytes()[:3000]).decode() if path.is_file() else ""
    return Fault(what, kind.name, number, " ".join(arguments), "\n".join(lines[-14:]), content)


def table(tally: Tally) -> str:
    """One row a kind of file."""
    codes = sorted({code for found in tally.exits.values() for code in found if code.isdigit()})
    columns = [
        "kind",
        "tries",
        *(f"exit {code}" for code in codes),
        "crashes",
        "hangs",
        "wrong passes",
    ]
    rows = []
    for name, found in sorted(tally.exits.items()):
        ends = [found[code] for code in codes]
        bad = [found[what] for what in ("crash", "hang", "wrong pass")]
        rows.append([name, found.total(), *ends, *bad])
    rows.append(["all", *(sum(row[i] for row in rows) for i in range(1, len(columns)))])
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def warm() -> None:
    """Imports what the commands import, once and before any thread is started."""
    # Each is a stand-alone script, or needs a plug-in of Qualcomm's.
    alone = ("edgese.__main__", "edgese.measure.bundles.driver")
    names = [
        *(module.name for module in pkgutil.walk_packages(edgese.__path__, "edgese.")),
        *("ai_edge_litert.interpreter", "coremltools", "onnx.checker", "onnxruntime", "rich.table"),
        *("PIL.ImageOps", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.WebPImagePlugin"),
        *("PIL.BmpImagePlugin", "safetensors.torch", "rich.console", "numpy.lib.format"),
        "executorch.extension.pybindings._portable_lib",
    ]
    for name in names:
        if not name.startswith(alone):
            with suppress(ImportError):
                importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    # What is never collected is never copied by a fork.
    gc.collect()
    gc.freeze()


def main() -> int:
    """Makes the seeds, or takes those that are there, and fuzzes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="kinds, with commas")
    parser.add_argument("--target", default="all", help="of the artifacts; tflite is the least")
    parser.add_argument("--seeds", type=Path, help="a folder to keep the seeds in")
    parser.add_argument("--kept", type=Path, help="a folder for what crashed")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as place:
        seeds = asked.seeds or Path(place) / "seeds"
        if not seeds.exists():
            seeds.mkdir(parents=True)
            cheap_seeds(seeds)
            measured_seeds(seeds, asked.target)
            shutil.rmtree(seeds / "cache", ignore_errors=True)
        warm()
        kinds = [
            kind
            for kind in (*KINDS_OF_FILES, *KINDS_OF_ARTIFACTS)
            if (not asked.only or kind.name in asked.only.split(","))
            and (asked.target == "all" or kind in KINDS_OF_FILES or ".tflite" in kind.file)
        ]
        tally = fuzz(
            seeds,
            kinds,
            seed=asked.seed,
            tries=asked.tries,
            seconds=asked.seconds,
            kept=asked.kept,
        )
    print(table(tally))
    print(f"seed {asked.seed}, {tally.seconds:.0f} s")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
