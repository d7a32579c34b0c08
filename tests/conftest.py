"""Fixtures that several kinds of tests share."""

import importlib.util
from pathlib import Path

import pytest


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
