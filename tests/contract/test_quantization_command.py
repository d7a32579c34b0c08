"""`edgese quantize`, and integer recipes of `edgese convert`."""

import json
import os
import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from edgese import project, store
from edgese.__main__ import run
from edgese.errors import ConfigError, InputError, OutputError, StoreError

torch = pytest.importorskip("torch")
pytest.importorskip("ai_edge_litert")

from edgese import catalog, convert, evaluate, quantize  # noqa: E402
from edgese.program.storage import read_program  # noqa: E402
from edgese.quantization.qat import LearntGrids  # noqa: E402
from edgese.records.artifact import Manifest, ProgramManifest, TargetOptions  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def picture(path, seed, *, plain=False):
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (1, 1, 3) if plain else (8, 8, 3), np.uint8)
    Image.fromarray(small).resize((40, 40)).save(path)


@pytest.fixture
def place(tmp_path, tiny_spec, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "tiny.toml").write_text(tiny_spec)
    (tmp_path / "pictures").mkdir()
    for index in range(12):
        picture(tmp_path / "pictures" / f"{index}.png", index)
    return tmp_path


@pytest.fixture
def program(place):
    return quantize("tiny.toml", place / "pictures", weights="none", out=place / "out").program


def test_a_program_is_stored_with_what_made_it(place):
    made = quantize("tiny.toml", place / "pictures", weights="none", out=place / "out")
    manifest = ProgramManifest.from_json((place / made.manifest).read_bytes(), made.manifest)
    assert made.program.endswith("tiny-untrained-int8.program")
    assert manifest.sha256 == store.sha256_of(place / made.program)
    listed = {
        picture.file: picture.sha256 for picture in manifest.quantization.calibration.pictures
    }
    assert listed == {path.name: store.sha256_of(path) for path in (place / "pictures").iterdir()}
    assert manifest.quantization.fidelity.sqnr_db > 15
    assert not manifest.weights.trained


def test_one_program_gives_the_same_numbers_in_every_runtime(place, program):
    rows = convert(program, ["tflite", "onnxruntime", "executorch"], out=place / "out")
    assert [row.error for row in rows] == ["", "", ""]
    for row in rows:
        assert row.parity.max_abs_diff == 0
        assert row.outside_operators == 0
        manifest = Manifest.from_json((place / row.manifest).read_bytes(), row.manifest)
        assert manifest.quantization.fidelity.pictures == 12
        assert manifest.interface.output.grid.scale > 0


def test_a_recipe_and_pictures_make_the_same_artifact_as_a_stored_program(
    place, program, monkeypatch
):
    # Another number of threads adds floats in another order, and moves a scale by a last digit.
    monkeypatch.setattr("edgese.machine.cores", lambda: 1)
    (stored,) = convert(program, "tflite", out=place / "a")
    (direct,) = convert(
        "tiny.toml",
        "tflite",
        weights="none",
        recipe="int8",
        data=place / "pictures",
        out=place / "b",
    )
    assert store.sha256_of(place / stored.artifact) == store.sha256_of(place / direct.artifact)
    again = convert(program, "tflite", out=place / "c")
    assert again[0].status == "cached"


def test_other_calibration_pictures_are_not_answered_from_the_cache(place):
    def made():
        (row,) = convert(
            "tiny.toml",
            "onnxruntime",
            weights="none",
            recipe="int8",
            data=place / "pictures",
            out=place / "out",
        )
        return row.status

    assert (made(), made()) == ("converted", "cached")
    picture(place / "pictures" / "0.png", 99)
    assert made() == "converted"


def test_codes_go_in_and_come_out(place, program):
    (row,) = convert(program, "tflite", out=place / "out", options=TargetOptions(io="int8"))
    assert row.parity.max_abs_diff == 0
    manifest = Manifest.from_json((place / row.manifest).read_bytes(), row.manifest)
    assert manifest.interface.input.dtype == manifest.interface.output.dtype == "int8"
    assert row.artifact.endswith("-int8-int8io.tflite")


def test_weights_alone_are_stored_in_a_byte_each(place):
    rows = convert(
        "tiny.toml",
        ["tflite", "onnxruntime"],
        weights="none",
        recipe="int8-weights",
        data="embedded",
        out=place / "out",
    )
    assert [row.error for row in rows] == ["", ""]
    assert all(row.parity.sqnr_db > 60 for row in rows)


def test_a_program_that_changed_is_refused(place, program):
    with (place / program).open("ab") as file:
        file.write(b"x")
    with pytest.raises(StoreError, match="not what its manifest describes"):
        convert(program, "tflite")


