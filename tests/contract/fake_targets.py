"""Targets that convert by saving the program, each with a behaviour of its own.

They stand in the tables of both the test's process and the workers', which load this file through a
``sitecustomize`` on their path.
"""

import errno
import os
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from edgese.errors import ConversionError, OperatorUnknown
from edgese.program.storage import read_program, write_program
from edgese.records.artifact import Interface, OperatorReport, TensorInfo
from edgese.targets.requests import check_request

FACTS = """
name = "{name}"
title = "Fake {name}"
suffix = "{suffix}"
extra = "train"
modules = {modules}
runtime = "torch"
packages = ["torch"]
precisions = ["fp32"]
default_recipe = "fp32"
delegates = ["cpu"]
worker_memory_mb = 300
worker_seconds = 1.0
options = {options}
"""
NAMES = (
    "good",
    "folder",
    "refuses",
    "breaks",
    "fills",
    "crashes",
    "hangs",
    "wrong",
    "absent",
    "lacking",
    "exotic",
)


def target(name):
    return SimpleNamespace(
        NAME=name,
        prepare=lambda: None,
        check=partial(check_request, name),
        convert=globals().get(f"_{name}", _saved),
        deviation=lambda *_: None,
        inspect=_inspect,
        unavailable=lambda: "it runs nowhere" if name == "absent" else "",
        stand_in=lambda: "a stand-in" if name == "folder" else "",
        load={"wrong": _offset, "exotic": _unknown}.get(name, _load),
    )


def register(table):
    for name in NAMES:
        table[name] = target(name)


def write_facts(folder):
    folder.mkdir()
    for name in NAMES:
        modules = ["there_is_no_such_package"] if name == "lacking" else ["torch"]
        suffix = ".bundle" if name == "folder" else f".{name}"
        options = ["image_input"] if name == "absent" else []
        (folder / f"{name}.toml").write_text(
            FACTS.format(name=name, suffix=suffix, modules=modules, options=options)
        )


def _saved(program, card, _recipe, options, dest, progress):
    progress("save", 0.5)
    print("noise on stdout")  # noqa: T201 - converters print, and it must not reach the events
    write_program(program, dest)
    batch = options.batch
    size = card.preprocessing
    return Interface(
        input=TensorInfo(
            name="x", shape=(batch, 3, size.height, size.width), layout="NCHW", dtype="float32"
        ),
        output=TensorInfo(name="y", shape=(batch, card.classes), layout="NC", dtype="float32"),
    )


def _folder(program, card, recipe, options, dest, progress):
    (dest / "inner").mkdir(parents=True)
    (dest / "readme.txt").write_text("a folder")
    return _saved(program, card, recipe, options, dest / "inner" / "weights", progress)


def _refuses(*_):
    raise ConversionError("It knows no convolution.", hint="Take another network.")


def _breaks(*_):
    raise ZeroDivisionError("a bug in a converter")


def _fills(_program, _card, _recipe, _options, dest, _progress):
    dest.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _crashes(_program, _card, _recipe, _options, dest, _progress):
    dest.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def _hangs(_program, _card, _recipe, _options, dest, progress):
    dest.write_bytes(b"half")
    progress("hang", 0.5)
    Path("hanging").write_text(str(os.getpid()))
    time.sleep(600)


def _inspect(_artifact, delegate):
    return OperatorReport(operators={"conv": 3}, delegate=delegate, partitions=1)


def _load(artifact, interface, **_):
    import numpy as np
    import torch

    file = artifact / "inner" / "weights" if artifact.is_dir() else artifact
    module = read_program(file).module()
    batch = interface.input.shape[0]

    def run(pictures):
        rows = []
        for start in range(0, len(pictures), batch):
            chunk = pictures[start : start + batch]
            filled = np.zeros((batch, *chunk.shape[1:]), np.float32)
            filled[: len(chunk)] = chunk
            rows.append(module(torch.from_numpy(filled)).detach().numpy()[: len(chunk)])
        return np.concatenate(rows)

    return run


def _unknown(_artifact, _interface, **_):
    raise OperatorUnknown("It has an operator that the real runtime alone executes.")


def _offset(artifact, interface, **_):
    run = _load(artifact, interface)
    return lambda pictures: run(pictures)[:, ::-1]
