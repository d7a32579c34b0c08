"""Judges whether a file's tensors are a spec's, or else says whose they are; torch-free."""

from collections.abc import Iterable, Mapping
from typing import Final

from edgese.errors import InputError
from edgese.models.naming import NAMINGS, Shape, StoredTensor, recognised, stored_tensors
from edgese.models.registry import customized, models, published
from edgese.records.model import ModelSpec

# What training keeps beside the weights, and what inference does not read.
IGNORED: Final = "num_batches_tracked"
_SHOWN: Final = 4


def fitted(spec: ModelSpec, found: Mapping[str, Shape], source: str) -> tuple[str, dict[str, str]]:
    """The naming of a file's tensors, and our name for each of theirs.

    Args:
        found: names and shapes of the file's tensors.
        source: the file, as messages name it.

    Raises:
        InputError: they are not the tensors of ``spec``. The message lists what is missing,
            unexpected or of another shape, and names the model that fits, if one does.
    """
    found = {name: shape for name, shape in found.items() if not name.endswith(IGNORED)}
    naming = recognised(found)
    if naming is None:
        raise InputError(
            f"{source} has {len(found)} tensors in no naming that edgese knows: {_few(found)}.",
            hint=f"Known are {', '.join(entry.title for entry in NAMINGS.values())}.",
        )
    expected = stored_tensors(spec, naming)
    if expected is None:
        raise InputError(
            f"{source} has {NAMINGS[naming].title}, which have no words for {spec.name}.",
            hint=_advice(naming, found),
        )
    if spec.classes == 0:
        # Pooled features were asked for: the file's classifier is known, and not needed.
        found = _without_classifier(spec, naming, found)
    _refuse_other_classes(spec, expected, found, source)
    _refuse_other_tensors(spec, naming, expected, found, source)
    _refuse_other_form(spec, naming, found, source)
    return naming, {name: tensor.name for name, tensor in expected.items()}


def _refuse_other_tensors(
    spec: ModelSpec,
    naming: str,
    expected: Mapping[str, StoredTensor],
    found: Mapping[str, Shape],
    source: str,
) -> None:
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshapen = [
        f"{name} {_dims(found[name])} instead of {_dims(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name] != tensor.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    told = [f"{len(names)} {kind} ({_few(names)})" for kind, names in kinds.items() if names]
    if told:
        raise InputError(
            f"{source} does not hold the weights of {spec.name}. It has {NAMINGS[naming].title}; "
            f"of {len(expected)} tensors {'; '.join(told)}.",
            hint=_advice(naming, found),
        )


def _refuse_other_classes(
    spec: ModelSpec,
    expected: Mapping[str, StoredTensor],
    found: Mapping[str, Shape],
    source: str,
) -> None:
    others_fit = expected.keys() == found.keys() and all(
        found[name] == tensor.shape
        for name, tensor in expected.items()
        if not tensor.name.startswith("classifier.")
    )
    if not others_fit:
        return
    classes = next(
        (found[name][0] for name, tensor in expected.items() if tensor.name == "classifier.bias"),
        spec.classes,
    )
    if classes != spec.classes:
        raise InputError(
            f"{source} has {classes} classes; {spec.name} was asked for with {spec.classes}.",
            hint=f"Give --classes {classes}.",
        )


def _refuse_other_form(
    spec: ModelSpec, naming: str, found: Mapping[str, Shape], source: str
) -> None:
    # A spec file says padding, stride and eps on purpose; a name stands for a published network.
    if published(spec) is None or NAMINGS[naming].is_form(spec):
        return
    raise InputError(
        f"{source} has {NAMINGS[naming].title}: its tensors have the shapes of {spec.name}, but "
        "belong to a network that pads, pools, strides or normalises differently.",
        hint=_advice(naming, found)
        or "If they are of this very network, save them with edgese's own names.",
    )


def _advice(naming: str, found: Mapping[str, Shape]) -> str:
    names = [spec.name for spec in models().values() if _fits(spec, naming, found)]
    return f"They are the weights of {' or '.join(names)}; ask for that model." if names else ""


def _fits(spec: ModelSpec, naming: str, found: Mapping[str, Shape]) -> bool:
    """Whether the tensors are those of ``spec``, whatever the number of classes."""
    if not NAMINGS[naming].is_form(spec):
        return False
    expected = stored_tensors(customized(spec, classes=1), naming)
    return (
        expected is not None
        and len(expected) == len(found)
        and all(
            name in found
            and (found[name] == tensor.shape or tensor.name.startswith("classifier."))
            and found[name][1:] == tensor.shape[1:]
            for name, tensor in expected.items()
        )
    )


def _without_classifier(
    spec: ModelSpec, naming: str, found: Mapping[str, Shape]
) -> dict[str, Shape]:
    with_classifier = stored_tensors(customized(spec, classes=1), naming) or {}
    classifier = {
        name for name, tensor in with_classifier.items() if tensor.name.startswith("classifier.")
    }
    return {name: shape for name, shape in found.items() if name not in classifier}


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = f", and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def _dims(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
