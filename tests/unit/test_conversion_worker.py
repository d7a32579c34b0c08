"""What a worker makes of an artifact's answers."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgese import catalog
from edgese.conversion import worker
from edgese.errors import ConversionError, OperatorUnknown
from edgese.records.artifact import (
    Grid,
    Interface,
    ModelCard,
    TargetOptions,
    TensorInfo,
)
from edgese.records.conversion import ConversionJob
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

    def made(answers, *, target, trained, recipe="int8", deviation=None):
        job = ConversionJob(
            target=target,
            card=ModelCard(name="net", classes=10, preprocessing=Preprocessing()),
            recipe=catalog.recipe(recipe),
            options=TargetOptions(),
            delegate="",
            program="",
            reference="",
            artifact="",
            threads=1,
            trained=trained,
        )
        module = SimpleNamespace(
            unavailable=lambda: "",
            stand_in=lambda: "",
            load=lambda *_, **__: lambda _: answers,
            deviation=deviation or (lambda *_: None),
        )
        reference = np.zeros((4, 3, 8, 8), np.float32), LOGITS
        told = worker.deviation_of(module, job, None, tmp_path / "a", INTERFACE, reference)
        return worker.parity_of(module, job, tmp_path / "a", INTERFACE, reference, told)

    return made


WRONG = LOGITS[::-1].copy()


def test_integers_of_its_own_with_random_weights_are_told_and_refuse_nothing(compare):
    found = compare(WRONG, target="coreml", trained=False)
    assert found.verdict == "not_run"
    assert "random weights" in found.reason
    assert found.cosine < 0.9
    assert compare(LOGITS, target="coreml", trained=False).verdict == "passed"


def test_a_file_that_is_its_program_passes_whatever_random_weights_answer(compare):
    found = compare(WRONG, target="coreml", trained=False, deviation=lambda *_: 0.0)
    assert (found.verdict, found.reason, found.deviation) == ("passed", "", 0.0)
    assert found.cosine < 0.9


def test_trained_weights_must_answer_alike_as_well(compare):
    with pytest.raises(ConversionError, match="cosine"):
        compare(WRONG, target="coreml", trained=True, deviation=lambda *_: 0.0)


@pytest.mark.parametrize("deviation", [1e-4, np.nan])
def test_a_file_that_is_not_its_program_is_refused(compare, deviation):
    with pytest.raises(ConversionError, match="is not its program"):
        compare(LOGITS, target="coreml", trained=True, deviation=lambda *_: deviation)


def test_two_pictures_tell_the_deviation(compare):
    counts = []
    compare(LOGITS, target="coreml", trained=True, deviation=lambda *a: counts.append(len(a[-1])))
    assert counts == [2]


def test_an_operator_that_nobody_here_executes_leaves_the_deviation_open(compare):
    def deviation(*_):
        raise OperatorUnknown("no kernel", hint="")

    assert compare(LOGITS, target="coreml", trained=True, deviation=deviation).deviation is None


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
