"""``edgese predict``: what it says, what moves it as it must, and what it refuses."""

import csv
import json
import random
from pathlib import Path

import msgspec
import pytest

from edgese import catalog, predict, project
from edgese.__main__ import run
from edgese.errors import ConfigError, MeasurementError
from edgese.models.registry import find_model
from edgese.prediction import evidence, ncnn, tables
from edgese.records.prediction import Anchor, EvidenceTable

ANCHOR = Anchor(model="mobilenet_v2", latency_ms=60.0)


def test_a_prediction_says_what_it_is_and_what_it_rests_on(capsys):
    arguments = ["predict", "efficientnet_b0", "--device", "rpi4", "--target", "ncnn", "--json"]
    assert run(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == "predicted"
    assert found["interval"]["low"] < found["latency_ms"] < found["interval"]["high"]
    assert found["interval"]["confidence"] == 0.9
    assert found["rows"] > 1000
    assert found["evidence"][0]["device"] == "facts"
    assert found["sources"][0].startswith("https://")


def test_the_table_tells_that_nothing_was_measured(capsys):
    assert run(["predict", "efficientnet_lite0", "--device", "pixel4", "--recipe", "int8"]) == 0
    told = capsys.readouterr().out
    assert "Predicted, not measured" in told
    assert "a step from there to XNNPACK" in told
    assert "within 20 % of the truth" in told


@pytest.mark.parametrize("target", ["ncnn", "tflite"])
def test_more_pixels_take_longer(target):
    found = [
        predict("efficientnet_b0", "rpi5", target=target, resolution=(side, side)).latency_ms
        for side in (160, 192, 224, 288, 384)
    ]
    assert found == sorted(found)


def test_a_higher_clock_takes_less_time():
    facts = catalog.device_facts("rpi4")
    fast = msgspec.structs.replace(
        facts,
        cores=tuple(msgspec.structs.replace(each, ghz=each.ghz * 1.3) for each in facts.cores),
    )
    slow, quick = (predict("resnet50", each, target="ncnn").latency_ms for each in (facts, fast))
    assert quick < 0.9 * slow


def test_four_threads_take_less_time_than_one():
    one, four = (
        predict("efficientnet_b0", "rpi4", target="ncnn", threads=n).latency_ms for n in (1, 4)
    )
    assert four < 0.7 * one


def test_an_anchor_moves_the_prediction_and_narrows_the_interval():
    slow = [
        predict("efficientnet_b0", "rpi4", target="ncnn", anchors=[anchor])
        for anchor in (ANCHOR, msgspec.structs.replace(ANCHOR, latency_ms=120.0))
    ]
    assert slow[1].latency_ms == pytest.approx(2 * slow[0].latency_ms, rel=0.25)
    alone = predict("efficientnet_b0", "rpi4", target="ncnn")
    width = [each.interval.high / each.interval.low for each in (alone, slow[0])]
    assert width[1] < 0.7 * width[0]
    assert slow[0].evidence[0].device == "anchored"


def test_the_network_that_is_the_anchor_is_predicted_near_it():
    found = predict("mobilenet_v2", "rpi4", target="ncnn", anchors=[ANCHOR])
    assert found.latency_ms == pytest.approx(60.0, rel=0.12)


def test_resolution_is_part_of_what_was_measured():
    same, other = (
        predict("efficientnet_b0", "rpi4", target="ncnn", resolution=size)
        for size in ((224, 224), (240, 240))
    )
    assert (same.evidence[0].network, other.evidence[0].network) == ("measured", "new")


def test_a_spec_that_borrows_a_name_is_another_network():
    spec = find_model("efficientnet_b0")
    own = msgspec.structs.replace(spec, classes=10, labels=())
    named, same, other = (
        predict(each, "rpi4", target="ncnn") for each in ("efficientnet_b0", spec, own)
    )
    assert same == named
    assert other.evidence[0].network == "new"
    assert other.model == "efficientnet_b0 (a spec of your own)"


def test_unseen_chips_get_the_wider_interval_that_the_step_earns():
    seen, unseen = (predict("efficientnet_b0", name) for name in ("pixel9_pro", "pixel8"))
    assert len(seen.evidence) == 1
    assert [each.fit for each in unseen.evidence] == ["ncnn-cpu", "xnnpack-cpu"]
    assert unseen.interval.high / unseen.latency_ms > seen.interval.high / seen.latency_ms


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"device": "iphone15"}, "No published measurement reaches Apple iPhone 15"),
        ({"device": "arm64-a76"}, "No published measurement reaches"),
        ({"device": "pixel8", "delegate": "gpu"}, "of Arm Mali-G715 of Google Pixel 8"),
        ({"device": "pixel4", "delegate": "npu", "recipe": "int8"}, "NPU of Google Pixel 4"),
        ({"device": "rpi4"}, "XNNPACK compares with ncnn on cortex-a72 cores was not measured"),
        ({"device": "rpi5", "target": "executorch"}, "is of executorch on the cpu"),
        ({"device": "rpi5", "recipe": "int8-weights"}, "of the recipe int8-weights"),
        ({"device": "rpi5", "recipe": "fp16"}, "XNNPACK in fp16"),
        ({"device": "rpi5", "recipe": "fp16", "target": "ncnn"}, "in fp16 arithmetic wherever"),
        ({"device": "rpi5", "resolution": (4000, 4000)}, "times as large as the largest"),
    ],
)
def test_what_no_measurement_reaches_is_refused_with_the_reason(arguments, reason):
    with pytest.raises(MeasurementError, match=reason) as refused:
        predict("efficientnet_b0", **arguments)
    assert refused.value.hint


