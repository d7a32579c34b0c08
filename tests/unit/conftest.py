"""Fixtures of the tests that need no runtime."""

import pytest

from edgese.measure.job import Subject
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


@pytest.fixture
def subject_of():
    """Makes subjects of artifacts that are described and do not exist."""

    def made(label, target="onnxruntime", sha256="0" * 64):
        picture = TensorInfo(name="x", shape=(1, 3, 224, 224), layout="NCHW", dtype="float32")
        spec = find_model("efficientnet_b0")
        manifest = Manifest(
            artifact=label,
            sha256=sha256,
            size_bytes=1000,
            target=target,
            delegate="cpu",
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
                input=picture,
                output=TensorInfo(name="y", shape=(1, 4), layout="NC", dtype="float32"),
            ),
            operators=OperatorReport(operators={}, delegate="cpu", partitions=1),
            parity=Parity(verdict="not_run"),
            program_sha256="",
            toolchain={},
            edgese="0.1.0",
            created="2026-01-01T00:00:00+00:00",
        )
        return Subject(label=label, path=f"/nowhere/{label}", manifest=manifest)

    return made
