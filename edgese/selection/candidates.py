"""What is to be chosen from: families, ranges, files, and every combination of what was named."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

import msgspec

from edgese import catalog
from edgese.bounds import TOML_BYTES, check_toml, content
from edgese.errors import ConfigError, stage
from edgese.models.registry import customized, find_model, models
from edgese.records.model import ModelSpec, SqueezeExcite
from edgese.records.selection import Candidate, CandidateFile, Listed

OWN: Final = ""
NONE: Final = "none"
_NUMBERED: Final = re.compile(r"(?P<stem>.*?)(?P<number>[0-9]{1,9})")


def enumerated(
    subjects: Sequence[str],
    *,
    family: str = "",
    resolutions: Sequence[tuple[int, int]] = (),
    recipes: Sequence[str] = (),
    targets: Sequence[str],
    gates: Sequence[str] = (),
    weights: str = "",
    classes: int | None = None,
) -> tuple[Candidate, ...]:
    """Every combination of what was named, without repetition, in the order of the asking.

    Args:
        subjects: names of models, ranges as in "efficientnet_b0..b4", spec files, or files of
            ``[[candidate]]`` tables; with ``family`` a range may be "b0..b4".
        family: of models, as `edgese models` lists them.
        resolutions: none takes each model's own.
        recipes: none takes each target's default.
        gates: none leaves the model's own; see `Candidate.gates`.
        weights: "imagenet", or a file in whose name "{model}" and "{resolution}" stand for them.
        classes: of the classifier; None for the model's own.

    Raises:
        ConfigError: an unknown name, an empty range, gates that cannot be, or nothing named.
        InputError: a file that cannot be read.
    """
    if not subjects and not family:
        raise ConfigError(
            "No candidates were named.",
            hint="Give --family efficientnet, a range such as efficientnet_b0..b4, or a file.",
        )
    found: dict[Candidate, None] = {}
    for one in _listed(subjects, family):
        spec = find_model(one.model)
        own = (spec.preprocessing.height, spec.preprocessing.width)
        for sides, target, changed in product(
            (_sides(one.resolution),) if one.resolution else resolutions or (own,),
            (one.target,) if one.target else targets,
            (one.gates,) if one.gates else gates or (OWN,),
        ):
            facts = catalog.target_facts(target)
            for recipe in (one.recipe,) if one.recipe else recipes or (facts.default_recipe,):
                if catalog.recipe(recipe).precision not in facts.precisions:
                    raise ConfigError(
                        f"{target} cannot execute the recipe {recipe!r}.",
                        hint=f"Its precisions: {', '.join(facts.precisions)}.",
                    )
                candidate = Candidate(
                    model=one.model,
                    resolution=sides,
                    recipe=recipe,
                    target=target,
                    gates=changed,
                    weights=_weights(one.weights or weights, spec.name, sides),
                    classes=classes or 0,
                )
                spec_of(candidate)
                found[candidate] = None
    return tuple(found)


def spec_of(candidate: Candidate) -> ModelSpec:
    """The network of a candidate, at its resolution and with its gates.

    Raises:
        ConfigError: gates that cannot be.
    """
    spec = customized(
        find_model(candidate.model),
        classes=candidate.classes or None,
        resolution=candidate.resolution,
    )
    if candidate.gates == OWN:
        return spec
    change = _change(candidate.gates)
    if not any(stage.se for stage in spec.stages):
        raise ConfigError(
            f"{spec.name} has no gates to change to {candidate.gates!r}.",
            hint="Leave --gates out for it, or name another model.",
        )
    stages = tuple(
        msgspec.structs.replace(stage, se=change(stage.se)) if stage.se else stage
        for stage in spec.stages
    )
    mark = re.sub(r"[^A-Za-z0-9.]+", "-", candidate.gates)
    return msgspec.structs.replace(
        spec, name=f"{spec.name}-gates-{mark}", stages=stages, published=None
    )


def _listed(subjects: Sequence[str], family: str) -> Iterator[Listed]:
    members = _family(family) if family else {}
    if family and not subjects:
        yield from (Listed(model=name) for name in members)
    for subject in subjects:
        path = Path(subject)
        if ".." in subject and path.suffix != ".toml":
            yield from (Listed(model=name) for name in _range(subject, members or models()))
        elif path.suffix == ".toml" and (listed := _file(path)) is not None:
            yield from listed
        else:
            yield Listed(model=subject)


def _family(family: str) -> dict[str, ModelSpec]:
    found = {name: spec for name, spec in models().items() if spec.family == family}
    if not found:
        known = dict.fromkeys(spec.family for spec in models().values())
        raise ConfigError(
            f"There is no family named {family!r}.", hint=f"Known: {', '.join(known)}."
        )
    return found


def _range(text: str, among: Mapping[str, ModelSpec]) -> list[str]:
    """The models of one series whose numbers lie between two, both included, by their number."""
    first, _, last = text.partition("..")
    start, end = _NUMBERED.fullmatch(first), _NUMBERED.fullmatch(last)
    # Within a family the series may be told by its end alone, as in "b0".
    named = [name for name in among if name == first or name.endswith(f"_{first}")]
    if start and end and named:
        name = min(named, key=len)
        stem = name[: len(name) - len(start["number"])]
        series = {
            int(match["number"]): name
            for name in among
            if (match := _NUMBERED.fullmatch(name)) and match["stem"] == stem
        }
        lowest, highest = int(start["number"]), int(end["number"])
        if stem.endswith(end["stem"]) and lowest <= highest and highest in series:
            return [series[number] for number in sorted(series) if lowest <= number <= highest]
    raise ConfigError(
        f"{text!r} is no range of models.",
        hint="Give the first and the last of a series, as in efficientnet_b0..b4 or "
        "resnet18..50; `edgese models` lists them.",
    )


def _file(path: Path) -> tuple[Listed, ...] | None:
    """The candidates that a file lists; None for a spec file."""
    text = content(path, "file of candidates", TOML_BYTES)
    check_toml(text, path)
    with stage(f"read {path} as TOML", hint="Mend it."):
        table: dict[str, Any] = msgspec.toml.decode(text)
    if "candidate" not in table:
        return None
    return CandidateFile.from_toml(text, path).candidate


def _sides(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _weights(pattern: str, model: str, sides: tuple[int, int]) -> str:
    height, width = sides
    pixels = str(height) if height == width else f"{height}x{width}"
    return pattern.replace("{model}", model).replace("{resolution}", pixels)


def _change(text: str) -> Callable[[SqueezeExcite], SqueezeExcite | None]:
    """What ``--gates`` does to each gate."""
    if text == NONE:
        return lambda _: None
    fields: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(
                f"--gates {text!r} is no change of gates.",
                hint='Give "none", or fields as in gate=hard_sigmoid or reduction=8,squeeze=max.',
            )
        fields[key.strip()] = value.strip()

    def change(gate: SqueezeExcite) -> SqueezeExcite:
        try:
            return msgspec.convert(gate.to_dict() | fields, SqueezeExcite, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"--gates {text!r} is no change of gates: {error}.",
                hint="Its fields are those of a stage's `se`; `edgese models NAME --toml` has "
                "them.",
            ) from error

    return change
