"""``edgese train`` from the command line: what it leaves, and how it fails."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import edgese
from edgese import catalog, store
from edgese.__main__ import run
from edgese.data.classes import ClassNames
from edgese.data.digits import digit_pictures
from edgese.data.preprocessing import preprocess
from edgese.models.registry import find_model
from edgese.models.weights import load_network, resolve_weights
from edgese.records.training import TrainingResult

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """
name = "tiny"
family = "mine"
classes = 10

[stem]
channels = [8]
stride = 1

[[stages]]
block = "basic"
channels = 8
depth = 1
se = { reduction = 2 }

[preprocessing]
height = 8
width = 8
crop = 1.0
"""


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Draws no curve: each takes half a second."""
    monkeypatch.setattr("edgese.training.loop.draw_curve", lambda *_: None)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a spec file, in which commands run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def folders(place):
    """Class folders of three classes, and a CSV file of the same pictures with splits."""
    rows = ["file,label,split"]
    for number in range(24):
        name = ("cat", "dog", "fox")[number % 3]
        path = place / "data" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = [40, 40, 40]
        colour[number % 3] = 130 + 5 * number
        Image.new("RGB", (8, 8), tuple(colour)).save(path)
        split = "test" if number >= 18 else "train"
        rows.append(f"data/{name}/{number}.png,{number % 3},{split}")
    (place / "data.csv").write_text("\n".join(rows))
    return place / "data"


def command(*rest, weights="none", recipe="digits", epochs="3", out="out"):
    """Long enough to be better than chance, which ends with another exit code."""
    arguments = ("train", "tiny.toml", "--weights", weights, "--recipe", recipe, "--out", out)
    return [*arguments, "--epochs", epochs, "--workers", "0", "--device", "cpu", *map(str, rest)]


def result(capsys, arguments):
    assert run([*arguments, "--json"]) == 0
    return TrainingResult.from_json(capsys.readouterr().out, "stdout")


@pytest.fixture
def fails(capsys):
    """Runs a command and checks its exit code; gives what stderr said."""

    def check(code, arguments):
        capsys.readouterr()
        assert run(arguments) == code
        said = capsys.readouterr()
        assert said.out == ""
        return said.err

    return check


def interrupt_at(monkeypatch, step):
    """Presses Ctrl-C in the middle of a step."""

    def pressed(self, student, now, steps):
        del self, student, steps
        if now == step:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("edgese.training.extension.Extension.before_step", pressed)


def test_the_table_tells_accuracy_speed_and_the_weights(place, capsys):
    assert run(command()) == 0
    said = capsys.readouterr()
    heads, _, row = said.out.strip().splitlines()
    assert heads.split()[:2] == ["model", "recipe"]
    assert "val top-1" in heads
    assert row.split()[-1] == "out/weights.safetensors"
    assert "log.csv" in said.err
    assert run(["report", "out/result.json", "--html", "page.html"]) == 0
    page = (place / "page.html").read_text()
    assert "Training" in page
    assert row.split()[-1] in page
    assert sorted(path.name for path in (place / "out").iterdir()) == [
        "log.csv",
        "log.json",
        "result.json",
        "weights.safetensors",
    ]


@pytest.mark.usefixtures("place")
def test_the_weights_are_taken_by_other_commands_with_their_classes_and_preprocessing(capsys):
    trained = result(capsys, command(epochs="2"))
    spec = find_model("tiny.toml")
    resolved = resolve_weights(spec, "out/weights.safetensors")
    network, info = load_network(resolved.spec, resolved)
    assert info.trained
    assert info.sha256 == trained.sha256
    assert network.spec.labels == tuple("0123456789")
    _, val = digit_pictures(ClassNames(classes=10))
    pictures = [preprocess(val.read(i), network.spec.preprocessing) for i in range(len(val.labels))]
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.stack(pictures)))
    assert int((logits.argmax(1).numpy() == val.labels).sum()) == trained.log.val.count


def test_a_recipe_that_keeps_statistics_is_refused_where_there_are_none(place, fails):
    said = fails(2, command(recipe="finetune"))
    assert "The training recipe finetune goes on from trained weights" in said
    named = said.partition("(")[2].partition(")")[0].split(", ")
    assert {"digits", "cifar", "efficientnet"} <= set(named)
    assert all(catalog.training_recipe(each).norm_learns for each in named)
    assert not (place / "out").exists()


