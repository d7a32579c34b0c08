from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edgese.catalog import recipe, target_facts
from edgese.data import preprocessing
from edgese.data.embedded import sample_pictures
from edgese.errors import ConfigError, InputError, StoreError
from edgese.evaluation.api import classify, evaluate
from edgese.evaluation.comparison import agreement
from edgese.evaluation.subjects import Subject, find_subject
from edgese.models.builder import build
from edgese.models.registry import find_model
from edgese.models.untrained import plausible
from edgese.models.weights import save_weights
from edgese.protocols import Predictor
from edgese.records.artifact import (
    Interface,
    Manifest,
    ModelCard,
    OperatorReport,
    Parity,
    TargetOptions,
    TensorInfo,
    WeightsInfo,
)
from edgese.records.evaluation import Evaluation
from edgese.records.model import Preprocessing
from edgese.seals import sealed
from edgese.store import manifest_path, sha256_of, write_record
from edgese.targets import TARGETS, apart

COLOURS = ("red", "lime", "blue", "white", "black", "gray")
PREPROCESSING = Preprocessing(height=4, width=4, crop=1.0, mean=(0, 0, 0), std=(1, 1, 1))
INTERFACE = Interface(
    input=TensorInfo(name="image", shape=(1, 4, 4, 3), layout="NHWC", dtype="float32"),
    output=TensorInfo(name="logits", shape=(1, 6), layout="NC", dtype="float32"),
)


def nearest_colour(pictures: np.ndarray) -> np.ndarray:
    """A classifier that is right by construction: minus the distance of the mean to each colour."""
    palette = np.array([Image.new("RGB", (1, 1), c).getpixel((0, 0)) for c in COLOURS]) / 255
    means = pictures.mean(axis=(2, 3))
    return np.float32(-((means[:, None] - palette[None]) ** 2).sum(axis=2))


