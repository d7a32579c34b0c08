"""The page: whole, closed to the network, escaped, and each figure labelled by its source."""

import re
from html import unescape
from html.parser import HTMLParser

import msgspec
import pytest

from edgese.measure.curves import cautions_of
from edgese.records.base import Interval
from edgese.records.emulation import Emulation, Estimate, InstructionCounts
from edgese.records.measurement import (
    BinaryRun,
    Block,
    Caution,
    DeviceInfo,
    LatencySummary,
    Launch,
    MeasurePlan,
    OperatorKindTime,
    OperatorTime,
    OperatorTimes,
    Profile,
    RankSwap,
    Ratio,
    SustainedCurve,
    SustainedResult,
)
from edgese.records.prediction import Evidence, Prediction
from edgese.records.profile import (
    ProfileFailure,
    ProfileResult,
    ProgramProfile,
    Sweep,
    SweepArtifact,
)
from edgese.report import profile_page
from edgese.report.figures import density
from edgese.report.markup import Markup, joined, tag
from edgese.report.scale import Scale

EVIL = "<script>alert(1)</script>\"'&.tflite"
INFO = DeviceInfo(
    name="host", cpu="Some <CPU>", architecture="x86_64", cores=8, physical_cores=4, system="Linux"
)
VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Checks that elements are closed in order, and keeps what they are."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """An element begins."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """An element that ends itself."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """An element ends: the one that began last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Text, without the style sheet."""
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        """All text of the page."""
        return " ".join(self.words)


def launch(blocks=4, latency_ms=5.0, start_ms=0.0, **sensors):
    return Launch(
        import_ms=1,
        load_ms=1,
        first_run_ms=1,
        memory_before_load_mb=50,
        peak_memory_mb=70,
        peak_since_load=True,
        overhead_ns=1,
        blocks=tuple(
            Block(
                start_ms=start_ms + 1000.0 * number,
                samples_ns=tuple(int((latency_ms + 0.1 * i + number) * 1e6) for i in range(5)),
                **sensors,
            )
            for number in range(blocks)
        ),
    )


def described(label, **fields):
    return {
        "label": label,
        "sha256": "ab" * 32,
        "target": "tflite",
        "delegate": "xnnpack",
        "recipe": "int8",
        "model": "efficientnet_b0",
        "resolution": (224, 224),
        "trained": False,
    } | fields


def profile(label, latency_ms=5.0, cautions=()):
    return Profile(
        **described(label),
        size_bytes=5 * 2**20,
        batch=1,
        source="measured",
        device=INFO,
        threads=1,
        load_ms=12.5,
        first_run_ms=9,
        latency=LatencySummary(
            count=40,
            mean_ms=latency_ms,
            min_ms=latency_ms,
            p50_ms=latency_ms + 1.7,
            p90_ms=latency_ms + 3,
            p99_ms=latency_ms + 3.4,
            max_ms=latency_ms + 3.5,
        ),
        throughput_per_s=140,
        memory_before_load_mb=50,
        peak_memory_mb=70,
        throttle_events=None,
        versions={"ai-edge-litert": "2.3.0"},
        cautions=cautions,
        launches=(launch(latency_ms=latency_ms), launch(latency_ms=latency_ms, start_ms=5000)),
        macs=386_000_000,
        parameters=5_290_000,
    )


def result(*labels, **fields):
    caution = Caution(code="DRIFT", numbers={}, message="It became slower.", advice="Wait.")
    return ProfileResult(
        **{
            "device": "host",
            "plan": MeasurePlan(threads=1),
            "profiles": tuple(
                profile(label, 5.0 + number, (caution,)) for number, label in enumerate(labels)
            ),
            "ratios": tuple(
                Ratio(
                    artifact=label,
                    baseline=labels[0],
                    ratio=1.2,
                    interval=Interval(low=low, high=1.3, confidence=0.95),
                    launches=6,
                    rounds=24,
                )
                for label, low in zip(labels[1:], (1.1, 0.9), strict=False)
            ),
            "failures": (),
            "edgese": "0.1.0",
            "created": "2026-01-01T00:00:00+00:00",
        }
        | fields
    )


def timed(label, unavailable=""):
    one = OperatorTime(
        name="conv1", operator="QLinearConv", dtype="uint8", output=(1, 8), mean_ms=3, share=0.6
    )
    kinds = [("QLinearConv", 0.6), ("Pad", 0.003), ("Reshape", 0.001)]
    return OperatorTimes(
        **described(label, target="onnxruntime"),
        device=INFO,
        threads=1,
        unavailable=unavailable,
        edgese="0.1.0",
        created="now",
        **{}
        if unavailable
        else {
            "runs": 30,
            "inference_ms": 5.0,
            "outside_ms": 1.0,
            "operators": (one,),
            "kinds": tuple(
                OperatorKindTime(operator=kind, count=1, mean_ms=5 * share, share=share)
                for kind, share in kinds
            ),
        },
    )


def sustained(*labels):
    curves = []
    for number, label in enumerate(labels):
        blocks = launch(8, 5.0 + number, frequency_mhz=2000.0, temperature_c=40.0)
        latency = profile(label).latency
        curves.append(
            SustainedCurve(
                **described(label),
                complete=True,
                launch=blocks,
                start_temperature_c=35,
                throttle_events=None,
                span_s=2.0,
                first=latency,
                last=latency,
                ratio=1.4,
                fell_off_s=3.0,
                versions={},
                cautions=cautions_of(
                    blocks.blocks,
                    complete=True,
                    seconds=8,
                    throttle_events=None,
                    start_c=None,
                    coolest_start_c=None,
                ),
            )
        )
    swaps = (
        (
            RankSwap(
                ahead=labels[0], behind=labels[1], first_ratio=1.1, last_ratio=0.9, crossed_s=4.0
            ),
        )
        if len(labels) > 1
        else ()
    )
    return SustainedResult(
        device=INFO,
        threads=1,
        seconds=8,
        window_s=1,
        rest_s=0,
        curves=tuple(curves),
        ranks_first=labels,
        ranks_last=labels,
        swaps=swaps,
        failures=(),
        complete=True,
        edgese="0.1.0",
        created="now",
    )


def emulation(label, device="arm64-a76"):
    counts = dict.fromkeys(InstructionCounts.__struct_fields__, 0) | {"total": 74_000_000}
    return Emulation(
        **described(label),
        size_bytes=1,
        batch=1,
        device=device,
        cpu="cortex-a76",
        features=("asimddp",),
        qemu="7.2.22",
        threads=1,
        instructions=InstructionCounts(**counts),
        totals=((74_000_000,),),
        spread=0.0,
        overhead=1,
        dispatch=("dot product",),
        kernels=(),
        versions={"ai-edge-litert": "2.3.0"},
        cautions=(),
    )


def prediction():
    return Prediction(
        model="efficientnet_b0",
        device="pixel8",
        target="tflite",
        delegate="cpu",
        precision="int8",
        threads=1,
        resolution=(224, 224),
        latency_ms=6.1,
        interval=Interval(low=4.2, high=9.0, confidence=0.9),
        rows=345,
        evidence=(
            Evidence(
                fit="xnnpack-cpu",
                precision="int8",
                device="facts",
                network="new",
                count=41,
                groups=6,
                within_10=0.4,
                within_20=0.7,
                coverage=0.92,
                spread=1.5,
            ),
        ),
        sources=("https://example.org/table",),
        cautions=("Nobody measured it.",),
    )


def estimate(label):
    return Estimate(
        **{k: v for k, v in described(label).items() if k != "delegate"},
        device="ethos_u85",
        accelerator="ethos-u85-256",
        system="Ethos_U85_SYS",
        memory_mode="Shared_Sram",
        clock_mhz=1000,
        cycles=1_300_000,
        compute_cycles=1_000_000,
        latency_ms=1.3,
        macs=1,
        sram_bytes=1,
        dram_bytes=1,
        flash_bytes=1,
        npu_operators=60,
        cpu_operators=2,
        fallbacks=(),
        operators=(),
        compiler="ethos-u-vela 5.1.0",
        edgese="0.1.0",
        created="now",
    )


def everything(label="out/a.tflite", other="out/b.tflite"):
    return profile_page(
        result(label, other),
        emulations=[emulation(label)],
        predictions=[prediction()],
        estimates=[estimate(label)],
        operators=[timed(label), timed(other, unavailable="The wheel has no tracer.")],
        sustained=sustained(label, other),
    )


def test_the_page_is_whole_and_every_element_is_closed():
    page = everything()
    assert page.startswith("<!doctype html>")
    assert len(Reader(page).elements) > 100


def test_nothing_is_loaded_from_anywhere():
    reader = Reader(everything())
    assert {"script", "link", "img", "iframe", "object", "a"}.isdisjoint(
        name for name, _ in reader.elements
    )
    assert not any(
        {"src", "href", "onload"} & attributes.keys() for _, attributes in reader.elements
    )
    assert "url(" not in everything()
    assert "@import" not in everything()
    policies = [a["content"] for _, a in reader.elements if "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_a_hostile_name_stays_text():
    reader = Reader(everything(EVIL, EVIL + "2"))
    assert "script" not in {name for name, _ in reader.elements}
    assert EVIL in reader.text
    assert "Some <CPU>" in reader.text


def test_every_section_with_figures_says_where_they_come_from():
    page = everything()
    found = {}
    for section in re.findall(r"<section>.*?</section>", page, re.DOTALL):
        title = unescape(re.search(r"<h2>(.*?)</h2>", section)[1])
        source = re.search(r'<span class="source (\w+)">(\w+)</span>', section)
        found[title] = source[1] if source else None
    assert found == {
        "Latency": "measured",
        "Time beside the baseline": "measured",
        "What to know": "measured",
        "Over the time of the job": "measured",
        "Memory": "measured",
        "Operators": "measured",
        "Without a pause": "measured",
        "Instructions": "emulated",
        "Expected latency": "predicted",
        "Compiler's estimate": "estimated",
        "Where this comes from": None,
    }


def test_figures_of_the_records_are_on_the_page():
    text = Reader(everything()).text
    for figure in ("6.70 ms", "1.200", "1.100 to 1.300", "386 M", "74.0 M", "6.1 ms", "1.30 ms"):
        assert figure in text
    for fact in ("ab" * 32, "ai-edge-litert 2.3.0", "QEMU 7.2.22", "https://example.org/table"):
        assert fact in text


def test_folders_that_all_artifacts_share_are_left_out_of_names_but_not_of_provenance():
    page = everything()
    assert '<div class="name" title="out/a.tflite">a.tflite</div>' in page
    assert "<h3>out/a.tflite</h3>" in page


def test_a_ratio_whose_interval_holds_one_says_so():
    page = profile_page(result("a", "b", "c"))
    assert page.count("<small>0.900 to 1.300: cannot be told apart</small>") == 1


def test_kinds_that_take_little_are_put_together():
    text = Reader(profile_page(None, operators=[timed("a")])).text
    assert "QLinearConv x 1" in text
    assert "Pad and Reshape x 2" in text


def test_a_runtime_without_times_of_operators_gives_its_reason():
    text = Reader(profile_page(None, operators=[timed("a", "The wheel has no tracer.")])).text
    assert "The wheel has no tracer." in text


def test_ranks_that_change_are_told():
    text = Reader(profile_page(None, sustained=sustained("out/a", "out/b"))).text
    assert "The order by p50 changes: b passes a after 4 s." in text
    assert "fell off" in text


@pytest.mark.parametrize(("temperature", "shown"), [(40.0, True), (None, False)])
def test_sensors_are_drawn_where_they_told_something(temperature, shown):
    whole = sustained("a")
    (curve,) = whole.curves
    blocks = tuple(
        msgspec.structs.replace(block, temperature_c=temperature) for block in curve.launch.blocks
    )
    curve = msgspec.structs.replace(
        curve, launch=msgspec.structs.replace(curve.launch, blocks=blocks)
    )
    page = profile_page(None, sustained=msgspec.structs.replace(whole, curves=(curve,)))
    assert ("°C over time" in page) == shown
    assert "MHz over time" in page


def test_a_sweep_that_is_not_complete_says_how_far_it_is():
    sweep = Sweep(
        device=INFO,
        artifacts=(SweepArtifact(label="a", sha256=""),),
        groups=((0, 1), (0, 2)),
        done=1,
        runner_sha256="",
    )
    text = Reader(profile_page(result("a", "b", complete=False, sweep=sweep))).text
    assert "1 of 2 groups are measured" in text


def test_what_failed_is_told():
    failure = ProfileFailure(label="broken.onnx", error="It did not load.", hint="", exit_code=5)
    text = Reader(profile_page(result("a", failures=(failure,)))).text
    assert "broken.onnx" in text
    assert "It did not load." in text


def test_without_a_measurement_the_page_says_so():
    text = Reader(profile_page(None, predictions=[prediction()])).text
    assert "Nothing was measured." in text
    assert "measured on host" not in text


def test_one_artifact_alone_has_no_ratios():
    page = profile_page(result("a"))
    assert "<h1>1 profile on host</h1>" in page
    assert "Time beside the baseline" not in page


def test_the_page_is_made_for_phones_print_and_dark():
    page = everything()
    assert 'name="viewport"' in page
    for rule in (
        "@media (max-width: 40rem)",
        "@media print",
        "@media (prefers-color-scheme: dark)",
    ):
        assert rule in page


def test_density_has_its_peak_where_most_samples_are():
    heights = density([5.0] * 50 + [9.0], Scale(0.0, 10.0))
    assert max(heights) == 1
    assert heights.index(1) == pytest.approx(len(heights) / 2, abs=1)


def test_text_is_escaped_and_markup_is_not():
    assert joined("<b>", tag("i", "&")) == "&lt;b&gt;<i>&amp;</i>"
    assert tag("p", Markup("<b></b>"), None, title='"') == '<p title="&quot;"><b></b></p>'
    assert tag("path", d="M0,0", vector_effect="x") == '<path d="M0,0" vector-effect="x"/>'


def test_figures_without_samples_are_drawn_without_a_shape():
    bare = msgspec.structs.replace(profile("a"), launches=())
    page = profile_page(result("a", profiles=(bare,)))
    assert "6.70 ms" in page
    assert 'class="shape"' not in page
    assert "Over the time of the job" not in page


def test_what_a_result_holds_of_other_sources_is_shown_with_the_reason():
    absent = result(
        profiles=(),
        plan=None,
        device="pixel8",
        absence="pixel8 is not attached.",
        emulations=(emulation("a"),),
        predictions=(prediction(),),
        notes=("Not predicted: b: no table reaches it.",),
    )
    page = profile_page(absent)
    text = Reader(page).text
    assert "<h1>What is known of pixel8</h1>" in page
    assert "Not measured on the device: pixel8 is not attached." in text
    assert "Not predicted: b: no table reaches it." in text
    assert "74.0 M" in text
    assert "70% of 41 within 20 %, interval held 92%" in text
    assert 'class="source measured"' not in page


def test_a_runtimes_own_program_is_told_apart():
    program = ProgramProfile(
        **{k: v for k, v in described("out/a.tflite").items() if k != "delegate"},
        device="pixel8",
        threads=1,
        program="benchmark_model",
        program_sha256="cd" * 32,
        run=BinaryRun(tool="benchmark_model", delegate="gpu", count=50, mean_ms=4.25),
    )
    text = Reader(profile_page(result(profiles=(), plan=None, programs=(program,)))).text
    assert "benchmark_model gpu" in text
    assert "4.25 ms" in text
    assert "cd" * 32 in text
    assert "Nothing was measured." not in text


def test_ratios_of_a_sweep_name_the_baseline_of_their_group():
    whole = result("a", "b", "c")
    grouped = (
        whole.ratios[0],
        msgspec.structs.replace(whole.ratios[1], baseline="a (group 2)"),
    )
    text = Reader(profile_page(msgspec.structs.replace(whole, ratios=grouped))).text
    assert "b beside a" in text
    assert "c beside a (group 2)" in text
    assert "beside a" not in Reader(profile_page(whole)).text