@pytest.mark.usefixtures("place")
def test_the_function_takes_the_same_words(tmp_path):
    trained = edgese.train(
        "tiny.toml",
        recipe="digits",
        weights="none",
        out=tmp_path / "there",
        epochs=1,
        batch=32,
        seed=5,
        device="cpu",
        workers=0,
        strict=False,
    )
    assert (trained.log.recipe.batch, trained.log.recipe.optimizer.lr) == (32, 0.05)
    assert trained.log.seed == 5
    assert (trained.train.pictures, trained.val.pictures) == (1438, 359)
    assert (tmp_path / "there" / "weights.safetensors").is_file()
    assert edgese.train.__name__ == "train"


def test_class_folders_give_a_new_model_its_classes_and_their_names(folders, capsys):
    trained = result(capsys, command("--data", folders, "--classes", 3, "--batch", 8, epochs="12"))
    assert trained.model.labels == ("cat", "dog", "fox")
    assert (trained.train.labelled_by, trained.train.pictures, trained.val.pictures) == (
        "order",
        22,
        2,
    )
    assert trained.classifier == "new"


def test_a_note_tells_the_new_classes_and_that_a_step_is_more_than_an_epoch(folders, capsys):
    options = ("--data", folders, "--classes", 3, "--batch", 64)
    run(command(*options, epochs="12"))
    said = capsys.readouterr()
    notes = " ".join((said.out + said.err).split())
    assert "The model's classes are the folders' names, in sorted order." in notes
    assert "are no classes of the model" not in notes
    assert "12 epochs of 22 images are 5 steps of 64; each step counts as one epoch here." in notes


@pytest.mark.usefixtures("folders")
def test_a_csv_file_gives_training_and_validation_splits(capsys):
    splits = ("--split", "train", "--val-split", "test")
    options = ("--data", "data.csv", "--classes", 3, "--batch", 8, *splits)
    trained = result(capsys, command(*options, epochs="12"))
    assert (trained.train.pictures, trained.val.pictures) == (18, 6)
    assert trained.log.val.of == 6


def test_fine_tuning_keeps_a_classifier_that_fits_and_makes_a_new_one_else(folders, capsys):
    first = result(capsys, command("--seed", 1, out="a"))
    assert first.start.trained is False
    kept = result(capsys, command("--lr", "1e-9", weights="a/weights.safetensors", out="b"))
    assert (kept.classifier, kept.start.sha256) == ("kept", first.sha256)
    assert kept.log.val.share == pytest.approx(first.log.val.share, abs=0.05)
    options = ("--data", folders, "--classes", 3, "--batch", 8)
    other = result(capsys, command(*options, weights="a/weights.safetensors", out="c"))
    assert (other.classifier, other.model.classes) == ("new", 3)


def test_other_classes_than_the_weights_are_refused_unless_they_are_asked_for(folders, fails):
    spec = (folders.parent / "tiny.toml").read_text()
    assert run(command(out="a")) == 0
    (folders.parent / "tiny.toml").write_text(spec.replace("classes = 10", "classes = 3"))
    said = fails(8, command("--data", folders, weights="a/weights.safetensors", out="b"))
    assert "--classes 10" in said


