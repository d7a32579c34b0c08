"""Fixtures of the tests that need no runtime."""

import pytest

from edgese.measure.job import Subject


@pytest.fixture
def subject_of(manifest_of):
    """Makes subjects of artifacts that are described and do not exist."""

    def made(label, target="onnxruntime", sha256="0" * 64):
        manifest = manifest_of(label, target=target, sha256=sha256)
        return Subject(label=label, path=f"/nowhere/{label}", manifest=manifest)

    return made
