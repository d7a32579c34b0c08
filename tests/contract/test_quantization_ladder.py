"""`--recipe auto`: which rungs are tried, which one is taken, and what is refused."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from edgese import find_model  # noqa: E402
from edgese.__main__ import run  # noqa: E402
from edgese.data.preprocessing import preprocess  # noqa: E402
from edgese.errors import ConfigError  # noqa: E402
from edgese.models.builder import build  # noqa: E402
from edgese.models.untrained import plausible  # noqa: E402
from edgese.records.quantization import LayerCost  # noqa: E402
from edgese.selection import ladder  # noqa: E402
from edgese.selection.ladder import climb, costliest  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shop(tmp_path_factory, tiny_spec):
    """A folder with a spec, weights, pictures to calibrate on, and others with labels.

    The labels are what the float network says, so that it is right on all.
    """
    from safetensors.torch import save_file

    place = tmp_path_factory.mktemp("ladder")
    (place / "tiny.toml").write_text(tiny_spec)
    spec = find_model(str(place / "tiny.toml"))
    net = plausible(build(spec), seed=0).eval()
    save_file(net.state_dict(), place / "tiny.safetensors")
    rows = []
    for index in range(32):
        name = f"{index}.png"
        small = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
        picture = Image.fromarray(small).resize((36, 36))
        picture.save(place / name)
        with torch.no_grad():
            read = preprocess(picture, spec.preprocessing)
            label = int(net(torch.from_numpy(read)[None]).argmax())
        rows.append((name, label, "calibration" if index < 12 else "test"))
    with (place / "all.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label", "split"), *rows])
    return place


@pytest.fixture
def place(shop, tmp_path, monkeypatch):
    monkeypatch.chdir(shop)
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def command(place, *more):
    """A command that climbs."""
    return [
        *("quantize", "tiny.toml", "--weights", "tiny.safetensors", "--recipe", "auto"),
        *("--data", "all.csv", "--split", "calibration", "--out", str(place / "out")),
        *more,
    ]


def test_the_first_rung_that_holds_is_the_last_one_tried(place, capsys):
    asked = command(place, "--judge-split", "test", "--target", "onnxruntime", "--json")
    assert run([*asked, "--max-drop", "100"]) == 0
    found = json.loads(capsys.readouterr().out)
    (rung,) = found["rungs"]
    assert rung["recipe"]["name"] == "int8-minmax"
    assert rung["verdict"] == "holds"
    assert found["chosen"] == rung["program"]
    assert found["reference"]["count"] == found["reference"]["of"] == 20
    assert rung["agreement"]["pictures"] == 20
    assert rung["latency_ms"] > 0


def test_the_table_is_printed_with_what_was_chosen(place, capsys):
    asked = command(place, "--judge-split", "test", "--target", "onnxruntime")
    assert run([*asked, "--max-drop", "100"]) == 0
    shown = capsys.readouterr().out
    assert "int8-minmax" in shown
    assert "tiny-int8-minmax.program holds." in shown


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "No pictures were named to judge by"),
        (("--judge", "all.csv", "--judge-split", "calibration"), "to calibrate and to judge"),
        (("--judge-split", "test", "--max-drop", "-1"), "A drop of -1 points"),
        (("--judge-split", "test", "--target", "all"), "'all'"),
        (("--judge-split", "test", "--weights", "none"), "Random weights"),
        (("--judge-split", "test", "--train", "nowhere"), "nowhere does not exist"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_any_work(place, more, said, capsys):
    assert run(command(place, *more)) != 0
    assert said in capsys.readouterr().err
    assert list((place / "out").glob("*")) == []


class Stairs:
    """A climb whose rungs do as a test says, without any network."""

    def __init__(self, monkeypatch, drops, latencies):
        self.asked = []
        self.drops = drops
        self.latencies = latencies
        for name in ("quantize", "convert", "evaluate", "agreement", "profile"):
            monkeypatch.setattr(ladder, name, getattr(self, name))

    def quantize(self, _model, _data, *, recipe, analyze, **_):
        """Notes what was asked."""
        layers = ()
        if analyze:
            layers = tuple(cost(layer, db) for layer, db in [("a", 30), ("b", 10), ("c", 50)])
        else:
            self.asked.append(recipe)
        return SimpleNamespace(program=recipe.name, layers=layers, collapse="")

    def convert(self, program, _target, *, recipe="", **_):
        """An artifact with the program's name."""
        return (SimpleNamespace(artifact=recipe or program, error="", hint=""),)

    def evaluate(self, artifact, *_, **__):
        """Half of the pictures."""
        return SimpleNamespace(top1=artifact)

    def agreement(self, _reference, found, _logits):
        """As the test says of this rung."""
        lost = round(100 * self.drops[found.top1])
        return SimpleNamespace(
            only_first_right=lost, only_second_right=0, left_out=0, pictures=10_000
        )

    def profile(self, artifacts, **_):
        """As the test says of this rung."""
        times = [self.latencies.get(str(artifact), 1.0) for artifact in artifacts]
        latencies = [SimpleNamespace(p50_ms=time) for time in times]
        return SimpleNamespace(profiles=[SimpleNamespace(latency=of) for of in latencies])