def test_a_core_of_which_nothing_is_published_is_named():
    facts = catalog.device_facts("rpi5")
    strange = msgspec.structs.replace(
        facts, cores=(msgspec.structs.replace(facts.cores[0], kind="cortex-z9"),)
    )
    with pytest.raises(MeasurementError, match="how fast a cortex-z9 core computes"):
        predict("efficientnet_b0", strange, target="ncnn")
    with pytest.raises(MeasurementError, match="cores are not known"):
        predict("efficientnet_b0", msgspec.structs.replace(facts, cores=()), target="ncnn")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"target": "caffe"}, "target 'caffe'"),
        ({"delegate": "dsp"}, "delegate 'dsp'"),
        ({"threads": 99}, "has 4 cores"),
        ({"delegate": "gpu", "threads": 2}, "the gpu has none"),
        ({"delegate": "gpu", "anchors": [ANCHOR]}, "cannot take any"),
        (
            {"target": "ncnn", "anchors": [Anchor(model="mobilenet_v2", latency_ms=-1.0)]},
            "no latency",
        ),
    ],
)
def test_what_makes_no_sense_is_an_error(arguments, reason):
    with pytest.raises(ConfigError, match=reason):
        predict("efficientnet_b0", "rpi5", **arguments)


def test_a_network_with_a_table_is_known_at_its_resolution_alone():
    assert predict("mobilenet_v2", "rpi5").resolution == (224, 224)
    with pytest.raises(ConfigError, match="224x224 px alone"):
        predict("mobilenet_v2", "rpi5", resolution=(192, 192))


@pytest.mark.parametrize("text", ["mobilenet_v2", "=3", "mobilenet_v2=fast"])
def test_an_anchor_that_is_none_is_told(text, capsys):
    assert run(["predict", "efficientnet_b0", "--device", "rpi5", "--anchor", text]) == 2
    assert "mobilenet_v2=12.3" in capsys.readouterr().err


def test_a_chip_is_recognised_in_the_catalogues_words():
    assert ncnn.measured("Rockchip RK3588", "rk3588") == ("RK3588", ncnn.UNKNOWN)
    assert ncnn.measured("Broadcom BCM2712", "rpi5") == ("BCM2712", "raspberry_pi_5")
    assert ncnn.measured("Google Tensor G3", "pixel8") == (ncnn.UNKNOWN, ncnn.UNKNOWN)


def test_a_shuffled_table_gives_the_same_answer(tmp_path, monkeypatch):
    straight = predict("resnet50", "rpi4", target="ncnn", recipe="int8")
    with catalog.data_file("calibration/latency/ncnn.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    random.Random(3).shuffle(rows)
    (tmp_path / "edgese.toml").write_text("")
    own = tmp_path / "calibration/latency"
    own.mkdir(parents=True)
    with (own / "ncnn.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    monkeypatch.chdir(tmp_path)
    _forget()
    try:
        assert Path.samefile(catalog.data_file("calibration/latency/ncnn.csv"), own / "ncnn.csv")
        shuffled = predict("resnet50", "rpi4", target="ncnn", recipe="int8")
    finally:
        monkeypatch.undo()
        _forget()
    assert shuffled.latency_ms == straight.latency_ms


def test_there_is_evidence_for_whatever_can_be_predicted():
    for fit, precision in [
        (ncnn.NAME, "fp32"),
        (ncnn.NAME, "int8"),
        ("qualcomm-npu", "fp32"),
        ("qualcomm-npu", "int8"),
    ]:
        for device in ("measured", "facts"):
            for network in ("measured", "new"):
                found = evidence.evidence(fit, precision, device, network)
                assert 1 < found.spread < 5
    for fit in ("xnnpack-cpu", "litert-accelerator"):
        assert evidence.evidence(fit, "all", "measured", "new").spread > 1
    one, three = (evidence.evidence(ncnn.NAME, "fp32", "anchored", "new", n) for n in (1, 3))
    assert (one.anchors, three.anchors) == (1, 3)
    assert three.spread < one.spread


def test_intervals_covered_what_they_promise_where_the_truth_was_left_out():
    path = catalog.data_file("calibration/latency/evidence.toml")
    table = EvidenceTable.from_toml(path.read_bytes(), path)
    finite = [each for each in table.evidence if each.spread < float("inf")]
    assert len(finite) > 12
    assert all(0.85 <= each.coverage <= 0.98 for each in finite)


def _forget():
    project.root.cache_clear()
    for cached in (ncnn.study, ncnn.model, tables.measured_devices, tables.core_kinds):
        cached.cache_clear()
