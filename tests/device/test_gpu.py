"""TFLite's GPU delegate on software GPUs: what it takes, and what fp16 does to the numbers."""

from pathlib import Path

import pytest

from edgese.catalog import target_facts
from edgese.devices import vulkan
from edgese.errors import EdgeseError, MissingDependency
from edgese.inspection import gpu
from edgese.records.model import Preprocessing
from edgese.store import read_manifest

torch = pytest.importorskip("torch")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("litert_torch")

from torch import nn  # noqa: E402

from edgese import convert, inspect  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def software_gpus():
    """Both drivers; they are set up in the user's cache where they are missing."""
    try:
        vulkan.setup(lambda _stage, _fraction: None)
    except EdgeseError as error:
        pytest.skip(f"no software GPUs: {error}")


class Odd(nn.Module):
    """Three convolutions with an operator between them that no GPU delegate has."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        """Any pictures to eight numbers each."""
        x = odd(torch.relu(self.first(x)), 3)
        x = odd(torch.relu(self.second(x)), 5)
        return torch.sigmoid(self.third(x)).mean((2, 3))


def odd(x, number):
    whole = (4 * x).to(torch.int32)
    return torch.bitwise_xor(whole, torch.tensor(number, dtype=torch.int32)).float()


def converted(network, folder, name, recipe="fp32"):
    torch.manual_seed(0)
    (row,) = convert(
        network(),
        "tflite",
        preprocessing=Preprocessing(height=32, width=32),
        name=name,
        recipe=recipe,
        data="embedded" if recipe == "int8" else None,
        out=folder,
    )
    assert row.error == ""
    return Path(row.artifact)


class Plain(nn.Module):
    """A convolution, a gate with a hard-sigmoid, and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2)
        self.squeeze = nn.Conv2d(16, 4, 1)
        self.expand = nn.Conv2d(4, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        """Any pictures to ten numbers each."""
        x = nn.functional.hardswish(self.stem(x))
        gate = nn.functional.adaptive_avg_pool2d(x, 1)
        gate = nn.functional.hardsigmoid(self.expand(torch.relu(self.squeeze(gate))))
        return self.head((x * gate).mean((2, 3)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return converted(Plain, tmp_path_factory.mktemp("plain"), "plain")


def test_a_gated_network_runs_on_the_gpu_whole(plain):
    (report,) = inspect(plain, "gpu", vulkan="swiftshader", drift=False).delegates
    assert report.faults == ()
    assert report.basis == "asked"
    assert "SwiftShader" in report.by
    assert report.whole
    assert report.left_out == ()
    assert report.drifts == ()


def test_what_the_delegate_refuses_is_told_with_what_it_leaves_for_it(tmp_path):
    artifact = converted(Odd, tmp_path, "odd")
    (report,) = inspect(artifact, "gpu", vulkan="swiftshader", drift=False).delegates
    assert report.partitions == 1
    assert report.taken < report.operators
    refused = {one.operator: one for one in report.left_out if one.code.endswith("UNSUPPORTED")}
    assert list(refused) == ["BITWISE_XOR"]
    assert refused["BITWISE_XOR"].count == 2
    assert refused["BITWISE_XOR"].reason == "Not supported op BITWISE_XOR"
    smaller = sum(one.count for one in report.left_out if one.code == "TFL-GPU-SMALLER-PIECE")
    # Every operator is accounted for by the delegate's own number.
    assert report.taken + 2 + smaller == report.operators


def test_lavapipe_computes_in_fp16_and_swiftshader_in_fp32(plain):
    (halves,) = inspect(plain, "gpu", vulkan="lavapipe").delegates
    assert "llvmpipe" in halves.by
    fp16, fp32 = halves.drifts
    assert (fp16.arithmetic, fp32.arithmetic) == ("fp16", "fp32")
    assert fp32.max_abs_diff < 1e-5 < fp16.max_abs_diff < 1e-2
    assert fp16.pictures == 8
    assert 0.9999 < fp16.cosine < 1
    (whole,) = inspect(plain, "gpu", vulkan="swiftshader").delegates
    (only,) = whole.drifts
    assert only.arithmetic == "fp32"
    assert only.max_abs_diff < 1e-5


def test_a_driver_without_a_gpu_is_told_with_the_set_up(plain, tmp_path):
    absent = vulkan.Driver("absent", tmp_path / "none.json", vulkan.folder() / "swiftshader")
    facts = {each.name: each for each in target_facts("tflite").coverage}["gpu"]
    with pytest.raises(MissingDependency, match="finds no GPU") as caught:
        gpu.asked(
            plain,
            read_manifest(plain),
            facts,
            driver=absent,
            with_drift=False,
            progress=lambda _stage, _fraction: None,
        )
    assert caught.value.hint == "edgese emulator setup --gpu-only"


class Strided(nn.Module):
    """A 1x1 convolution with a stride, as networks have it on their shortcuts."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.shortcut = nn.Conv2d(16, 32, 1, 2)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        """Any pictures to ten numbers each."""
        x = torch.relu(self.shortcut(torch.relu(self.stem(x))))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def test_a_stride_that_the_delegate_loses_in_integers_is_told(tmp_path):
    made = converted(Strided, tmp_path, "strided", recipe="int8")
    (report,) = inspect(made, "gpu", vulkan="swiftshader", drift=True).delegates
    assert [(fault.code, fault.count) for fault in report.faults] == [("TFL-GPU-STRIDE", 1)]
    # LiteRT that computes it right is a reason to take the rule away.
    assert report.drifts[0].max_abs_diff > 0.05 * report.drifts[0].logit_std
