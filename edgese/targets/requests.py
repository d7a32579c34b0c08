"""Whether a target can do what is asked of it, as far as its facts tell."""

from importlib.util import find_spec

import msgspec

from edgese.catalog import target_facts
from edgese.errors import ConfigError, MissingDependency
from edgese.records.artifact import ModelCard, Recipe, TargetOptions

# Every target has these two, whether or not its facts name them.
_COMMON = ("batch", "delegate")


def check_request(name: str, card: ModelCard, recipe: Recipe, options: TargetOptions) -> None:
    """Holds a request against the facts of the target ``name``.

    Raises:
        ConfigError: a recipe, delegate or option that the target does not have, a batch below 1, or
            labels that do not fit the classes.
    """
    facts = target_facts(name)
    if recipe.precision not in facts.precisions:
        raise ConfigError(
            f"{facts.title} cannot execute the recipe {recipe.name!r} ({recipe.precision}).",
            hint=f"It can: {', '.join(facts.precisions)}.",
        )
    if options.delegate and options.delegate not in facts.delegates:
        raise ConfigError(
            f"{facts.title} has no delegate named {options.delegate!r}.",
            hint=f"It has: {', '.join(facts.delegates)}.",
        )
    defaults = TargetOptions()
    foreign = [
        field
        for field in msgspec.structs.asdict(options)
        if field not in (*_COMMON, *facts.options)
        and getattr(options, field) != getattr(defaults, field)
    ]
    if foreign:
        raise ConfigError(
            f"{facts.title} has no option {foreign[0].replace('_', '-')!r}.",
            hint="Leave it out, or convert for the target that has it.",
        )
    if recipe.precision != "int8" and (options.io != "float" or options.activations):
        name = "io" if options.io != "float" else "activations"
        raise ConfigError(
            f"The option {name} means nothing to the recipe {recipe.name!r}.",
            hint="It belongs to recipes whose activations are int8.",
        )
    if options.batch < 1:
        raise ConfigError(f"A batch of {options.batch} was asked for.", hint="Give at least 1.")
    if card.labels and len(card.labels) != card.classes:
        raise ConfigError(
            f"{card.name} has {card.classes} classes and {len(card.labels)} labels.",
            hint="Give one label for each class, in the order of the classes, or none at all.",
        )


def check_runtime(name: str) -> None:
    """Raises MissingDependency where the runtime of the target ``name`` is not installed."""
    facts = target_facts(name)
    if find_spec(facts.runtime) is None:
        raise MissingDependency(
            f"{facts.title}'s runtime is not installed.",
            hint=f"pip install 'edgese[{facts.extra}]'",
        )


def known_delegate(name: str, delegate: str) -> str:
    """The delegate that is meant, the target's default for "".

    Raises:
        ConfigError: the target has no such delegate.
    """
    facts = target_facts(name)
    if delegate and delegate not in facts.delegates:
        raise ConfigError(
            f"{facts.title} has no delegate named {delegate!r}.",
            hint=f"It has: {', '.join(facts.delegates)}.",
        )
    return delegate or facts.delegates[0]