def colours(
    load: Callable[[int], Predictor] = lambda _: nearest_colour,
    *,
    trained: bool = True,
    classes: int = len(COLOURS),
    labels: tuple[str, ...] = COLOURS,
) -> Subject:
    return Subject(
        name="colours",
        target="pytorch",
        card=ModelCard(name="colours", classes=classes, preprocessing=PREPROCESSING, labels=labels),
        weights=WeightsInfo(source="w", sha256="", naming="edgese", trained=trained),
        packages=(),
        load=load,
    )


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Four pictures of each colour in class folders; one of each is of another colour."""
    for i, colour in enumerate(COLOURS):
        (tmp_path / colour).mkdir()
        for n in range(4):
            shown = COLOURS[(i + 1) % len(COLOURS)] if n == 3 else colour
            Image.new("RGB", (9, 7), shown).save(tmp_path / colour / f"{n}.png")
    return tmp_path


def break_one(patches: Path) -> Path:
    broken = patches / "blue" / "0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    return broken


def test_accuracy_is_counted_and_every_prediction_is_kept(patches):
    found = evaluate(colours(), patches, batch=5, threads=2)
    assert (found.pictures, found.top1.count, found.top1.share) == (24, 18, 0.75)
    assert found.top1.interval.low < 0.75 < found.top1.interval.high
    assert found.top5 is not None
    assert found.top5.count >= 18
    assert (found.data.labelled_by, found.data.listed, found.threads) == ("name", 24, 2)
    wrong = [p.file for p in found.predictions if p.classes[0] != p.label]
    assert wrong == [f"{colour}/3.png" for colour in sorted(COLOURS)]
    first = found.predictions[0]
    assert (first.file, first.label, first.classes[0]) == ("black/0.png", 4, 4)
    assert len(first.classes) == len(first.probabilities) == 5
    assert list(first.probabilities) == sorted(first.probabilities, reverse=True)
    assert Evaluation.from_json(found.to_json(), "x.json") == found


def test_the_result_does_not_depend_on_batch_or_threads(patches):
    runs = [evaluate(colours(), patches, batch=b, threads=t) for b, t in ((1, 1), (7, 2), (99, 3))]
    assert runs[0].predictions == runs[1].predictions == runs[2].predictions


def test_a_corrupt_picture_is_named_and_the_rest_is_evaluated(patches):
    broken = break_one(patches)
    found = evaluate(colours(), patches, batch=5)
    assert [u.file for u in found.unreadable] == ["blue/0.png"]
    assert str(broken) in found.unreadable[0].reason
    assert (found.pictures, found.data.listed, found.top1.count) == (23, 24, 17)


def test_strict_makes_a_corrupt_picture_an_error(patches):
    broken = break_one(patches)
    with pytest.raises(InputError) as caught:
        evaluate(colours(), patches, strict=True)
    assert str(broken) in caught.value.message


def test_a_picture_too_elongated_to_be_resized_is_unreadable(patches, monkeypatch):
    monkeypatch.setattr(preprocessing, "MAX_RESIZED_PIXELS", 100)
    strip = patches / "red" / "0.png"
    Image.new("RGB", (2, 90), "red").save(strip)
    found = evaluate(colours(), patches)
    assert [u.file for u in found.unreadable] == ["red/0.png"]
    assert found.unreadable[0].reason.startswith(f"{strip}: A picture of 2 x 90 px")


def test_a_set_of_which_nothing_can_be_read_is_an_input_error(tmp_path):
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "a.jpg").write_bytes(b"no")
    with pytest.raises(InputError, match="None of the 1 pictures"):
        evaluate(colours(), tmp_path)


def test_an_empty_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="There is no picture"):
        evaluate(colours(), tmp_path)


def test_a_limit_takes_from_all_classes(patches):
    found = evaluate(colours(), patches, limit=6)
    assert sorted(p.label for p in found.predictions) == list(range(6))


def test_progress_grows_to_the_whole(patches):
    break_one(patches)
    told: list[float] = []
    evaluate(colours(), patches, batch=5, progress=lambda _, fraction: told.append(fraction))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_untrained_weights_have_no_accuracy():
    with pytest.raises(ConfigError, match="UNTRAINED"):
        colours(trained=False)


def test_pooled_features_have_no_accuracy():
    with pytest.raises(ConfigError, match="no classifier"):
        colours(classes=0)


@pytest.mark.parametrize(
    ("predictor", "said"),
    [
        (lambda x: np.zeros((len(x), 3), np.float32), r"shape \(8, 3\)"),
        (lambda x: np.full((len(x), 6), np.nan, np.float32), "for black/0.png"),
    ],
)
def test_an_output_that_cannot_be_right_is_an_input_error(patches, predictor, said):
    with pytest.raises(InputError, match=said):
        evaluate(colours(lambda _: predictor), patches)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch": 0}, r"^batch is 0\.\n"),
        ({"batch": -1, "threads": 0}, r"^batch is -1 and threads is 0\."),
        ({"limit": 0}, "limit of 0"),
    ],
)
def test_settings_below_1_are_refused(patches, options, said):
    with pytest.raises(ConfigError, match=said):
        evaluate(colours(), patches, **options)


def test_two_runtimes_are_compared_picture_by_picture(patches):
    def never_red(pictures: np.ndarray) -> np.ndarray:
        return nearest_colour(pictures) - np.float32([9, 0, 0, 0, 0, 0])

    found = agreement(evaluate(colours(), patches), evaluate(colours(lambda _: never_red), patches))
    # Red shows in three pictures of its own folder, and in the one of gray's, to which it is near.
    assert found.same_top1 == 20
    assert [file.split("/")[0] for file in found.differing] == ["gray", "red", "red", "red"]
    assert (found.only_first_right, found.only_second_right) == (3, 1)


def test_pictures_are_classified_with_names():
    subject = colours()
    pictures = [Image.new("RGB", (8, 8), "lime"), Image.new("RGB", (8, 8), "gray")]
    found = classify(subject.load(1), subject.card, pictures, 2)
    assert [scores[0].name for scores in found] == ["lime", "gray"]
    assert all(len(scores) == 2 for scores in found)
    assert all(0 < s.probability < 1 for scores in found for s in scores)


def test_classes_without_names_are_classified_by_index():
    subject = colours(labels=())
    (found,) = classify(subject.load(1), subject.card, [Image.new("RGB", (8, 8), "blue")], 1)
    assert (found[0].index, found[0].name) == (2, "")


def test_a_model_with_weights_is_evaluated_in_pytorch(tmp_path):
    spec = find_model("se_resnet20_small")
    network = build(spec)
    plausible(network, 0)
    save_weights(network, tmp_path / "w.safetensors")
    rows = ["file,label"]
    for i, (_, picture) in enumerate(sample_pictures()):
        picture.resize((60, 40)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{i}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    found = evaluate(
        spec.name, tmp_path / "labels.csv", weights=str(tmp_path / "w.safetensors"), threads=1
    )
    assert (found.target, found.model, found.pictures) == ("pytorch", spec.name, 2)
    assert (found.artifact_sha256, found.weights.trained) == ("", True)
    assert found.preprocessing == spec.preprocessing
    assert {"python", "numpy", "pillow", "torch"} <= found.versions.keys()


def test_a_model_with_random_weights_is_refused():
    with pytest.raises(ConfigError, match="UNTRAINED"):
        find_subject("se_resnet20_small", "none")


def test_a_model_without_weights_is_refused():
    with pytest.raises(ConfigError, match="No weights were named"):
        find_subject("se_resnet20_small")


def test_a_missing_artifact_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="There is no artifact"):
        find_subject(tmp_path / "x.tflite")


def test_a_missing_manifest_is_an_input_error(tmp_path):
    (tmp_path / "x.tflite").touch()
    with pytest.raises(InputError, match=r"x\.tflite has no manifest"):
        find_subject(tmp_path / "x.tflite")


def artifact(folder: Path, target: str = "tflite", *, trained: bool = True) -> Path:
    """A file with a manifest that describes it; nobody executes it."""
    path = folder / f"x{target_facts(target).suffix}"
    path.write_bytes(b"content")
    subject = colours()
    manifest = Manifest(
        artifact=path.name,
        sha256=sha256_of(path),
        size_bytes=7,
        target=target,
        delegate="xnnpack",
        recipe=recipe("fp16"),
        model=subject.card,
        spec=None,
        weights=WeightsInfo(source="w", sha256="", naming="edgese", trained=trained),
        options=TargetOptions(),
        interface=INTERFACE,
        operators=OperatorReport(operators={}, delegate="xnnpack", partitions=1),
        parity=Parity(verdict="passed"),
        program_sha256="",
        toolchain={},
        edgese="0",
        created="",
    )
    write_record(sealed(manifest), manifest_path(path))
    return path


def runtime(
    reason: str = "", load: Callable[..., Predictor] | None = None, by: str = ""
) -> SimpleNamespace:
    return SimpleNamespace(unavailable=lambda: reason, stand_in=lambda: by, load=load)


def test_an_artifact_is_loaded_and_described_as_its_manifest_says(patches, monkeypatch):
    asked = []

    def load(name: str, path: Path, interface: Interface, *, threads: int) -> Predictor:
        asked.append((name, path, interface, threads))
        return nearest_colour

    monkeypatch.setattr(apart, "load_apart", load)
    monkeypatch.setitem(TARGETS, "tflite", runtime())
    path = artifact(patches)
    data = patches / "labels.csv"
    data.write_text("file,label\nred/0.png,red\nblue/0.png,blue\n")
    found = evaluate(path, data, threads=3)
    assert asked == [("tflite", path, INTERFACE, 3)]
    assert found.top1.share == 1.0
    assert (found.target, found.recipe, found.delegate) == ("tflite", "fp16", "xnnpack")
    assert (found.subject, found.artifact_sha256) == (str(path), sha256_of(path))


def test_what_stands_in_for_a_runtime_is_told(patches, monkeypatch):
    monkeypatch.setattr(apart, "load_apart", lambda *_, **__: nearest_colour)
    monkeypatch.setitem(TARGETS, "tflite", runtime(by="another"))
    data = patches / "labels.csv"
    data.write_text("file,label\nred/0.png,red\n")
    found = evaluate(artifact(patches), data)
    assert found.by == "another"
    assert "torch" in found.versions


def test_an_artifact_that_changed_since_is_a_store_error(tmp_path):
    path = artifact(tmp_path)
    path.write_bytes(b"other")
    with pytest.raises(StoreError, match="not what its manifest describes"):
        find_subject(path)


def test_an_untrained_artifact_has_no_accuracy(tmp_path, monkeypatch):
    monkeypatch.setitem(TARGETS, "tflite", runtime())
    with pytest.raises(ConfigError, match="UNTRAINED"):
        find_subject(artifact(tmp_path, trained=False))


def test_an_artifact_that_this_host_cannot_execute_is_refused_with_the_reason(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(TARGETS, "coreml", runtime("Core ML needs macOS."))
    with pytest.raises(ConfigError, match=r"cannot be executed .*: Core ML needs macOS\."):
        find_subject(artifact(tmp_path, "coreml"))


def test_weights_beside_an_artifact_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="has its own inside"):
        find_subject(artifact(tmp_path), "imagenet")