@pytest.mark.usefixtures("place")
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(capsys, monkeypatch):
    whole = result(capsys, command(epochs="2", out="a"))
    with monkeypatch.context() as patched:
        interrupt_at(patched, 30)
        assert run(command(epochs="2", out="b")) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert "--resume" in said.err
    assert run(command(epochs="2", out="b")) == 2
    assert "was interrupted" in capsys.readouterr().err
    from safetensors.torch import load_file

    resumed = result(capsys, command("--resume", epochs="2", out="b"))
    assert resumed.log.epochs[-1].train_loss == whole.log.epochs[-1].train_loss
    first, second = (load_file(f"{name}/weights.safetensors") for name in "ab")
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_an_end_that_reaches_the_whole_group_leaves_a_checkpoint_too(place):
    arguments = [sys.executable, "-m", "edgese", *command(epochs="500")]
    arguments[arguments.index("--workers") + 1] = "1"
    with subprocess.Popen(
        arguments, cwd=place, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert "epoch 1 of 500" in process.stderr.readline()
        # As `timeout`, `torchrun` and batch systems do it.
        os.killpg(process.pid, signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(60) == 130, said
    assert "--resume" in said
    assert (place / "out" / "checkpoint.pt").is_file()


def test_another_run_is_not_resumed(place, fails, monkeypatch):
    with monkeypatch.context() as patched:
        interrupt_at(patched, 3)
        assert run(command()) == 130
    for options in (("--seed", 1), ("--lr", 0.2), ("--resolution", 12), ("--holdout", 0.5)):
        said = fails(7, command("--resume", *options))
        assert "holds another run" in said
    (place / "tiny.toml").write_text(SPEC.replace("channels = [8]", "channels = [4]"))
    said = fails(7, command("--resume"))
    assert "spec" in said


@pytest.mark.usefixtures("place")
def test_a_finished_run_is_not_trained_over(fails):
    assert run(command()) == 0
    for options in ((), ("--resume",)):
        assert "holds a finished training" in fails(2, command(*options))


@pytest.mark.usefixtures("place")
def test_a_folder_that_another_process_trains_in_is_refused(fails):
    with store.locked(Path("out"), name=".edgese-training.lock"):
        assert "Another process is training in out" in fails(2, command())


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("code", "options", "told"),
    [
        (2, {"recipe": "cifra"}, "Did you mean 'cifar'?"),
        (2, {"recipe": "qat"}, "no teacher was given"),
        (2, {"epochs": "0"}, "above 0"),
        (8, {"weights": "none.pth"}, "There is no weights file none.pth"),
        (2, {"weights": "imagenet"}, "No package brings ImageNet weights for tiny"),
        (9, {"out": "tiny.toml"}, "a file, not a folder"),
        (9, {"out": "/proc/edgese"}, "cannot be"),
    ],
    ids=str,
)
def test_what_cannot_be_is_told_before_anything_is_trained(fails, code, options, told):
    assert told in fails(code, command(**options))


@pytest.mark.parametrize(
    ("code", "options", "told"),
    [
        (8, ("--data", "nowhere"), "does not exist"),
        (8, ("--data", "empty"), "There is no picture in"),
        (8, ("--data", "data"), "fit no class of the model"),
        (8, ("--classes", 4), "The digits have 10 classes, and the model 4"),
        (2, ("--split", "train"), "digits have no splits"),
        (2, ("--data", "data", "--classes", 3, "--holdout", 0.01), "held out"),
        (2, ("--val", "data", "--holdout", 0.1), "and validation pictures too"),
        (2, ("--no-labels", "--data", "data"), "learns from labels"),
        (2, ("--device", "cuda:77"), "There is no device 'cuda:77'"),
        (2, ("--device", "toaster"), "There is no device 'toaster'"),
        (2, ("--batch", 0), "above 0"),
    ],
    ids=str,
)
def test_bad_input_has_its_exit_code_and_its_remedy(folders, fails, code, options, told):
    (folders.parent / "empty").mkdir()
    assert told in fails(code, command(*options))


def test_missing_weights_are_not_replaced_by_random_ones(place, fails):
    del place
    assert "--weights" in fails(2, ["train", "tiny.toml", "--recipe", "digits"])


@pytest.mark.usefixtures("place")
def test_a_student_follows_a_teacher_of_another_model_without_labels(folders, capsys):
    wide = SPEC.replace('"tiny"', '"wide"').replace("channels = 8", "channels = 16")
    (folders.parent / "wide.toml").write_text(wide)
    rest = ["--recipe", "digits", "--epochs", "3", "--workers", "0", "--device", "cpu"]
    assert run(["train", "wide.toml", "--weights", "none", "--out", "wide", *rest]) == 0
    capsys.readouterr()
    teacher = ("--teacher", "wide/weights.safetensors", "--teacher-model", "wide.toml")
    options = ("--data", folders, "--no-labels", "--batch", 8, "--lr", 0.01)
    trained = result(capsys, command(*options, *teacher, recipe="qat"))
    assert trained.teacher.trained
    assert (trained.log.val, trained.train.labelled_by) == (None, None)
    assert trained.log.epochs[-1].val_agreement is not None


@pytest.mark.usefixtures("place")
def test_a_teacher_that_sees_other_colours_is_refused(fails):
    assert run(command(out="a")) == 0
    other = SPEC.replace("crop = 1.0", "crop = 1.0\nmean = [0.1, 0.1, 0.1]")
    Path("other.toml").write_text(other.replace('"tiny"', '"other"'))
    teacher = ("--teacher", "a/weights.safetensors", "--teacher-model", "tiny.toml")
    arguments = command(*teacher, recipe="qat", out="b")
    arguments[1] = "other.toml"
    assert "takes pictures of mean" in fails(2, arguments)


@pytest.mark.usefixtures("place")
def test_progress_is_a_line_an_epoch_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr("edgese.cli.train._QUIET_S", 0.0)
    assert run(command(epochs="3")) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tiny")]
    assert len(lines) == 4
    assert "epoch 2 of 3, loss " in lines[1]
    assert "img/s" in lines[1]


@pytest.mark.usefixtures("place")
def test_json_is_the_record_that_stands_in_the_folder(capsys):
    printed = result(capsys, command())
    stored = json.loads(Path("out/result.json").read_text())
    assert stored == json.loads(printed.to_json())
    assert torch.__version__ == printed.versions["torch"]
