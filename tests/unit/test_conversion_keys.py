import msgspec
import pytest

from edgese import catalog
from edgese.conversion.plan import planned
from edgese.errors import ConfigError
from edgese.models import keys
from edgese.models.registry import customized, find_model
from edgese.models.subject import from_spec
from edgese.models.weights import ResolvedWeights
from edgese.records.artifact import ModelCard, TargetOptions
from edgese.records.model import ModelSpec, Stage, Stem

SPEC = find_model("efficientnet_lite0")
WEIGHTS = ResolvedWeights(source="w.pth", path="w.pth", sha256="ab", trained=True, spec=SPEC)
CARD = ModelCard(name=SPEC.name, classes=1000, preprocessing=SPEC.preprocessing)


def program(weights=WEIGHTS, batch=1, pictures="embedded"):
    return keys.program_key(weights, batch=batch, pictures=pictures)


def artifact(of="program", recipe="fp32", card=CARD, **options):
    known = [catalog.target_facts("coreml")]
    (plan,) = planned(
        "net",
        known,
        recipe=catalog.recipe,
        recipe_name=recipe,
        options=TargetOptions(**options),
        known=known,
    )
    return keys.artifact_key(of, plan, card)


def test_the_same_program_has_the_same_key():
    assert program() == program()


@pytest.mark.parametrize(
    "change",
    [
        {"weights": msgspec.structs.replace(WEIGHTS, sha256="cd")},
        {"weights": msgspec.structs.replace(WEIGHTS, spec=customized(SPEC, classes=10))},
        {"weights": msgspec.structs.replace(WEIGHTS, spec=customized(SPEC, resolution=(64, 64)))},
        {"batch": 2},
        {"pictures": "others"},
    ],
)
def test_what_changes_the_program_changes_its_key(change):
    assert program(**change) != program()


def test_a_file_of_the_same_contents_elsewhere_has_the_same_key():
    moved = msgspec.structs.replace(WEIGHTS, source="x.pth", path="x.pth")
    assert program(moved) == program()


@pytest.mark.parametrize(
    "change",
    [
        {"of": "another"},
        {"recipe": "fp16"},
        {"card": msgspec.structs.replace(CARD, labels=("a",))},
        {"image_input": True},
        {"deployment_target": "iOS18"},
    ],
)
def test_what_changes_the_artifact_changes_its_key(change):
    assert artifact(**change) != artifact()


@pytest.mark.parametrize("package", ["torch", "coremltools"])
def test_another_version_of_a_package_changes_the_key(monkeypatch, package):
    before = artifact(of=program())
    found = keys.metadata.version
    monkeypatch.setattr(
        keys.metadata, "version", lambda name: "0.0" if name == package else found(name)
    )
    assert artifact(of=program()) != before


def test_another_version_of_the_sources_changes_the_key(monkeypatch):
    before = program()
    monkeypatch.setattr(keys, "_sources_hash", lambda: "edited")
    assert program() != before


def test_another_kind_of_machine_changes_the_key(monkeypatch):
    before = program()
    monkeypatch.setattr(keys.platform, "system", lambda: "Another")
    assert program() != before


def test_packages_that_are_not_installed_are_left_out():
    assert set(keys.toolchain(["there-is-none", "msgspec"])) == {"python", "msgspec"}


def test_a_spec_from_code_and_from_a_file_have_the_same_key():
    stage = Stage(block="mbconv", channels=8, depth=1, expansion=2)
    code = ModelSpec(name="net", family="own", stem=Stem(channels=(8,)), stages=(stage,))
    file = ModelSpec.from_json(code.to_json(), "net.json")
    keyed = [
        program(
            from_spec(spec, "none", resolution=None, classes=None, batch=1).weights,
        )
        for spec in (code, file)
    ]
    assert keyed[0] == keyed[1]


def test_a_spec_of_wrong_types_is_a_config_error():
    spec = msgspec.structs.replace(SPEC, classes="many", labels=())
    with pytest.raises(ConfigError, match="classes"):
        from_spec(spec, "none", resolution=None, classes=None, batch=1)


def test_another_processor_or_another_choice_of_kernels_changes_the_key(monkeypatch):
    before = program()
    monkeypatch.setattr(keys.machine, "arithmetic", lambda: "another processor")
    assert program() != before