def test_a_program_as_torch_stores_them_is_refused_with_the_command(place, program):
    old = place / "tiny.pt2"
    old.write_bytes(b"PK")
    store.manifest_path(old).write_text(store.manifest_path(place / program).read_text())
    with pytest.raises(InputError, match=r"tiny\.pt2 is a program of torch\.export") as error:
        convert(old, "tflite")
    assert "edgese quantize tiny --recipe int8 --weights none" in error.value.hint
    store.manifest_path(old).unlink()
    with pytest.raises(InputError, match=r"of torch\.export") as error:
        convert(old, "tflite")
    assert "edgese quantize MODEL --data PICTURES" in error.value.hint


def test_a_program_of_another_network_is_refused(place, program):
    manifest = store.manifest_path(place / program)
    said = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**said, "batch": 2}))
    with pytest.raises(InputError, match=r"takes \(1, 3, .*says \(2, 3, "):
        convert(program, "tflite", use_cache=False)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"weights": "none"}, "Weights was named beside"),
        ({"recipe": "fp32"}, "quantized with the recipe 'int8'"),
        ({"data": "pictures"}, "Data was named beside"),
        ({"options": TargetOptions(batch=4)}, "1 pictures at once, not 4"),
    ],
)
@pytest.mark.usefixtures("place")
def test_what_a_stored_program_has_decided_is_not_asked_again(asked, said, program):
    with pytest.raises(ConfigError, match=said):
        convert(program, "tflite", **asked)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_pictures_are_told(count, place):
    few = place / "few"
    few.mkdir()
    for index in range(count):
        picture(few / f"{index}.png", index)
    with pytest.raises(InputError, match="no picture" if count == 0 else f"holds {count}"):
        quantize("tiny.toml", few, weights="none")


def test_pictures_of_one_colour_are_told(place):
    plain = place / "plain"
    plain.mkdir()
    for index in range(9):
        picture(plain / f"{index}.png", index, plain=True)
    with pytest.raises(InputError, match="one colour"):
        quantize("tiny.toml", plain, weights="none")


def test_a_truncated_picture_is_named(place):
    whole = (place / "pictures" / "3.png").read_bytes()
    (place / "pictures" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"3\.png"):
        quantize("tiny.toml", place / "pictures", weights="none")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("quantize", "tiny.toml", "--weights", "none"), 2, "No calibration pictures"),
        (("quantize", "tiny.toml", "--weights", "none", "--data", "nowhere"), 8, "nowhere"),
        (
            (
                "quantize",
                "tiny.toml",
                "--weights",
                "none",
                "--data",
                "pictures",
                "--recipe",
                "fp16",
            ),
            2,
            "quantizes nothing",
        ),
        (
            (
                "quantize",
                "tiny.toml",
                "--weights",
                "none",
                "--data",
                "embedded",
                "--recipe",
                "int8-qat",
            ),
            2,
            "nothing can be learnt",
        ),
        (
            ("convert", "tiny.toml", "--weights", "none", "-t", "tflite", "--recipe", "int8"),
            2,
            "needs calibration pictures",
        ),
        (
            ("convert", "tiny.toml", "--weights", "none", "-t", "tflite", "--data", "pictures"),
            2,
            "Only integer recipes",
        ),
        (("convert", "gone.program", "-t", "tflite"), 8, "no program gone.program"),
        (
            ("quantize", "tiny.toml", "--data", "pictures", "--qat", "--recipe", "int8-mse"),
            2,
            "--qat stands for",
        ),
        (("quantize", "tiny.toml", "--data", "pictures", "--judge", "x"), 2, "is not judged"),
        (
            (
                *("quantize", "tiny.toml", "--weights", "none", "--data", "pictures"),
                *("--qat", "--train-split", "train"),
            ),
            2,
            "The split 'train' of no pictures",
        ),
        *(
            (
                ("quantize", "tiny.toml", "--weights", "none", "--data", "pictures", *more),
                2,
                "trains nothing",
            )
            for more in (("--train", "pictures"), ("--epochs", "3"), ("--resume",))
        ),
        (
            ("convert", "tiny.toml", "--weights", "none", "-t", "tflite", "--io", "int4"),
            2,
            "'int4' does not exist",
        ),
    ],
)
@pytest.mark.usefixtures("place")
def test_the_command_says_what_is_wrong(arguments, code, said, capsys):
    assert run(list(arguments)) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