def cost(layer, sqnr_db):
    """A layer that costs so much."""
    return LayerCost(
        layer=layer,
        operator="conv2d",
        part="activations",
        sqnr_db=sqnr_db,
        kl=0.0,
        cause="rounding",
        detail="",
    )


@pytest.mark.parametrize(
    ("drops", "latencies", "verdicts"),
    [
        ((0.4, 0, 0, 0), {}, ["holds"]),
        ((0.6, 0.5, 0, 0), {}, ["drops", "holds"]),
        ((3, 2, 0.1, 0), {"int8-mixed": 1.1}, ["drops", "drops", "holds"]),
        ((3, 2, 0.1, 0), {"int8-mixed": 1.2}, ["drops", "drops", "too slow", "holds"]),
        ((3, 2, 1, 0.6), {}, ["drops"] * 4),
        ((-1, 0, 0, 0), {}, ["holds"]),
    ],
)
def test_rungs_are_climbed_until_one_holds(drops, latencies, verdicts, monkeypatch):
    names = ("int8-minmax", "int8", "int8-mixed", "int8-qat")
    stairs = Stairs(monkeypatch, dict(zip(names, drops, strict=True)), latencies)
    monkeypatch.setattr(ladder, "Rung", SimpleNamespace)
    monkeypatch.setattr(ladder, "Ladder", SimpleNamespace)
    monkeypatch.setattr(ladder, "learnt_from", lambda *_: None)
    found = climb("net", "pictures", judged_on="others", max_drop=0.5)
    assert [rung.verdict for rung in found.rungs] == verdicts
    assert tuple(recipe.name for recipe in stairs.asked) == names[: len(verdicts)]
    assert found.chosen == (names[len(verdicts) - 1] if verdicts[-1] == "holds" else "")
    for rung in found.rungs:
        kept = ("b", "a", "c") if rung.recipe.name == "int8-mixed" else ()
        assert rung.kept_float == rung.recipe.quantization.keep_float == kept


def test_what_stands_in_for_a_runtime_judges_and_is_not_timed(monkeypatch):
    Stairs(monkeypatch, {"int8-minmax": 0.1}, {})
    monkeypatch.setattr(ladder, "profile", None)
    monkeypatch.setattr(ladder, "Rung", SimpleNamespace)
    monkeypatch.setattr(ladder, "Ladder", SimpleNamespace)
    monkeypatch.setattr(ladder, "learnt_from", lambda *_: None)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    found = climb("net", "pictures", judged_on="others", target="coreml")
    assert found.judged_by.startswith("edgese's evaluator")
    assert [(rung.verdict, rung.latency_ms) for rung in found.rungs] == [("holds", None)]


def test_the_parts_of_a_module_count_together():
    rows = [cost("a", 20), cost("b", 21), cost("b", 21), cost("c", 40)]
    assert costliest(rows, 2) == ("b", "a")


def test_pictures_that_calibrate_do_not_judge():
    with pytest.raises(ConfigError, match="to calibrate and to judge"):
        climb("net", "pictures", judged_on="pictures")
