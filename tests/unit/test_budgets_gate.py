"""The gate on files: what passes, what does not, and that nothing passes by being broken."""

import json
import os
import random
import statistics
import subprocess
import sys
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgese import project
from edgese.budgets.api import gate, update_baseline
from edgese.budgets.regression import beside, level
from edgese.errors import InputError, StoreError
from edgese.models.registry import find_model
from edgese.records.artifact import WeightsInfo
from edgese.records.base import Interval
from edgese.records.budget import NoiseFile
from edgese.records.evaluation import (
    Evaluation,
    EvaluationData,
    EvaluationResult,
    Prediction,
    Proportion,
)
from edgese.records.prediction import Evidence
from edgese.records.prediction import Prediction as LatencyPrediction
from edgese.records.profile import ProfileResult
from edgese.report.builds import annotations, junit_of, markdown_of, sarif_of
from edgese.seals import sealed
from edgese.store import write_record

SPEC = find_model("efficientnet_b0")
# Of predictions that were off by a tenth at most, and by 2.9 times in the worst of 29 groups.
PREDICTED = Evidence(
    fit="ncnn-cpu",
    precision="fp32",
    device="facts",
    network="new",
    count=290,
    groups=29,
    within_10=0.9,
    within_20=0.9,
    coverage=0.9,
    spread=1.1,
    quantiles=(1.1,) * 28 + (2.9,),
)
BUDGET = "[[budget]]\ndevice = 'host'\nlatency_p50_ms = 12\n"


