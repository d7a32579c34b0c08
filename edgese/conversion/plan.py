"""Decides what is converted, for which target, with which options, and what it is called. Pure."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from edgese.errors import ConfigError
from edgese.records.artifact import Recipe, TargetOptions
from edgese.records.conversion import TargetFacts, TargetPlan

ALL: Final = "all"
_DEFAULTS: Final = TargetOptions()


def expanded(targets: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The asked targets, each once, in the order of the asking; "all" is every known one.

    Raises:
        ConfigError: none is asked, one is named twice, or "all" stands beside others.
    """
    if not targets:
        raise ConfigError(
            "No target was named.", hint=f"Name one or more of: {', '.join(known)}, or all."
        )
    if ALL in targets:
        if len(targets) > 1:
            raise ConfigError(
                f"The target all was named beside {_other(targets)}.", hint="Name all alone."
            )
        return tuple(known)
    twice = sorted({name for name in targets if targets.count(name) > 1})
    if twice:
        raise ConfigError(
            f"The target {twice[0]} was named {targets.count(twice[0])} times.",
            hint="Name each target once.",
        )
    return tuple(targets)


def planned(
    name: str,
    targets: Sequence[TargetFacts],
    *,
    recipe: Callable[[str], Recipe],
    recipe_name: str | None,
    options: TargetOptions,
    known: Sequence[TargetFacts],
) -> tuple[TargetPlan, ...]:
    """One plan for each target; whether it can do it is for the target's own check.

    Args:
        name: what the artifacts are called, before recipe and options.
        recipe: finds a recipe by its name.
        recipe_name: None for each target's default.
        known: every target there is, to tell whose option it is.

    Raises:
        ConfigError: no such recipe, or an option that no asked target has.
    """
    _check_options(options, targets, known)
    return tuple(_plan(name, facts, recipe, recipe_name, options) for facts in targets)


def _plan(
    name: str,
    facts: TargetFacts,
    recipe: Callable[[str], Recipe],
    recipe_name: str | None,
    options: TargetOptions,
) -> TargetPlan:
    chosen = recipe(recipe_name or facts.default_recipe)
    own = _owned(options, facts)
    return TargetPlan(
        facts=facts,
        recipe=chosen,
        options=own,
        delegate=own.delegate or facts.delegates[0],
        artifact=f"{'-'.join((name, chosen.name, *_option_marks(own, facts)))}{facts.suffix}",
    )


def start_order(plans: Sequence[TargetPlan]) -> tuple[TargetPlan, ...]:
    """The longest first, so that no core waits for the last one at the end."""
    return tuple(sorted(plans, key=lambda plan: -plan.facts.worker_seconds))


def _option_marks(options: TargetOptions, facts: TargetFacts) -> list[str]:
    marks = []
    if options.delegate not in ("", facts.delegates[0]):
        marks.append(options.delegate)
    if options.deployment_target:
        marks.append(options.deployment_target)
    if options.compute_units:
        marks.append(options.compute_units)
    if options.image_input:
        marks.append("image")
    if options.io != _DEFAULTS.io:
        marks.append(f"{options.io}io")
    if options.activations:
        marks.append(f"{options.activations}acts")
    return marks


def _asked(options: TargetOptions) -> tuple[str, ...]:
    names = [field.name for field in msgspec.structs.fields(options) if field.name != "batch"]
    return tuple(name for name in names if getattr(options, name) != getattr(_DEFAULTS, name))


def _owned(options: TargetOptions, facts: TargetFacts) -> TargetOptions:
    foreign = {
        name: getattr(_DEFAULTS, name) for name in _asked(options) if name not in facts.options
    }
    return msgspec.structs.replace(options, **foreign)


def _check_options(
    options: TargetOptions, targets: Sequence[TargetFacts], known: Sequence[TargetFacts]
) -> None:
    for name in _asked(options):
        if not any(name in facts.options for facts in targets):
            owners = [facts.name for facts in known if name in facts.options]
            raise ConfigError(
                f"The option {name.replace('_', '-')} means nothing to "
                f"{', '.join(facts.name for facts in targets)}.",
                hint=f"It belongs to: {', '.join(owners)}." if owners else "No target has it.",
            )


def _other(targets: Sequence[str]) -> str:
    return ", ".join(sorted(name for name in targets if name != ALL)) or "itself"
