"""`convert`: from a model and its weights to verified artifacts with manifests.

A result that is cached is answered without importing torch. Otherwise workers start at once and
import their converters while this process exports the program; then each converts, reloads and
compares its own artifact. What is complete is published at once and stays, whatever happens to the
others.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edgese import catalog, store
from edgese.conversion import cache, outcome
from edgese.conversion.manifest import publish
from edgese.conversion.outcome import exit_code
from edgese.conversion.plan import expanded, planned
from edgese.conversion.run import Order, Report, converted, workplace
from edgese.data.calibration import calibration_set
from edgese.data.parity import chosen, identity
from edgese.errors import ConfigError, InputError, MissingDependency, OutputError, StoreError
from edgese.models.keys import artifact_key, program_key, stored_program_key
from edgese.models.subject import Subject, find_subject, from_program
from edgese.parallel import own_settings
from edgese.paths import as_optional_path, as_path, check_type
from edgese.program.stored import StoredProgram, find_stored
from edgese.quantization.integer import Integer
from edgese.records.artifact import ConversionOutcome, Manifest, Recipe, TargetOptions
from edgese.records.conversion import TargetPlan
from edgese.records.model import ModelSpec, Preprocessing
from edgese.targets import target_module

if TYPE_CHECKING:
    from torch import nn

__all__ = ["convert", "exit_code"]

OUT: Final = Path("edgese-out")
_NO_OPTIONS: Final = TargetOptions()


@own_settings()
def convert(
    subject: "str | Path | ModelSpec | nn.Module",
    targets: str | Sequence[str],
    *,
    weights: str | Path | None = None,
    recipe: str | Recipe | None = None,
    resolution: int | tuple[int, int] | None = None,
    classes: int | None = None,
    features: bool = False,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] = (),
    name: str | None = None,
    out: Path | str = OUT,
    options: TargetOptions = _NO_OPTIONS,
    pictures: Path | str | None = None,
    data: Path | str | None = None,
    split: str = "",
    workers: int | None = None,
    use_cache: bool = True,
    strict: bool = True,
    progress: Report | None = None,
) -> tuple[ConversionOutcome, ...]:
    """Converts a model to one or more targets and verifies each artifact on its real runtime.

    ::

        from edgese.conversion.api import convert

        for row in convert("efficientnet_lite0", "all", weights="imagenet"):
            print(row.target, row.status, row.artifact)

    Args:
        subject: a model's name, a spec file, a spec, a quantized program that `edgese quantize`
            stored (.program), or any torch module of (N, 3, H, W) to (N, classes). A module is
            exported in eval mode as it is, and never cached.
        targets: names of targets, or "all".
        weights: a file, "imagenet" or "none"; not for a module.
        recipe: its name, or a recipe; None for each target's default.
        resolution: side, or height and width, in pixels; None for the model's own.
        classes: outputs of the classifier; None for the model's own.
        features: leaves the classifier out.
        preprocessing, name: of a module; the first is needed, the other has a default.
        labels: names of the classes in order, in place of the model's own.
        out: the folder for artifacts and manifests.
        pictures: a folder of at least 8 pictures to compare on; None for embedded photographs.
        data: calibration pictures of an integer recipe: a folder, a CSV with a column file, or
            "embedded".
        split: of a CSV of calibration pictures with a column split, only this one.
        workers: the most conversions at once; None for what cores and memory carry.
        use_cache: whether to look up and store results in the cache.
        strict: raises where a target failed or its quantized network collapsed, once all targets
            have ended. False returns such rows among the others: look at their ``exit_code``.
        progress: called with target, stage and the share of its work that is behind.

    Returns:
        One row for each target, in the order asked; a failed one does not take the others down,
        whose artifacts are published in either case. `exit_code` makes one code of them.

    Raises:
        ConfigError: something asked for does not exist, or a target cannot do it.
        InputError: weights, spec file or pictures are missing or damaged.
        MissingDependency: the weights' package is not installed.
        OutputError: ``out`` or the cache folder cannot be written.
        ConversionError: a module that torch cannot export; with ``strict``, a target that failed.
        Collapsed: with ``strict``, a quantized network came to nothing; the artifact is kept.
        Others as the targets' rows tell by their exit codes, with ``strict``; the lowest decides.
        KeyboardInterrupt: workers and temporary files are gone by then.
    """
    if not isinstance(targets, str):
        check_type("targets", targets, str, list, tuple)
    if recipe is not None:
        check_type("recipe", recipe, str, Recipe)
    folder = as_path(out, "out")
    asked = expanded([targets] if isinstance(targets, str) else targets, catalog.target_names())
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers were asked for.", hint="Give 1 or more.")
    facts = [catalog.target_facts(target) for target in asked]
    stored = find_stored(subject) if isinstance(subject, str | Path) else None
    if stored is not None:
        _check_stored_arguments(
            stored,
            options,
            recipe=recipe,
            asked={
                "weights": weights,
                "resolution": resolution,
                "classes": classes,
                "features": features,
                "preprocessing": preprocessing,
                "labels": labels,
                "a name": name,
                "data": data,
                "a split": split,
            },
        )
        options = msgspec.structs.replace(options, batch=stored.manifest.batch)
    found = (
        from_program(stored)
        if stored is not None
        else find_subject(
            subject,
            weights=weights,
            resolution=resolution,
            classes=classes,
            features=features,
            preprocessing=preprocessing,
            labels=labels,
            name=name,
            batch=options.batch,
        )
    )
    plans = planned(
        found.name,
        facts,
        recipe=_finder(stored, recipe),
        recipe_name=recipe.name if isinstance(recipe, Recipe) else recipe,
        options=options,
        known=[catalog.target_facts(target) for target in catalog.target_names()],
    )
    for plan in plans:
        target_module(plan.facts.name).check(found.card, plan.recipe, plan.options)
    order = _order(
        found,
        plans,
        integer=None if stored is not None else _integer(plans, data, split),
        batch=options.batch,
        pictures=as_optional_path(pictures or None, "pictures"),
        out=folder,
        workers=workers,
        use_cache=use_cache,
        report=progress or _silent,
    )
    store.writable_folder(order.out)
    rows = {row.target: row for row in _rows(order, plans)}
    found_rows = tuple(rows[target] for target in asked)
    if strict:
        outcome.check(found_rows)
    return found_rows


def _finder(stored: StoredProgram | None, recipe: str | Recipe | None) -> Callable[[str], Recipe]:
    """What finds the recipe that is asked for by its name."""
    if stored is not None:
        return lambda _: stored.manifest.recipe
    return (lambda _: recipe) if isinstance(recipe, Recipe) else catalog.recipe


def _check_stored_arguments(
    stored: StoredProgram,
    options: TargetOptions,
    *,
    recipe: str | Recipe | None,
    asked: dict[str, object],
) -> None:
    """A stored program is what it is; only how it is lowered can still be chosen."""
    manifest = stored.manifest
    if foreign := [name for name, value in asked.items() if value]:
        raise ConfigError(
            f"{foreign[0].capitalize()} was named beside the stored program {stored.path}.",
            hint="It was decided when the program was quantized; leave it out.",
        )
    if recipe not in (None, manifest.recipe, manifest.recipe.name):
        name = recipe.name if isinstance(recipe, Recipe) else recipe
        other = f"not with {name!r}" if name != manifest.recipe.name else "with other settings"
        raise ConfigError(
            f"{stored.path} was quantized with the recipe {manifest.recipe.name!r}, {other}.",
            hint=f"`edgese quantize MODEL --recipe {name}` makes one that was.",
        )
    if options.batch not in (1, manifest.batch):
        raise ConfigError(
            f"{stored.path} takes {manifest.batch} pictures at once, not {options.batch}.",
            hint=f"`edgese quantize MODEL --batch {options.batch}` makes one that does.",
        )


def _integer(plans: Sequence[TargetPlan], data: Path | str | None, split: str) -> Integer | None:
    """How the program is quantized; None where no recipe is an integer one."""
    recipes = [plan.recipe for plan in plans if plan.recipe.is_integer]
    if not recipes:
        if data is not None:
            raise ConfigError(
                f"Calibration pictures were named for the recipe {plans[0].recipe.name!r}.",
                hint="Only integer recipes are calibrated; leave --data out.",
            )
        if split:
            raise ConfigError(
                f"The split {split!r} of no calibration pictures was asked for.",
                hint="--split goes with the --data of an integer recipe.",
            )
        return None
    recipe = recipes[0]
    assert recipe.quantization is not None  # noqa: S101  # an integer recipe has it
    if recipe.quantization.training:
        raise ConfigError(
            f"The recipe {recipe.name!r} trains the network.",
            hint=f"`edgese quantize MODEL --recipe {recipe.name}` does that and stores a program, "
            "which `edgese convert` then takes.",
        )
    if data is None:
        raise ConfigError(
            f"The recipe {recipe.name!r} needs calibration pictures.",
            hint="Give --data FOLDER with pictures like those that the network will see, or, to "
            "try things out, --data embedded.",
        )
    return Integer(
        recipe=recipe, pictures=calibration_set(data, recipe.quantization.pictures, split)
    )


def _order(
    found: Subject,
    plans: Sequence[TargetPlan],
    *,
    integer: Integer | None,
    batch: int,
    pictures: Path | None,
    out: Path,
    workers: int | None,
    use_cache: bool,
    report: Report,
) -> Order:
    files = chosen(pictures)
    program = ""
    if use_cache and found.stored is not None:
        program = stored_program_key(found.stored.manifest.sha256, pictures=identity(files))
    elif use_cache and found.weights is not None:
        program = program_key(
            found.weights,
            batch=batch,
            pictures=identity(files),
            recipe=integer.recipe if integer else None,
            calibration=integer.pictures.identity() if integer else "",
        )
    return Order(
        subject=found,
        batch=batch,
        pictures=files,
        integer=integer,
        out=out,
        root=store.cache_folder() if use_cache else None,
        program_key=program,
        artifact_keys={
            plan.facts.name: artifact_key(program, plan, found.card) for plan in plans if program
        },
        workers=workers,
        report=report,
    )


def _rows(order: Order, plans: Sequence[TargetPlan]) -> Iterator[ConversionOutcome]:
    notes: dict[str, str] = {}
    cached = tuple(_from_cache(order, plans, notes))
    yield from cached
    left = _without(plans, cached)
    lacking = tuple(_lacking(left))
    yield from lacking
    left = _without(left, lacking)
    if not left:
        # A conversion that was killed once it had filled the cache has left its workplace.
        if order.root is not None:
            cache.clear_up(order.root)
        return
    with workplace(order, left) as folder, store.writing(folder):
        # Whoever worked here before may have made some of them.
        cached = tuple(_from_cache(order, left, notes))
        yield from cached
        left = _without(left, cached)
        if left:
            with closing(converted(order, left, folder)) as rows:
                for row in rows:
                    yield msgspec.structs.replace(row, note=notes.get(row.target, ""))


def _without(
    plans: Sequence[TargetPlan], rows: Sequence[ConversionOutcome]
) -> tuple[TargetPlan, ...]:
    done = {row.target for row in rows}
    return tuple(plan for plan in plans if plan.facts.name not in done)


def _from_cache(
    order: Order, plans: Sequence[TargetPlan], notes: dict[str, str]
) -> Iterator[ConversionOutcome]:
    """The artifacts that the cache has.

    Args:
        notes: is given why an entry was not taken, by target.
    """
    if order.root is None:
        return
    for plan in plans:
        started = time.monotonic()
        key = order.artifact_keys.get(plan.facts.name)
        if key is None:
            continue
        try:
            found = cache.find_artifact(order.root, key)
            if found is None:
                continue
            artifact, manifest = _with_source(order, found)
            _check_planned(order, plan, manifest)
            final = publish(artifact, manifest, order.out)
        except FileNotFoundError:
            # Pruned just now.
            continue
        except (InputError, StoreError) as error:
            cache.discard_artifact(order.root, key)
            notes[plan.facts.name] = (
                f"The cache's entry was not what was kept, so it was made again: {error.message}"
            )
            continue
        except OutputError as error:
            # The folder took the probe; another artifact may be small enough.
            yield outcome.failed(plan, error.message, error.hint, error.exit_code)
            continue
        order.report(plan.facts.name, "cached", 1.0)
        yield outcome.made(plan, "cached", final, manifest, seconds=time.monotonic() - started)


def _check_planned(order: Order, plan: TargetPlan, manifest: Manifest) -> None:
    """Raises where a cached manifest is of something else than what was asked for.

    Raises:
        StoreError: as said.
    """
    pairs: dict[str, tuple[object, object]] = {
        "artifact": (manifest.artifact, plan.artifact),
        "target": (manifest.target, plan.facts.name),
        "delegate": (manifest.delegate, plan.delegate),
        "recipe": (manifest.recipe, plan.recipe),
        "options": (manifest.options, plan.options),
        "model": (manifest.model, order.subject.card),
        "spec": (manifest.spec, order.subject.spec),
    }
    if order.subject.weights is not None:
        asked = order.subject.weights
        found = manifest.weights
        pairs["weights"] = ((found.sha256, found.trained), (asked.sha256, asked.trained))
    if other := [what for what, (told, asked_for) in pairs.items() if told != asked_for]:
        raise StoreError(
            f"The cached manifest of {manifest.artifact} has another {other[0]} than was asked "
            "for.",
            hint="It is made again.",
        )


def _with_source(order: Order, found: tuple[Path, Manifest]) -> tuple[Path, Manifest]:
    """A cached artifact whose manifest names the weights' file of today: the same, elsewhere."""
    artifact, manifest = found
    if order.subject.weights is None:
        return found
    weights = msgspec.structs.replace(manifest.weights, source=order.subject.weights.source)
    return artifact, msgspec.structs.replace(manifest, weights=weights)


def _lacking(plans: Sequence[TargetPlan]) -> Iterator[ConversionOutcome]:
    """The targets that lack a package, with the command that installs it."""
    for plan in plans:
        missing = [module for module in ("torch", *plan.facts.modules) if not _is_there(module)]
        if missing:
            yield outcome.failed(
                plan,
                f"The target {plan.facts.name} needs {', '.join(missing)}, which is not installed.",
                f"pip install 'edgese[{plan.facts.extra}]'",
                MissingDependency.exit_code,
            )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # The package above it is missing.
        return False


def _silent(target: str, stage: str, fraction: float) -> None:
    del target, stage, fraction