@pytest.fixture
def place(tmp_path, monkeypatch, noise_of):
    """A folder of its own, with a budget, on a device that was calibrated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "budget.toml").write_text(BUDGET)
    (tmp_path / "cache").mkdir()
    keep_noise(tmp_path / "cache" / "noise.json", noise_of())
    return tmp_path


def keep_noise(path, *noises):
    write_record(sealed(NoiseFile(noises=noises, edgese="0.1.0")), path)
    return path


@pytest.fixture
def written(place, result_of):
    """Writes a result into the folder."""

    def made(name="profile.json", result=None, **changes):
        write_record(result or result_of(**changes), place / name)
        return place / name

    return made


@pytest.fixture
def judged(place):
    """Runs the gate in the folder."""

    def made(*inputs, **options):
        return gate(list(inputs), budget=place / "budget.toml", **options)

    return made


@pytest.fixture
def baseline(place, written):
    """A baseline of 10 ms."""
    path = place / "baseline.json"
    update_baseline([written("then.json", seed=2)], path)
    return path


@pytest.fixture
def noise(place, noise_of):
    """Runs of one artifact differ by 1 % here."""
    path = place / "calm.json"
    write_record(sealed(NoiseFile(noises=(noise_of(),), edgese="0.1.0")), path)
    return path


def slowdown(result):
    return next(cell.judged for cell in result.cells if cell.judged.quantity == "slowdown")


def test_what_keeps_to_every_limit_passes(judged, written):
    result = judged(written())
    assert (result.exit_code, result.verdict) == (0, "meets")
    assert [cell.judged.limit for cell in result.cells] == ["latency_p50_ms"]


@pytest.mark.parametrize(("changes", "code"), [({"ms": 14}, 1), ({"ms": 12.05}, 6)])
def test_a_miss_is_1_and_what_is_unclear_is_6(judged, written, changes, code):
    assert judged(written(**changes)).exit_code == code


def test_a_miss_counts_more_than_what_is_unclear(judged, written):
    other = written("b.json", label="b.tflite", sha256="b" * 64, ms=14)
    assert judged(written("a.json", ms=12.05), other).exit_code == 1


def test_one_launch_is_unclear_however_fast_it_was(judged, written, profile_of, result_of):
    profile = profile_of(ms=1.0)
    alone = msgspec.structs.replace(
        profile,
        launches=profile.launches[:1],
        latency=msgspec.structs.replace(profile.latency, count=10),
    )
    plan = msgspec.structs.replace(result_of().plan, launches=1, blocks=2)
    assert judged(written(result=result_of(alone, plan=plan))).exit_code == 6


def test_a_slowdown_beyond_the_default_is_a_miss(judged, written, baseline, noise):
    seen = {
        ms: judged(written(ms=ms, seed=3), baseline=baseline, noise=noise)
        for ms in (10.0, 10.5, 11.5)
    }
    assert [result.exit_code for result in seen.values()] == [0, 6, 1]
    assert slowdown(seen[11.5]).bound == 0.05
    assert slowdown(seen[11.5]).value == pytest.approx(0.15, abs=0.02)


def test_without_noise_two_files_are_unclear_and_the_command_is_told(
    place, judged, written, baseline
):
    (place / "cache/noise.json").unlink()
    result = judged(written(), baseline=baseline)
    assert result.exit_code == 6
    assert "--calibrate-noise" in slowdown(result).next_step


@pytest.mark.parametrize(
    "changes",
    [{"target": "onnxruntime"}, {"threads": 1}, {"delegate": "gpu"}, {"runs": 5}],
)
def test_noise_of_something_else_does_not_count(
    place, judged, written, baseline, noise_of, changes
):
    path = place / "noise.json"
    write_record(sealed(NoiseFile(noises=(noise_of(**changes),), edgese="0.1.0")), path)
    assert judged(written(), baseline=baseline, noise=path).exit_code == 6


def test_a_noisier_device_sees_less(judged, place, written, baseline, noise_of):
    found = {}
    for spread in (0.01, 0.1):
        path = place / f"{spread}.json"
        write_record(sealed(NoiseFile(noises=(noise_of(spread),), edgese="0.1.0")), path)
        found[spread] = judged(written(ms=11.5, seed=3), baseline=baseline, noise=path)
    assert [one.exit_code for one in found.values()] == [1, 6]
    assert slowdown(found[0.1]).smallest_seen > 2 * slowdown(found[0.01]).smallest_seen


def test_side_by_side_a_drift_that_both_suffer_takes_nothing_away(profile_of):
    """The same launches, each as slow as the machine happened to be."""
    base = profile_of(spread=0.2, seed=7)
    slower = profile_of(ms=11.0, spread=0.2, seed=7)
    interval = beside(slower, base).interval(0.95)
    assert 0.08 < interval.low < 0.1 < interval.high < 0.12


def test_the_level_of_a_run_forgets_a_disturbed_launch(profile_of):
    calm, upset = profile_of(spread=0.0), profile_of(spread=0.0)
    slow = profile_of(ms=100.0, spread=0.0).launches[:1]
    assert level((*slow, *upset.launches[1:])) == pytest.approx(level(calm.launches), rel=0.01)


def test_a_missing_baseline_is_no_pass(judged, written, place):
    result = judged(written(), baseline=place / "gone.json")
    assert result.exit_code == InputError.exit_code
    assert "gone.json" in result.untrusted[0].message


def test_an_input_that_cannot_be_trusted_counts_more_than_a_miss(judged, written, place):
    result = judged(written(ms=14), baseline=place / "gone.json")
    assert (result.exit_code, result.verdict) == (8, "misses")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": []}', "not json"])
def test_an_unreadable_baseline_is_no_pass(judged, written, place, text):
    (place / "bad.json").write_text(text)
    assert judged(written(), baseline=place / "bad.json").exit_code == 8


def test_an_edited_baseline_is_no_pass(judged, written, baseline, noise):
    found = json.loads(baseline.read_text())
    found["cells"][0]["profile"]["size_bytes"] += 1
    baseline.write_text(json.dumps(found))
    result = judged(written(), baseline=baseline, noise=noise)
    assert result.exit_code == StoreError.exit_code


def test_noise_that_was_named_must_be_there(judged, written, baseline, place):
    assert judged(written(), baseline=baseline, noise=place / "gone.json").exit_code == 8


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"resolution": (260, 260)}, "260x260"),
        ({"label": "b.tflite"}, "b.tflite"),
        ({"delegate": "gpu"}, "delegate"),
        ({"batch": 4}, "batch"),
    ],
)
def test_something_else_than_the_baseline_has_is_no_pass(
    judged, written, baseline, noise, changes, told
):
    result = judged(written(**changes), baseline=baseline, noise=noise)
    assert result.exit_code == 8
    assert told in result.untrusted[0].message


def test_another_machine_of_the_same_name_is_no_pass(
    judged, written, baseline, noise, profile_of, result_of
):
    device = msgspec.structs.replace(profile_of().device, cpu="y")
    own = written(result=result_of(profile_of(device=device)))
    result = judged(own, baseline=baseline, noise=noise)
    assert result.exit_code == 8


def test_a_device_without_a_limit_is_no_pass(judged, written, result_of, profile_of):
    info = msgspec.structs.replace(profile_of().device, name="pixel8")
    found = result_of(profile_of(device=info), device="pixel8")
    assert judged(written(result=found)).exit_code == 2


def test_a_limit_that_nothing_answers_is_unclear(judged, written, place):
    (place / "budget.toml").write_text(BUDGET + "[[budget]]\ndevice='pixel8'\nfirst_run_ms = 40\n")
    assert judged(written()).exit_code == 6
    # Another job's gate asks for the phone.
    assert judged(written(), devices=["host"]).exit_code == 0


def test_results_of_another_artifact_are_no_pass(judged, written, place, described):
    (place / "a.tflite").write_bytes(b"changed since")
    result = judged(written())
    assert result.exit_code == StoreError.exit_code
    described(place / "a.tflite", target="tflite")
    # Nor is the artifact measured in their place.
    assert judged(place / "a.tflite", written()).exit_code == 7


def predicted(target="tflite"):
    """A result with nothing but a prediction."""
    prediction = LatencyPrediction(
        model="m",
        device="host",
        target=target,
        delegate="cpu",
        precision="fp32",
        threads=2,
        resolution=(224, 224),
        latency_ms=1.0,
        interval=Interval(low=0.9, high=1.1, confidence=0.9),
        rows=9,
        evidence=(PREDICTED,),
        sources=(),
    )
    return sealed(
        ProfileResult(
            device="host", edgese="0.1.0", created="", absence="gone", predictions=(prediction,)
        )
    )


def test_what_was_predicted_is_not_taken_for_measured(judged, written, place):
    result = predicted()
    (place / "budget.toml").write_text("[budget]\nlatency_p50_ms = 12\n")
    refused = judged(written(result=result))
    assert refused.exit_code == 6
    assert "predicted" in refused.cells[0].judged.reason
    (place / "budget.toml").write_text("[budget]\nlatency_p50_ms = 12\nsources = ['predicted']\n")
    assert judged(written(result=result)).exit_code == 0


def test_ncnn_which_nothing_converts_to_is_measured_in_another_runtime(judged, written, place):
    (place / "budget.toml").write_text("[budget]\nlatency_p50_ms = 12\n")
    step = judged(written(result=predicted("ncnn"))).cells[0].judged.next_step
    assert step.startswith("edgese profile m --target tflite --recipe fp32 ")


def test_the_output_of_predict_is_named_where_a_result_is_asked(judged, place):
    (place / "predicted.json").write_bytes(msgspec.json.encode(predicted().predictions[0]))
    refused = judged(place / "predicted.json")
    assert refused.exit_code != 0
    assert any("is a prediction alone" in str(each) for each in refused.untrusted)


def test_a_result_that_says_nothing_is_no_pass(judged, written):
    empty = sealed(ProfileResult(device="host", edgese="0.1.0", created="", absence="It is gone."))
    assert judged(written(result=empty)).exit_code == 6


def test_a_result_that_is_not_complete_is_no_pass(judged, written, result_of):
    assert judged(written(result=result_of(result={"complete": False}))).exit_code == 8


def evaluations(sha256, right, *, of=200, recipe="int8", target="tflite"):
    predictions = tuple(
        Prediction(
            file=f"{n}",
            label=0,
            classes=(0 if n < right else 1,),
            probabilities=(1.0,),
            sha256=f"{n:064x}",
        )
        for n in range(of)
    )
    return Evaluation(
        subject=recipe,
        model="m",
        target=target,
        recipe=recipe,
        delegate="",
        artifact_sha256=sha256,
        weights=WeightsInfo(source="w", sha256="w", naming="edgese", trained=True),
        preprocessing=SPEC.preprocessing,
        data=EvaluationData(source="d", split="", labelled_by="name", listed=of, sha256="d"),
        pictures=of,
        top1=Proportion(count=right, of=of, share=right / of, interval=Interval(low=0, high=1)),
        top5=None,
        predictions=predictions,
        unreadable=(),
        seconds=1.0,
        threads=1,
        versions={},
        edgese="0.1.0",
        created="",
    )


def accuracy_file(place, *found):
    result = sealed(EvaluationResult(evaluations=found, agreements=()))
    write_record(result, place / "evaluation.json")
    return place / "evaluation.json"


def test_accuracy_is_judged_by_its_interval_and_the_drop_in_pairs(judged, written, place):
    (place / "budget.toml").write_text("[budget]\naccuracy = 0.8\naccuracy_drop = 0.05\n")
    own = written(recipe="int8")
    reference = evaluations("", 182, recipe="fp32", target="pytorch")
    seen = {
        right: judged(own, accuracy_file(place, reference, evaluations("a" * 64, right)))
        for right in (180, 166, 120)
    }
    told = {right: tuple(cell.judged.verdict for cell in one.cells) for right, one in seen.items()}
    assert told == {
        180: ("meets", "meets"),
        166: ("unclear", "unclear"),
        120: ("misses", "misses"),
    }


def test_accuracy_that_nobody_evaluated_is_unclear(judged, written, place):
    (place / "budget.toml").write_text("[budget]\naccuracy = 0.8\n")
    other = accuracy_file(place, evaluations("b" * 64, 200))
    result = judged(written(), other)
    assert result.exit_code == 6
    assert "edgese evaluate" in result.cells[0].judged.next_step


def test_an_untrained_artifact_has_no_accuracy_to_judge(judged, written, place):
    (place / "budget.toml").write_text("[budget]\naccuracy = 0.8\n")
    result = judged(written(trained=False), accuracy_file(place, evaluations("a" * 64, 200)))
    assert result.exit_code == 2
    assert "UNTRAINED" in result.untrusted[0].message


quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(end=st.floats(0, 1))
def test_a_truncated_result_never_passes(judged, written, end):
    path = written()
    text = path.read_bytes().rstrip()
    path.write_bytes(text[: int(end * (len(text) - 1))])
    assert judged(path).exit_code not in (0, 1)


@quick
@given(seed=st.integers(0, 10_000))
def test_a_result_in_which_anything_was_moved_or_dropped_never_passes(judged, written, seed):
    path = written()
    found = json.loads(path.read_text())
    rng = random.Random(seed)
    lists = [item for item in _lists(found) if len(item) > 1 and len(set(map(str, item))) > 1]
    chosen = rng.choice(lists)
    before = list(chosen)
    if rng.random() < 0.5:
        while chosen == before:
            rng.shuffle(chosen)
    else:
        del chosen[rng.randrange(len(chosen))]
    path.write_text(json.dumps(found))
    assert judged(path).exit_code not in (0, 1)


def test_a_mixed_result_is_refused_even_with_a_seal_of_its_own(
    judged, written, profile_of, result_of
):
    """Whoever seals anew what was shuffled or cut finds the other checks."""
    profile = profile_of()
    turned = msgspec.structs.replace(profile, launches=profile.launches[::-1])
    cut = msgspec.structs.replace(profile, launches=profile.launches[:-1])
    thinned = msgspec.structs.replace(
        profile,
        launches=(
            *profile.launches[:-1],
            msgspec.structs.replace(
                profile.launches[-1],
                blocks=tuple(
                    msgspec.structs.replace(block, samples_ns=block.samples_ns[:-1])
                    for block in profile.launches[-1].blocks
                ),
            ),
        ),
    )
    codes = [judged(written(result=result_of(one))).exit_code for one in (turned, cut, thinned)]
    assert codes == [8, 8, 8]


@quick
@given(data=st.data())
def test_the_order_of_inputs_never_matters(judged, written, baseline, noise, data):
    inputs = [
        written("one.json", seed=3),
        written("two.json", label="b.tflite", ms=14),
        written("three.json", ms=10.6, seed=4),
    ]
    order = data.draw(st.permutations(inputs))
    straight = judged(*inputs, baseline=baseline, noise=noise)
    turned = judged(*order, baseline=baseline, noise=noise)
    assert msgspec.structs.replace(turned, created="") == msgspec.structs.replace(
        straight, created=""
    )


def test_a_baseline_is_renewed_name_by_name(written, baseline):
    path = written("b.json", label="models/b.tflite", seed=4)
    found = update_baseline([path], baseline)
    assert [cell.name for cell in found.cells] == ["a.tflite", "b.tflite"]
    again = update_baseline([written("a.json", ms=20)], baseline)
    assert [round(cell.profile.latency.p50_ms / 10) for cell in again.cells] == [2, 1]


def test_two_artifacts_of_one_name_make_no_baseline(place, result_of, profile_of, written):
    both = result_of(profile_of("x/a.tflite"), profile_of("y/a.tflite"))
    with pytest.raises(InputError, match="twice"):
        update_baseline([written(result=both)], place / "new.json")
    assert not (place / "new.json").exists()


def test_every_output_names_the_files_that_decided(written, baseline, noise, place, monkeypatch):
    inner = place / "deep"
    inner.mkdir()
    monkeypatch.chdir(inner)
    project.root.cache_clear()
    project.file.cache_clear()
    (place / "edgese.toml").write_text(BUDGET)
    result = gate([written()], baseline=baseline, noise=noise)
    project.root.cache_clear()
    project.file.cache_clear()
    files = {
        "budget": str(place / "edgese.toml"),
        "baseline": str(baseline),
        "noise": str(noise),
        "project": str(place / "edgese.toml"),
    }
    assert result.deciding == files
    told = json.loads(result.to_json())
    assert {name: told[name] for name in files} == files
    assert json.loads(sarif_of(result))["runs"][0]["properties"] == files
    suite = ET.fromstring(junit_of(result)).find("testsuite")  # noqa: S314  # made here
    assert {one.get("name"): one.get("value") for one in suite.iter("property")} == files
    assert all(f"- {name}: {path}" in markdown_of(result) for name, path in files.items())


def test_every_output_tells_what_is_not_met(judged, written, place):
    result = judged(written("a,b.json", ms=14), baseline=place / "gone.json")
    tree = ET.fromstring(junit_of(result))  # noqa: S314  # made here
    assert len(tree.findall(".//failure")) == 2
    assert len(tree.findall(".//error")) == 1
    found = json.loads(sarif_of(result))
    levels = [one["level"] for one in found["runs"][0]["results"]]
    assert (found["version"], sorted(levels)) == ("2.1.0", ["error", "error", "warning"])
    lines = list(annotations(result))
    assert len(lines) == 3
    assert all(line.startswith("::error title=") and "\n" not in line for line in lines)
    assert "**misses**" in markdown_of(result)
    assert "exit code 8" in markdown_of(result)


def test_the_command_needs_neither_torch_nor_numpy(written, place):
    path = written()
    code = (
        "import sys\nfrom edgese.__main__ import run\n"
        f"code = run(['gate', {str(path)!r}, '--budget', 'budget.toml'])\n"
        "heavy = {'torch', 'numpy', 'scipy', 'onnx', 'PIL'} & set(sys.modules)\n"
        "print(code, sorted(heavy))"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=place
    )
    assert outcome.stdout.splitlines()[-1] == "0 []"
    assert "passed: 1 meets" in outcome.stdout


def test_the_command_answers_in_half_a_second(written, baseline, noise, place):
    """Of a processor's time on a quiet machine, where the help takes 0.13 s of it."""

    def seconds(*command):
        taken = []
        for _ in range(5):
            before = os.times()
            subprocess.run([sys.executable, *command], capture_output=True, check=True, cwd=place)
            after = os.times()
            user = after.children_user - before.children_user
            taken.append(user + after.children_system - before.children_system)
        return statistics.median(taken)

    files = [str(written()), "--baseline", str(baseline), "--noise", str(noise)]
    slowness = max(1.0, seconds("-m", "edgese", "--help") / 0.13)
    asked = seconds("-m", "edgese", "gate", *files, "--budget", "budget.toml")
    assert asked < 0.5 * slowness


def _lists(value):
    if isinstance(value, list):
        yield value
        inside = value
    else:
        inside = value.values() if isinstance(value, dict) else ()
    for item in inside:
        yield from _lists(item)
