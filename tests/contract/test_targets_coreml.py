"""Core ML packages as they are saved: their structure is what was asked for, and damage is seen."""

import struct
from pathlib import Path

import pytest

from edgese.catalog import recipe
from edgese.errors import ConfigError, ConversionError, InputError, StoreError
from edgese.records.artifact import Interface, ModelCard, TargetOptions, TensorInfo
from edgese.records.model import Preprocessing
from edgese.targets.coreml import classifier as mlclassifier
from edgese.targets.coreml import package as mlpackage
from edgese.targets.coreml import target as coreml

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")

PREPROCESSING = Preprocessing(height=12, width=16, std=(0.1, 0.2, 0.4))
LABELS = ("cat", "dog", "bird")


class Tiny(torch.nn.Module):
    """A convolution with weights that are worth a file, a gate, a classifier."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.head = torch.nn.Linear(16, len(LABELS))

    def forward(self, x):
        """(N, 3, H, W) to (N, classes)."""
        x = torch.relu(self.conv(x))
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        return self.head(x.mean((2, 3)))


def card(labels: tuple[str, ...] = ()) -> ModelCard:
    return ModelCard(name="tiny", classes=len(LABELS), preprocessing=PREPROCESSING, labels=labels)


def converted(
    folder: Path, chosen: str = "fp16", labels: tuple[str, ...] = (), **options
) -> tuple[Path, Interface]:
    torch.manual_seed(0)
    batch = options.get("batch", 1)
    program = torch.export.export(Tiny().eval(), (torch.zeros(batch, 3, 12, 16),))
    artifact = folder / "tiny.mlpackage"
    interface = coreml.convert(
        program,
        card(labels),
        recipe(chosen),
        TargetOptions(**options),
        artifact,
        lambda _stage, _fraction: None,
    )
    return artifact, interface


def outputs(artifact: Path) -> dict[str, str]:
    features = mlpackage.read(artifact).spec.description.output
    return {feature.name: feature.type.WhichOneof("Type") for feature in features}


@pytest.mark.parametrize("chosen", ["fp16", "fp32"])
def test_the_interface_is_fp32_and_weights_follow_the_recipe(chosen, tmp_path):
    artifact, interface = converted(tmp_path, chosen)
    assert interface.input == TensorInfo(
        name="input", shape=(1, 3, 12, 16), layout="NCHW", dtype="float32"
    )
    assert interface.output == TensorInfo(name="logits", shape=(1, 3), layout="NC", dtype="float32")
    assert outputs(artifact) == {"logits": "multiArrayType"}
    report = coreml.inspect(artifact, "")
    assert (report.operators["conv"], report.partitions, report.outside) == (1, 1, ())
    assert ("cast" in report.operators) == (chosen == "fp16")
    assert sorted(part.name for part in artifact.iterdir()) == ["Data", "Manifest.json"]


def test_labels_make_a_classifier_that_keeps_its_logits(tmp_path):
    artifact, interface = converted(tmp_path, labels=LABELS)
    assert interface.output.name == "logits"
    assert outputs(artifact) == {
        "label": "stringType",
        "label_probs": "dictionaryType",
        "logits": "multiArrayType",
    }
    package = mlpackage.read(artifact)
    (softmax,) = [op for op in package.block.operations if op.type == "softmax"]
    (classify,) = [op for op in package.block.operations if op.type == "classify"]
    fed = classify.inputs["probabilities"].arguments[0].name
    assert fed == softmax.outputs[0].name


def test_a_batch_gives_its_logits_alone_labels_or_not(tmp_path):
    artifact, interface = converted(tmp_path, labels=LABELS, batch=2)
    assert interface.output.shape == (2, 3)
    assert outputs(artifact) == {"logits": "multiArrayType"}


def test_a_picture_goes_in_with_each_channels_own_mean_and_deviation(tmp_path):
    artifact, interface = converted(tmp_path, "fp32", image_input=True)
    assert interface.input.dtype == "image"
    package = mlpackage.read(artifact)
    assert package.spec.description.input[0].type.imageType.height == 12
    (norm,) = [op for op in package.block.operations if op.type == "batch_norm"]
    assert constant(package, norm.inputs["gamma"]) == pytest.approx(
        [1 / (255 * std) for std in PREPROCESSING.std]
    )
    means = zip(PREPROCESSING.mean, PREPROCESSING.std, strict=True)
    assert constant(package, norm.inputs["beta"]) == pytest.approx(
        [-mean / std for mean, std in means]
    )


def constant(package: mlpackage.Package, argument) -> list[float]:
    name = argument.arguments[0].name
    (op,) = [op for op in package.block.operations if op.outputs[0].name == name]
    return list(op.attributes["val"].immediateValue.tensor.floats.values)


def test_preprocessing_and_compute_units_travel_in_the_metadata(tmp_path):
    artifact, _ = converted(tmp_path, compute_units="cpu_and_ne", deployment_target="macOS13")
    spec = mlpackage.read(artifact).spec
    assert spec.specificationVersion == 7
    metadata = spec.description.metadata
    assert metadata.userDefined[coreml.COMPUTE_UNITS_KEY] == "cpu_and_ne"
    text = metadata.userDefined[coreml.PREPROCESSING_KEY]
    assert Preprocessing.from_json(text, artifact) == PREPROCESSING
    assert "tiny" in metadata.shortDescription


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "image"}, "inputs input where image"),
        ({"shape": (1, 3, 12, 12)}, "input of shape"),
        ({"dtype": "image"}, "no picture"),
    ],
)
def test_a_program_that_is_not_what_was_asked_for_is_a_conversion_error(change, told, tmp_path):
    artifact, interface = converted(tmp_path)
    given = interface.to_dict()
    given["input"] |= change
    asked = Interface(
        input=TensorInfo(**given["input"] | {"shape": tuple(given["input"]["shape"])}),
        output=interface.output,
    )
    with pytest.raises(ConversionError, match=told):
        coreml.validate(artifact, asked)


def test_damage_to_the_weights_is_an_input_error(tmp_path):
    artifact, _ = converted(tmp_path, "fp32")
    weights = artifact / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="end at"):
        coreml.inspect(artifact, "")
    weights.write_bytes(whole.replace(struct.pack("<I", 0xDEADBEEF), bytes(4), 1))
    with pytest.raises(InputError, match="do not begin"):
        coreml.inspect(artifact, "")
    weights.unlink()
    with pytest.raises(InputError, match="are missing"):
        coreml.inspect(artifact, "")


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_truncated_program_is_an_input_error(keep, tmp_path):
    artifact, _ = converted(tmp_path)
    model = artifact / "Data" / "com.apple.CoreML" / "model.mlmodel"
    content = model.read_bytes()
    model.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match=r"tiny\.mlpackage"):
        coreml.inspect(artifact, "")


def test_elsewhere_than_on_a_mac_something_stands_in_for_core_ml(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert "Apple systems only" in coreml.stand_in()
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert coreml.stand_in() == ""
    assert coreml.unavailable() == ""


def test_author_licence_and_preview_are_in_the_metadata(tmp_path):
    artifact, _ = converted(
        tmp_path, labels=LABELS, image_input=True, author="A. Author", license="MIT"
    )
    metadata = mlpackage.read(artifact).spec.description.metadata
    assert (metadata.author, metadata.license) == ("A. Author", "MIT")
    assert metadata.userDefined[coreml.PREVIEW_KEY] == "imageClassifier"


def test_labels_in_another_order_are_a_conversion_error(tmp_path):
    artifact, interface = converted(tmp_path, labels=LABELS)
    assert mlclassifier.labels(mlpackage.read(artifact)) == LABELS
    with pytest.raises(ConversionError, match="labels that are not the model's"):
        coreml.validate(artifact, interface, labels=LABELS[::-1])


def test_a_newer_specification_is_a_store_error(tmp_path):
    artifact, interface = converted(tmp_path)
    model = artifact / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec = mlpackage.read(artifact).spec
    spec.specificationVersion = 99
    model.write_bytes(spec.SerializeToString())
    with pytest.raises(StoreError, match="specification 99"):
        coreml.load(artifact, interface, threads=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"deployment_target": "iOS9"}, "iOS9"),
        ({"compute_units": "gpu"}, "gpu"),
        ({"image_input": True, "batch": 2}, "one picture"),
    ],
)
def test_what_core_ml_does_not_have_is_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        coreml.check(card(), recipe("fp16"), TargetOptions(**options))


def test_two_classes_of_one_label_are_refused():
    with pytest.raises(ConfigError, match="'cat'"):
        coreml.check(card(("cat", "dog", "cat")), recipe("fp16"), TargetOptions())
