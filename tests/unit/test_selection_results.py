"""What `edgese select --from-results` refuses to choose from, however the files were made.

Files are sealed again after each edit: a seal is no signature.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from edgese.__main__ import run
from edgese.errors import InputError
from edgese.evaluation.scoring import top1
from edgese.models.cost import cost
from edgese.models.registry import find_model
from edgese.records.artifact import WeightsInfo
from edgese.records.budget import Observation
from edgese.records.evaluation import Evaluation, EvaluationData, EvaluationResult, Prediction
from edgese.records.selection import Candidate, Finding
from edgese.report import results_page
from edgese.results import read_result
from edgese.seals import sealed
from edgese.selection.deciding import Aim, Known, decide
from edgese.selection.outcome import result_of as selection_of

SPEC = find_model("efficientnet_lite0")
A, B = "a" * 64, "b" * 64
FINDING = Candidate(
    model=SPEC.name, resolution=(224, 224), recipe="fp32", target="tflite", artifact=A
)
changed = msgspec.structs.replace


def evaluation(sha256, right, *, of=200, images="", **changes):
    predictions = tuple(
        Prediction(
            file=f"{images}{n}",
            label=0,
            classes=(0 if n < right else 1,),
            probabilities=(1.0,),
            sha256=f"{images}{n}",
        )
        for n in range(of)
    )
    made = Evaluation(
        subject=f"{sha256[0]}.tflite",
        model=SPEC.name,
        target="tflite",
        recipe="fp32",
        delegate="xnnpack",
        artifact_sha256=sha256,
        weights=WeightsInfo(source="w", sha256="f" * 64, naming="edgese", trained=True),
        preprocessing=SPEC.preprocessing,
        data=EvaluationData(source="d", split="", labelled_by="name", listed=of, sha256="d"),
        pictures=of,
        top1=top1(predictions, 0),
        top5=None,
        predictions=predictions,
        unreadable=(),
        seconds=1.0,
        threads=2,
        versions={},
        edgese="0.1.0",
        created="2026-01-01T00:00:00+00:00",
    )
    return changed(made, **changes)


def evaluated(*evaluations):
    return sealed(EvaluationResult(evaluations=evaluations, agreements=()))


@dataclass
class Chosen:
    """How a selection ended."""

    code: int
    states: dict[str, str]
    error: str


@pytest.fixture
def chosen(tmp_path, capsys):
    """Chooses among records, which stand in files."""
    budget = tmp_path / "budget.toml"
    budget.write_text("[[budget]]\nlatency_p50_ms = 20.0\naccuracy = 0.5\n")

    def made(*records):
        files = [tmp_path / f"{number}.json" for number in range(len(records))]
        for file, record in zip(files, records, strict=True):
            Path(file).write_text(record.to_json())
        options = [part for file in files for part in ("--from-results", str(file))]
        code = run(["select", *options, "--budget", str(budget), "--json"])
        out, error = capsys.readouterr()
        told = json.loads(out)["decision"]["standings"] if code in (0, 1, 6) else ()
        return Chosen(code, {one["candidate"]["artifact"]: one["state"] for one in told}, error)

    return made


@pytest.fixture
def profile(profile_of):
    def made(sha256=A, **changes):
        macs = cost(SPEC).macs
        named = {"label": f"{sha256[0]}.tflite", "model": SPEC.name, "sha256": sha256}
        return profile_of(**{**named, "macs": macs, **changes})

    return made


def test_the_most_accurate_of_sound_results_is_chosen(chosen, profile, result_of):
    results = result_of(profile(), profile(B)), evaluated(evaluation(A, 150), evaluation(B, 180))
    found = chosen(*results)
    assert (found.code, found.states) == (0, {A: "meets", B: "chosen"})


def test_what_collapsed_is_never_chosen(chosen, profile, result_of):
    accuracies = evaluated(evaluation(A, 190), evaluation(B, 150))
    bad = profile(collapse="one class answers everything")
    found = chosen(result_of(bad), accuracies)
    assert (found.code, found.states) == (6, {A: "failed"})
    found = chosen(result_of(bad, profile(B)), accuracies)
    assert (found.code, found.states) == (0, {A: "failed", B: "chosen"})


@pytest.mark.parametrize("other", [A, B])
def test_accuracies_on_different_images_are_not_ranked(chosen, profile, result_of, other):
    easy, hard = evaluation(A, 190, images="easy"), evaluation(other, 150, images="hard")
    found = chosen(result_of(profile(), profile(B)), evaluated(easy), evaluated(hard))
    assert found.code == 8
    assert "on different images" in found.error


def test_an_evaluated_accuracy_is_not_ranked_beside_a_published_one(chosen, profile, result_of):
    both = result_of(profile(), profile(B))
    assert chosen(both).states == {A: "chosen", B: "meets"}
    found = chosen(both, evaluated(evaluation(B, 120)))
    assert found.states == {A: "unclear", B: "chosen"}


def test_results_of_two_machines_with_one_name_are_refused(chosen, profile, result_of):
    first = profile()
    other = profile(B, device=changed(first.device, cpu="another processor"))
    found = chosen(result_of(first), result_of(other))
    assert found.code == 8
    assert "another processor" in found.error


@pytest.mark.parametrize(
    "changes",
    [{"target": "onnxruntime"}, {"recipe": "int8"}, {"model": "mine"}, {"resolution": (9, 9)}],
)
def test_results_that_name_one_artifact_differently_are_refused(
    chosen, profile, result_of, changes
):
    found = chosen(result_of(profile()), result_of(profile(**changes)))
    assert found.code == 8
    assert f"has the {next(iter(changes))}" in found.error


def test_an_evaluation_of_another_network_with_the_artifacts_hash_is_refused(
    chosen, profile, result_of
):
    found = chosen(result_of(profile()), evaluated(evaluation(A, 190, recipe="int8")))
    assert found.code == 8
    assert "has the recipe" in found.error


def test_what_is_not_complete_is_refused_though_it_has_no_seal(chosen, result_of, profile):
    found = chosen(changed(result_of(profile()), complete=False, seal=""))
    assert found.code == 8
    assert "not complete" in found.error


def test_a_profile_that_lost_its_slow_processes_is_refused(chosen, profile, result_of):
    whole = profile()
    found = chosen(result_of(changed(whole, launches=whole.launches[:2])))
    assert found.code == 8
    assert "launches where" in found.error


@pytest.mark.parametrize("part", ["evaluation", "reference", "profile"])
def test_what_a_finding_holds_is_checked_like_a_file_of_its_own(chosen, profile, result_of, part):
    sound = evaluation(A, 150)
    whole = profile()
    edits = {
        "evaluation": changed(sound, top1=changed(sound.top1, count=199)),
        "reference": changed(sound, artifact_sha256="", top1=changed(sound.top1, count=1)),
        "profile": result_of(changed(whole, launches=whole.launches[:2])),
    }
    held = {"profile": result_of(whole), "evaluation": sound}
    finding = Finding(asked="x", candidate=FINDING, artifact="a.tflite", **held)
    assert chosen(sealed(finding)).code == 0
    found = chosen(sealed(changed(finding, **{part: edits[part]})))
    assert found.code == 8
    assert "are told" in found.error


def test_a_selection_whose_winner_is_no_candidate_is_refused(tmp_path):
    accuracy = Observation(quantity="accuracy", value=0.8, low=0.8, high=0.8, source="evaluated")
    made = decide([Known(FINDING, (accuracy,))], Aim(()))
    path = tmp_path / "selection.json"
    told = sealed(selection_of(made, Aim(()), device="host", budget=""))
    path.write_text(told.to_json())
    assert made.winner.label in results_page([read_result(path)])
    path.write_text(told.to_json().replace(f'"chosen": "{made.chosen}"', '"chosen": "another"'))
    with pytest.raises(InputError, match="none of the candidates"):
        read_result(path)
