"""The page of results of several kinds, and reading them."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from edgese.errors import InputError, StoreError
from edgese.models.cost import cost
from edgese.models.registry import find_model
from edgese.records.artifact import WeightsInfo
from edgese.records.base import Interval
from edgese.records.budget import BudgetTable, GateCell, GateResult, Judged, Observation, Untrusted
from edgese.records.evaluation import Evaluation, EvaluationData, EvaluationResult, Proportion
from edgese.records.measurement import (
    Block,
    DeviceInfo,
    LatencySummary,
    Launch,
    MeasurePlan,
    Profile,
)
from edgese.records.model import Preprocessing
from edgese.records.profile import ProfileResult
from edgese.records.selection import Candidate
from edgese.report import results_page
from edgese.results import read_result
from edgese.seals import sealed
from edgese.selection.deciding import Aim, Known, decide
from edgese.selection.outcome import result_of
from edgese.selection.results import known_of
from edgese.statistics import wilson

HOST = DeviceInfo(
    name="host", cpu="A cpu", architecture="x86_64", cores=2, physical_cores=2, system="Linux"
)


def profile(label, ms, sha256, model="efficientnet_lite0"):
    launches = tuple(
        Launch(
            import_ms=1.0,
            load_ms=2.0,
            first_run_ms=ms * 2,
            memory_before_load_mb=40.0,
            peak_memory_mb=60.0 + number,
            peak_since_load=True,
            overhead_ns=10.0,
            blocks=tuple(
                Block(
                    start_ms=1000.0 * number + 100.0 * n,
                    samples_ns=(int(ms * 1e6), int(ms * 1.01e6)),
                )
                for n in range(2)
            ),
        )
        for number in range(4)
    )
    return Profile(
        label=label,
        sha256=sha256,
        size_bytes=5_000_000,
        target="tflite",
        delegate="xnnpack",
        recipe="fp32",
        model=model,
        resolution=(224, 224),
        batch=1,
        trained=True,
        source="measured",
        device=HOST,
        threads=1,
        load_ms=2.0,
        first_run_ms=ms * 2,
        latency=LatencySummary(
            count=16, mean_ms=ms, min_ms=ms, p50_ms=ms, p90_ms=ms, p99_ms=ms, max_ms=ms
        ),
        throughput_per_s=1000 / ms,
        memory_before_load_mb=40.0,
        peak_memory_mb=63.0,
        throttle_events=None,
        versions={"ai-edge-litert": "2.3.0"},
        cautions=(),
        macs=cost(find_model(model)).macs,
        launches=launches,
    )


def result(*profiles, device="host"):
    return sealed(
        ProfileResult(
            device=device,
            plan=MeasurePlan(threads=1, launches=4, blocks=8),
            edgese="0.1.0",
            created="2026-01-01T00:00:00+00:00",
            profiles=profiles,
        )
    )


def evaluation(sha256, right, of=1000):
    return Evaluation(
        subject="a.tflite",
        model="efficientnet_lite0",
        target="tflite",
        recipe="fp32",
        delegate="xnnpack",
        artifact_sha256=sha256,
        weights=WeightsInfo(source="w", sha256="", naming="edgese", trained=True),
        preprocessing=Preprocessing(),
        data=EvaluationData(
            source="pictures", split="", labelled_by="name", listed=of, sha256="d" * 64
        ),
        pictures=of,
        top1=Proportion(count=right, of=of, share=right / of, interval=wilson(right, of)),
        top5=None,
        predictions=(),
        unreadable=(),
        seconds=1.0,
        threads=1,
        versions={},
        edgese="0.1.0",
        created="2026-01-01T00:00:00+00:00",
    )


def selection(*, bound):
    def one(name, ms, share):
        figures = (
            Observation(
                quantity="latency_p50_ms", value=ms, low=ms * 0.9, high=ms * 1.1, source="measured"
            ),
            Observation(
                quantity="accuracy",
                value=share,
                low=share - 0.01,
                high=share + 0.01,
                source="published",
            ),
        )
        candidate = Candidate(model=name, resolution=(224, 224), recipe="int8", target="tflite")
        return Known(candidate, figures)

    aim = Aim(BudgetTable(latency_p50_ms=bound, accuracy=0.6).limits())
    known = [one("small", 4.0, 0.7), one("<b>large</b>", 9.0, 0.8)]
    return result_of(decide(known, aim), aim, device="host", budget="budget.toml")


class Checked(HTMLParser):
    """Collects elements, and refuses what is not closed in its turn."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        """Opens."""
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Opens and closes at once."""
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Closes."""
        assert self.open.pop() == tag


def checked(page):
    parser = Checked()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_the_page_is_whole_escaped_and_loads_nothing():
    page = results_page([selection(bound=10.0), result(profile("a.tflite", 5.0, "a" * 64))])
    parser = checked(page)
    assert "<b>large" not in page
    assert "&lt;b&gt;large" in page
    assert not re.search(r"https?://|url\(|@import", re.sub(r"<dd.*?</dd>|told.*?<", "", page))
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in parser.seen}


def test_what_is_chosen_is_said_and_the_budget_is_shaded():
    page = results_page([selection(bound=10.0)])
    assert re.search(r'class="answer"><b>&lt;b&gt;large', page)
    areas = [attrs["d"] for tag, attrs in checked(page).seen if attrs.get("class") == "budget"]
    assert len(areas) == 1
    assert page.count('class="interval chosen"') == 1
    assert page.count('class="interval chosen guess"') == 1  # its accuracy is published


def test_where_nothing_fits_the_page_tells_what_to_relax():
    page = results_page([selection(bound=2.0)])
    assert "No candidate meets the budget." in page
    assert "latency_p50_ms at 4.4 in place of 2" in page


def test_profiles_and_evaluations_alone_are_drawn_against_each_other():
    results = [
        result(profile("a.tflite", 5.0, "a" * 64)),
        result(profile("b.tflite", 9.0, "b" * 64)),
        EvaluationResult(evaluations=(evaluation("b" * 64, 800),), agreements=()),
    ]
    page = results_page(results)
    text = re.sub(r"<[^>]+>", " ", page)
    assert "Accuracy and latency on host" in text
    assert "80.00 %" in text
    # The other is known by the accuracy that is published of its network, and says so.
    assert re.search(r"75\.10 %\s+74\.72 to 75\.48, published", text)
    assert "state" not in re.findall(r"<th[^>]*>([^<]*)</th>", page)


def test_results_of_several_devices_are_told_apart():
    page = results_page(
        [
            result(profile("a.tflite", 5.0, "a" * 64)),
            result(profile("a.tflite", 7.0, "a" * 64), device="rpi5"),
        ]
    )
    assert "On rpi5" in page
    assert "Accuracy and latency on rpi5" in page


def test_candidates_of_results_are_joined_by_hash():
    records = [
        result(profile("a.tflite", 5.0, "a" * 64)),
        EvaluationResult(evaluations=(evaluation("a" * 64, 500),), agreements=()),
        EvaluationResult(evaluations=(evaluation("f" * 64, 900),), agreements=()),
    ]
    known, device = known_of(records)
    assert device == "host"
    (one,) = known
    told = {each.quantity: each for each in one.figures}
    assert told["accuracy"].value == 0.5
    assert told["latency_p50_ms"].source == "measured"
    assert told["memory_mb"].low < told["memory_mb"].value == 63.0 < told["memory_mb"].high


def test_of_two_measurements_of_one_artifact_the_worse_counts():
    known, _ = known_of([result(profile("a", 5.0, "a" * 64)), result(profile("a", 6.0, "a" * 64))])
    (latency,) = [one for one in known[0].figures if one.quantity == "latency_p50_ms"]
    assert latency.value == 6.0


def test_results_of_several_devices_need_a_name():
    records = [
        result(profile("a", 5.0, "a" * 64)),
        result(profile("a", 5.0, "a" * 64), device="rpi5"),
    ]
    with pytest.raises(InputError, match="several devices"):
        known_of(records)
    assert known_of(records, "rpi5")[1] == "rpi5"


def test_every_kind_of_result_is_known_by_its_keys(tmp_path):
    for number, record in enumerate(
        [
            result(profile("a.tflite", 5.0, "a" * 64)),
            EvaluationResult(evaluations=(evaluation("a" * 64, 500),), agreements=()),
            selection(bound=10.0),
        ]
    ):
        path = tmp_path / f"{number}.json"
        path.write_text(record.to_json())
        assert read_result(path) == record


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"schema": 1}', "\xff"])
def test_what_is_no_result_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        read_result(path)


def test_a_result_that_was_changed_or_cut_is_refused(tmp_path):
    path = tmp_path / "x.json"
    text = result(profile("a.tflite", 5.0, "a" * 64)).to_json()
    path.write_text(text[:-40])
    with pytest.raises(InputError):
        read_result(path)
    path.write_text(text.replace('"p50_ms": 5.0', '"p50_ms": 4.0'))
    with pytest.raises(StoreError, match="seal"):
        read_result(path)


BARE = """
import sys
from edgese.__main__ import run

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "numpy", "sklearn", "PIL", "onnxruntime"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refused())
sys.exit(run(sys.argv[1:]))
"""


def test_results_are_chosen_from_and_drawn_on_the_base_install(tmp_path):
    profiles, budget, page = (tmp_path / name for name in ("p.json", "b.toml", "page.html"))
    told = result(
        profile("a.tflite", 5.0, "a" * 64),
        profile("b.tflite", 9.0, "b" * 64, model="efficientnet_lite2"),
    )
    profiles.write_text(sealed(told).to_json())
    budget.write_text("[[budget]]\nlatency_p50_ms = 6.0\naccuracy = 0.7\n")
    chosen = subprocess.run(
        [
            *(sys.executable, "-c", BARE, "select", "--from-results", str(profiles)),
            *("--budget", str(budget), "--html", str(page)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert chosen.returncode == 0, chosen.stderr
    assert "Chosen: efficientnet_lite0, 224 px, fp32, tflite aaaaaaaa (a.tflite)" in chosen.stdout
    assert "within the budget" in page.read_text()
    budget.write_text("[[budget]]\nlatency_p50_ms = 1.0\n")
    none = subprocess.run(
        [
            *(sys.executable, "-c", BARE, "select", "--from-results", str(profiles)),
            *("--budget", str(budget)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert none.returncode == 1
    assert "None of them meets the budget." in none.stdout


def test_a_gate_is_told_with_what_decided(tmp_path):
    limit = BudgetTable(latency_p50_ms=4.0).limits()[0]
    cell = GateCell(
        name="a.tflite",
        device="host",
        target="tflite",
        origin="p.json",
        judged=Judged(
            limit=limit.name,
            quantity=limit.quantity,
            bound=limit.bound,
            at_most=True,
            verdict="misses",
            value=5.0,
            interval=Interval(low=4.9, high=5.1),
            source="measured",
            reason="6 launches",
        ),
    )
    told = GateResult(
        budget="b.toml",
        baseline="",
        cells=(cell,),
        untrusted=(Untrusted(origin="x.json", message="It is cut.", hint="", exit_code=8),),
        notes=(),
        error_rate=0.05,
        verdict="misses",
        exit_code=8,
        edgese="0.1.0",
        created="2026-01-01T00:00:00+00:00",
    )
    path = tmp_path / "gate.json"
    path.write_text(told.to_json())
    page = results_page([read_result(path)])
    checked(page)
    text = re.sub(r"<[^>]+>", " ", page)
    assert "4.9 to 5.1" in text
    assert "6 launches" in text
    assert "It is cut." in text


def test_an_artifact_is_no_result_and_its_manifest_is_named(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"TFL3")
    with pytest.raises(InputError, match="not a result") as caught:
        read_result(tmp_path / "a.tflite")
    assert "a.tflite.json" in caught.value.hint