def test_a_full_disk_leaves_nothing(place, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgese.quantization.api.write_program", full)
    with pytest.raises(OutputError, match="disk is full"):
        quantize("tiny.toml", place / "pictures", weights="none", out=place / "out")
    assert list((place / "out").iterdir()) == []


@pytest.fixture
def own_project(place):
    """A folder with an edgese.toml, and so with recipes of its own; a process asks for it once."""
    (place / "edgese.toml").write_text("")
    project.root.cache_clear()
    project.file.cache_clear()
    yield place
    project.root.cache_clear()
    project.file.cache_clear()


def test_a_training_that_follows_the_float_network_brings_the_program_closer(own_project, capsys):
    # Grids that clip one value in twenty leave something to learn, and these rates learn it fast.
    place = own_project
    for folder in ("recipes", "training"):
        (place / "calibration" / folder).mkdir(parents=True)
    clipped = """
        precision = "int8"
        summary = "Clips."
        [parity]
        min_cosine = 0.9
        min_sqnr_db = 5.0
        [quantization]
        ranges = "percentile"
        percentile = 95.0
        bias_correction = false
        """
    recipes = place / "calibration" / "recipes"
    (recipes / "int8-clipped.toml").write_text('name = "int8-clipped"' + clipped)
    (recipes / "int8-learnt.toml").write_text(
        'name = "int8-learnt"' + clipped + 'training = "fast"\n'
    )
    (place / "calibration" / "training" / "fast.toml").write_text("""
        name = "fast"
        summary = "Learns fast."
        sources = []
        steps = 60
        batch = 12
        optimizer = { kind = "adamw", lr = 2e-4 }
        schedule = { kind = "cosine" }
        augmentation = { crop = { kind = "center" }, flip = false }
        distillation = { temperature = 1.0, weight = 1.0 }
        """)
    arguments = ["quantize", "tiny.toml", "--weights", "none", "--data", "pictures", "--json"]
    assert run([*arguments, "--recipe", "int8-clipped"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert run([*arguments, "--recipe", "int8-learnt"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert after["fidelity"]["kl"] < 0.5 * before["fidelity"]["kl"]
    folder = place / "edgese-out"
    logs = {path.name for path in next(folder.glob("*-training")).iterdir()}
    assert {"log.json", "log.csv", "curve.png"} <= logs
    assert "checkpoint.pt" not in logs
    (row,) = convert(after["program"], "onnxruntime")
    assert row.parity.max_abs_diff == 0


class InterruptedAt(LearntGrids):
    """Presses Ctrl-C in the middle of a step."""

    def before_step(self, student, step, steps):
        """See `Extension`."""
        super().before_step(student, step, steps)
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_training_resumes_to_the_same_program(place, monkeypatch):
    def made(out, **more):
        return quantize(
            "tiny.toml",
            place / "pictures",
            weights="none",
            recipe="int8-qat",
            epochs=64,
            out=place / out,
            **more,
        )

    whole = made("a")
    with monkeypatch.context() as patched:
        patched.setattr("edgese.quantization.learning.LearntGrids", InterruptedAt)
        with pytest.raises(KeyboardInterrupt):
            made("b")
    assert not list((place / "b").glob("*.program*"))
    with pytest.raises(ConfigError, match="was interrupted"):
        made("b")
    parts = made("b", resume=True)
    first, second = (read_program(place / of.program).state_dict for of in (whole, parts))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert parts.fidelity == whole.fidelity


def test_a_training_takes_all_pictures_or_others(place):
    others = place / "others"
    others.mkdir()
    for index in range(20):
        picture(others / f"{index}.png", 100 + index)
    how = catalog.recipe("int8-qat")
    few = msgspec.structs.replace(
        how, quantization=msgspec.structs.replace(how.quantization, pictures=8)
    )

    def learnt_from(**more):
        made = quantize(
            "tiny.toml", place / "pictures", weights="none", recipe=few, epochs=1, **more
        )
        manifest = ProgramManifest.from_json(Path(made.manifest).read_bytes(), made.manifest)
        assert len(manifest.quantization.calibration.pictures) == 8
        return manifest.quantization.learnt_from

    assert learnt_from().pictures == 12
    found = learnt_from(train=others)
    assert (found.source, found.pictures, found.labelled_by) == (str(others), 20, None)


@pytest.mark.parametrize(
    "pattern", ["stages.0.0.*", "stages.0.1.branch.se*", "classifier*", "stem*"]
)
def test_what_is_kept_in_float_computes_the_same_in_every_runtime(pattern, place):
    how = catalog.recipe("int8")
    mixed = msgspec.structs.replace(
        how,
        name="int8-mixed",
        quantization=msgspec.structs.replace(how.quantization, keep_float=(pattern,)),
    )
    made = quantize("tiny.toml", place / "pictures", weights="none", recipe=mixed)
    rows = convert(made.program, ["tflite", "onnxruntime", "executorch", "coreml"])
    assert [row.error for row in rows] == [""] * 4
    for row in rows[:3]:
        # An output in float has no grid to count steps of.
        floats = pattern.startswith("classifier")
        assert row.parity.sqnr_db > 40 if floats else row.parity.within_step > 0.99


def test_an_untrained_program_is_not_judged(place, program):
    (row,) = convert(program, "onnxruntime", out=place / "out")
    with pytest.raises(ConfigError, match="UNTRAINED"):
        evaluate(row.artifact, place / "pictures")
