"""What a worker makes of an artifact's answers."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgese import catalog
from edgese.conversion import worker
from edgese.errors import ConversionError
from edgese.records.artifact import (
    Grid,
    Interface,
    ModelCard,
    TargetOptions,
    TensorInfo,
)
from edgese.records.job import ConversionJob
from edgese.records.model import Preprocessing

LOGITS = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)


def tensor(name, shape):
    return TensorInfo(
        name=name, shape=shape, layout="NCHW", dtype="float32", grid=Grid(scale=0.01, zero_point=0)
    )


INTERFACE = Interface(input=tensor("input", (1, 3, 8, 8)), output=tensor("logits", (1, 10)))


@pytest.fixture
def compare(tmp_path):
    """Holds answers against the reference, as the worker of a target does."""
    np.savez(tmp_path / "r.npz", pictures=np.zeros((4, 3, 8, 8), np.float32), logits=LOGITS)

    def made(answers, *, target, trained, recipe="int8"):
        job = ConversionJob(
            target=target,
            card=ModelCard(name="net", classes=10, preprocessing=Preprocessing()),
            recipe=catalog.recipe(recipe),
            options=TargetOptions(),
            delegate="",
            program="",
            reference=str(tmp_path / "r.npz"),
            artifact="",
            threads=1,
            trained=trained,
        )
        module = SimpleNamespace(
            unavailable=lambda: "",
            stand_in=lambda: "",
            load=lambda *_, **__: lambda _: answers,
        )
        return worker.parity_of(module, job, tmp_path / "a", INTERFACE)

    return made


WRONG = LOGITS[::-1].copy()


def test_integers_of_its_own_with_random_weights_are_told_and_refuse_nothing(compare):
    found = compare(WRONG, target="coreml", trained=False)
    assert found.verdict == "not_run"
    assert "random weights" in found.reason
    assert found.cosine < 0.9
    assert compare(LOGITS, target="coreml", trained=False).verdict == "passed"


@pytest.mark.parametrize(
    ("answers", "changes"),
    [
        (WRONG, {"target": "coreml", "trained": True}),
        (WRONG, {"target": "coreml", "trained": False, "recipe": "fp16"}),
        (WRONG, {"target": "tflite", "trained": False}),
        (np.full_like(LOGITS, np.nan), {"target": "coreml", "trained": False}),
        (LOGITS[:, :9], {"target": "coreml", "trained": False}),
    ],
)
def test_everything_else_that_computes_something_else_is_refused(compare, answers, changes):
    with pytest.raises(ConversionError):
        compare(answers, **changes)
