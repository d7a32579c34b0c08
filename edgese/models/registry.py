"""Names of models, and what they stand for."""

import difflib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
import tomli_w

from edgese import catalog
from edgese.bounds import TOML_BYTES, content
from edgese.errors import ConfigError
from edgese.models import efficientnet, senet
from edgese.paths import check_type
from edgese.records.model import Head, ModelSpec, Normalization, Preprocessing

_PHI: Final = re.compile(r"efficientnet_phi(-?\d+(?:\.\d+)?)")
_MOST_NAMES: Final = 6
# Suffixes of files that hold weights alone.
_WEIGHTS: Final = frozenset({".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".h5"})


@cache
def models() -> Mapping[str, ModelSpec]:
    """Every model that has a name."""
    specs = (*efficientnet.variants(), *senet.variants())
    return MappingProxyType({spec.name: spec for spec in specs})


def find_model(subject: str | Path) -> ModelSpec:
    """The spec that a name, ``efficientnet_phi<number>`` or a TOML file stands for.

    Raises:
        ConfigError: no such name (the nearest ones are told), or a scale that cannot be.
        InputError: a spec file that is missing or not a spec.
    """
    check_type("A model", subject, str, Path)
    subject = str(subject)
    if subject in models():
        return models()[subject]
    if match := _PHI.fullmatch(subject):
        return efficientnet.by_phi(float(match[1]))
    path = Path(subject)
    if path.suffix == ".toml":
        text = content(
            path,
            "model file",
            TOML_BYTES,
            hint="`edgese models NAME --toml` prints a spec to start from.",
        )
        return ModelSpec.from_toml(text, path)
    _refuse_other_files(path)
    names = _near(subject)
    raise ConfigError(
        f"There is no model named {subject!r}.",
        hint=(f"Near it: {', '.join(names)}. " if names else "")
        + "`edgese models` lists all; a spec file's name ends in .toml.",
    )


def _refuse_other_files(path: Path) -> None:
    """Refuse what people name in a model's place, and say where it belongs."""
    if target := catalog.target_of(path):
        raise ConfigError(
            f"{path} is a file of the target {target}, not a model. edgese converts PyTorch "
            "networks; it does not read the files of runtimes back.",
            hint="Name the model, and the weights that the file was made from with --weights.",
        )
    if path.suffix in _WEIGHTS:
        raise ConfigError(
            f"{path} is a weights file, not a model.",
            hint=f"Name the model that it belongs to (`edgese models` lists them), and give "
            f"--weights {path}.",
        )


def to_toml(spec: ModelSpec) -> str:
    """The spec as a file that `find_model` reads back as the same spec.

    TOML has no null: a field that is None is left out, and None is what leaving it out means.
    """
    return tomli_w.dumps(_without_none(spec.to_dict()))


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {key: _stripped(value) for key, value in table.items() if value is not None}


def _stripped(value: Any) -> Any:  # noqa: ANN401  # any TOML value
    match value:
        case dict():
            return _without_none(value)
        case list() | tuple():
            return [_stripped(entry) for entry in value]
    return value


def _near(typed: str) -> list[str]:
    """Names that end in what was typed, then those that hold it, or else those that resemble it."""
    wanted = _squash(typed)
    squashed = {_squash(name): name for name in models()}
    holding = [key for key in squashed if wanted and wanted in key]
    holding.sort(key=lambda key: (not key.endswith(wanted), len(key)))
    keys = holding or difflib.get_close_matches(wanted, squashed, n=_MOST_NAMES)
    return [squashed[key] for key in keys[:_MOST_NAMES]]


def _squash(name: str) -> str:
    """The name without what people leave out: case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def architecture(spec: ModelSpec) -> ModelSpec:
    """The spec without what neither the weights nor the computation depends on."""
    return msgspec.structs.replace(
        spec,
        name="",
        family="",
        classes=0,
        head=Head(channels=spec.head.channels),
        normalization=Normalization(eps=spec.normalization.eps),
        stochastic_depth=0.0,
        preprocessing=Preprocessing(),
        labels=(),
        published=None,
    )


def published(spec: ModelSpec) -> ModelSpec | None:
    """The named model that ``spec`` is, whatever its classes and its preprocessing.

    A spec file that keeps a model's name and changes its rows is none.
    """
    named = models().get(spec.name)
    return named if named is not None and architecture(named) == architecture(spec) else None


def customized(
    spec: ModelSpec, *, classes: int | None = None, resolution: tuple[int, int] | None = None
) -> ModelSpec:
    """The spec with another number of classes or another resolution (height, width).

    Labels are dropped where the number of classes no longer fits them; the published accuracy is
    dropped where it no longer applies.
    """
    if classes is not None and classes != spec.classes:
        if classes < 0:
            raise ConfigError(
                f"{classes} classes were asked for.", hint="Give 1 or more; 0 for features."
            )
        spec = msgspec.structs.replace(spec, classes=classes, labels=(), published=None)
    if resolution is not None:
        height, width = resolution
        if height < 1 or width < 1:
            raise ConfigError(
                f"A resolution of {height}x{width} px was asked for.",
                hint="Give a side of at least 1 px; the model's own is "
                f"{spec.preprocessing.height}x{spec.preprocessing.width}.",
            )
        now = spec.preprocessing
        if (height, width) != (now.height, now.width):
            spec = msgspec.structs.replace(
                spec,
                preprocessing=msgspec.structs.replace(now, height=height, width=width),
                published=None,
            )
    return spec
