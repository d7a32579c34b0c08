"""Fixtures that several kinds of tests share."""

import importlib.util
import inspect
import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from edgese.models.registry import find_model
from edgese.records.artifact import (
    Interface,
    Manifest,
    ModelCard,
    OperatorReport,
    Parity,
    ParityBound,
    Recipe,
    TargetOptions,
    TensorInfo,
    WeightsInfo,
)
from edgese.seals import sealed
from edgese.store import manifest_path, sha256_of, size_of

# How long an example takes to make says how busy the machine is, and nothing of the claim.
settings.register_profile("edgese", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgese")

_SPEC = importlib.util.spec_from_file_location("hints", Path(__file__).with_name("hints.py"))
hints = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hints)


@pytest.fixture(scope="session")
def torchvision_operators():
    """Makes torchvision importable beside any torch: stand-ins where its compiled part cannot load.

    torchvision's wheel for GPUs does not load beside torch's for CPUs, and then its import fails
    over three detection operators that no classifier uses.
    """
    torch = pytest.importorskip("torch")
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        pytest.skip("torchvision is not installed")
    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        torch.ops.load_library(Path(found.origin).parent / "_C.so")
    except OSError:
        for name in ("nms", "qnms", "roi_align"):
            library.define(f"{name}(Tensor dets) -> Tensor")
    # The operators live as long as the library object.
    return library


@pytest.fixture(scope="session")
def torchvision_reference(torchvision_operators):  # noqa: ARG001  # it makes the import work
    """torchvision.models, to compare with."""
    return pytest.importorskip("torchvision.models")


@pytest.fixture(scope="session")
def timm_reference(torchvision_operators):  # noqa: ARG001  # timm imports torchvision
    """Timm, to compare with."""
    return pytest.importorskip("timm")


@pytest.fixture(autouse=True)
def hints_name_what_exists():
    """Every error that a command of a test ends in names options that this command has."""
    import edgese.__main__ as command_line

    shown = command_line._failed  # noqa: SLF001  # the one place that all errors pass

    def checked(error):
        arguments = inspect.currentframe().f_back.f_locals.get("arguments")
        if arguments and (command := hints.command_of(" ".join(arguments[:2]))):
            assert not hints.check_hint(error.hint, command), error.hint
        return shown(error)

    # Not the fixture monkeypatch: what a test patches would be undone after its other fixtures.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "_failed", checked)
        yield


@pytest.fixture
def one_thread():
    """Torch on a single thread: small networks gain little from more, and lose much on a busy host.

    OpenMP's threads wait for each other at the end of every operator; where another process has a
    core, that costs its whole time slice.
    """
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def nothing_attached(monkeypatch):
    """Adb is there, and lists no phone, whatever is attached to this machine."""
    monkeypatch.setattr("edgese.devices.adb_client.AdbClient.attached", lambda _: [])
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)


@pytest.fixture(scope="session")
def manifest_of():
    """Makes manifests of artifacts with random weights, in fp32, which may not exist."""

    def made(name, *, target="onnxruntime", delegate="cpu", batch=1, **file):
        spec = find_model("efficientnet_b0")
        return Manifest(
            artifact=name,
            **({"sha256": "0" * 64, "size_bytes": 1000} | file),
            target=target,
            delegate=delegate,
            recipe=Recipe(
                name="fp32",
                precision="fp32",
                summary="",
                parity=ParityBound(min_cosine=0.999, min_sqnr_db=40),
            ),
            model=ModelCard(name="tiny", classes=4, preprocessing=spec.preprocessing),
            spec=spec,
            weights=WeightsInfo(source="none", sha256="", naming="edgese", trained=False),
            options=TargetOptions(),
            interface=Interface(
                input=TensorInfo(
                    name="x", shape=(batch, 3, 16, 16), layout="NCHW", dtype="float32"
                ),
                output=TensorInfo(name="y", shape=(batch, 4), layout="NC", dtype="float32"),
            ),
            operators=OperatorReport(operators={}, delegate=delegate, partitions=1),
            parity=Parity(verdict="not_run"),
            program_sha256="",
            toolchain={},
            edgese="0.1.0",
            created="2026-01-01T00:00:00+00:00",
        )

    return made


@pytest.fixture(scope="session")
def described(manifest_of):
    """Writes the manifest of a file that stands for an artifact, and gives the file's path."""

    def written(path, **changes):
        found = {"sha256": sha256_of(path), "size_bytes": size_of(path)}
        manifest = manifest_of(path.name, **found, **changes)
        manifest_path(path).write_text(sealed(manifest).to_json(), encoding="utf-8")
        return path

    return written


@pytest.fixture(scope="session")
def parses():
    """Reads a command line with the real parser, and runs nothing; raises where it does not exist.

    What follows a pipe or a redirection is the shell's.
    """
    import typer
    from typer.main import get_command

    from edgese.cli.app import app

    def read(line):
        program, *words = shlex.split(line, comments=True)
        assert program == "edgese", line
        for end in (">", "|"):
            words = words[: words.index(end)] if end in words else words
        command, context = get_command(app), None
        while hasattr(command, "get_command"):
            context = typer.Context(command, parent=context)
            found = command.get_command(context, words[0])
            assert found is not None, line
            command, words = found, words[1:]
        command.make_context(command.name, words, parent=context)

    return read
