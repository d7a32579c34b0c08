"""What is known of a target without asking its packages; a file in targets/."""

from edgese.records.artifact import Precision, Recipe, TargetOptions
from edgese.records.base import Record
from edgese.records.bounds import Count, Seconds


class OperatorRemark(Record, frozen=True):
    """What is documented of some operators of a delegate beyond whether it has them.

    Attributes:
        operators: in the words of the target's own files.
        taken: whether the delegate executes them at all.
        remark: why not, or how and where: a clause without a full stop.
        source: where that stands.
    """

    operators: tuple[str, ...]
    taken: bool
    remark: str
    source: str


class DelegateFacts(Record, frozen=True):
    """What one delegate of a target takes, here or on another device.

    Attributes:
        name: as in a device's ``delegates``.
        title: its own name, for tables.
        precisions: of recipes that it executes; empty where that is not known.
        operators: that it takes, in the words of the target's own files. One that is listed may
            stay outside all the same: of shapes and types the runtime decides. Empty where nobody
            publishes a list; then the runtime itself is asked.
        source: where that stands, with the version.
        remarks: what is documented of single operators, where there is no list.
    """

    name: str
    title: str
    source: str
    precisions: tuple[Precision, ...] = ()
    operators: tuple[str, ...] = ()
    remarks: tuple[OperatorRemark, ...] = ()


class TargetFacts(Record, frozen=True):
    """The facts of a runtime and its file format.

    Attributes:
        name: as in ``--target``.
        title: its own name, for tables.
        suffix: of its artifacts, with the dot.
        extra: the extra that installs it: ``pip install 'edgese[<extra>]'``.
        modules: what must be importable to convert.
        runtime: what must be importable to execute its artifacts.
        packages: distributions whose versions a manifest records.
        precisions: of recipes that it can execute.
        default_recipe: what `convert` takes where no recipe is named.
        delegates: what can execute it, the default first.
        coverage: what each of them takes, and what delegates take that only other devices have.
        same_integers: whether int8 artifacts compute the very integers of the quantized program;
            else the share of outputs within a step is told, and nothing is asked of it.
        options: the fields of `TargetOptions` that are its own. The batch is everyone's.
        worker_memory_mb: memory that converting takes beyond the network itself, in MiB.
        worker_seconds: how long converting an EfficientNet-B0 takes, roughly; the longest starts
            first.
        sources: where the facts come from.
    """

    name: str
    title: str
    suffix: str
    extra: str
    modules: tuple[str, ...]
    runtime: str
    packages: tuple[str, ...]
    precisions: tuple[Precision, ...]
    default_recipe: str
    delegates: tuple[str, ...]
    worker_memory_mb: Count
    worker_seconds: Seconds
    same_integers: bool = True
    options: tuple[str, ...] = ()
    coverage: tuple[DelegateFacts, ...] = ()
    sources: tuple[str, ...] = ()


class TargetPlan(Record, frozen=True):
    """One artifact that is to be made.

    Attributes:
        options: those that the target owns; the others have their defaults.
        delegate: what will execute the artifact, the target's default filled in.
        artifact: its file name.
    """

    facts: TargetFacts
    recipe: Recipe
    options: TargetOptions
    delegate: str
    artifact: str
