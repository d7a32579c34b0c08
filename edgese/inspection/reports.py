"""Makes reports of what is known of a delegate and a graph. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from edgese.inspection.pieces import Node, counted_without, counts, pieces
from edgese.inspection.rules import Cause, left_out
from edgese.records.artifact import OperatorReport, Precision
from edgese.records.conversion import DelegateFacts
from edgese.records.inspection import Basis, DelegateReport, LeftOut

# What targets say of operators that a delegate takes and computes in floats among integers.
_FLOATS: Final = "in float"
_UNPUBLISHED: Final = (
    "Nobody publishes which operators it takes; only the delegate itself can tell."
)
_UNASKED: Final = (
    "This is what is documented, and nothing here was measured: which unit executes an operator is "
    "decided by the device that loads the package, and told by its compute plan."
)
_CONDITIONS: Final = (
    "An operator that is listed may stay outside all the same: of shapes, types and attributes the "
    "runtime decides."
)


def refusals(
    target: str, delegate: str, nodes: Sequence[Node], refused: Mapping[str, tuple[Cause, str]]
) -> tuple[LeftOut, ...]:
    """The operators of the kinds that a delegate refuses, with what each kind does to the graph.

    Args:
        refused: cause and reason by kind.
    """
    counted = counts(nodes)
    now = len(pieces(nodes, [node.operator not in refused for node in nodes]))
    return tuple(
        left_out(
            target,
            delegate,
            operator,
            counted.get(operator),
            cause,
            reason,
            (now, counted_without(nodes, refused, operator)) if operator in counted else None,
        )
        for operator, (cause, reason) in sorted(refused.items())
    )


def own(target: str, facts: DelegateFacts, report: OperatorReport, by: str) -> DelegateReport:
    """The delegate that the artifact was made for, as the target reads it back from the file."""
    outside = sum(each.count for each in report.outside)
    total = sum(report.operators.values())
    bases: dict[str, Basis] = {"executorch": "read", "coreml": "documented"}
    notes = {"coreml": ("Which unit executes which operator is decided when a device loads it.",)}
    return DelegateReport(
        delegate=facts.name,
        title=facts.title,
        basis=bases.get(target, "asked"),
        by=by,
        operators=total,
        taken=total - outside,
        partitions=report.partitions,
        partition_sizes=report.partition_sizes,
        left_out=tuple(
            left_out(
                target,
                facts.name,
                each.operator,
                each.count,
                "IN-FLOATS" if _FLOATS in each.reason else "OUTSIDE",
                each.reason,
            )
            for each in report.outside
        ),
        notes=notes.get(target, ()),
    )


def published(
    target: str,
    facts: DelegateFacts,
    nodes: Sequence[Node] | None,
    operators: Mapping[str, int],
    precision: Precision,
) -> DelegateReport:
    """What is published of a delegate, held against the operators of a file.

    Args:
        nodes: of the file, in order; None where its graph is not read, so that pieces are unknown.
        operators: how many there are of each kind.
    """
    total = sum(operators.values())
    empty = DelegateReport(
        delegate=facts.name,
        title=facts.title,
        basis="documented",
        by=facts.source,
        operators=total,
        taken=None,
        partitions=None,
    )
    if facts.precisions and precision not in facts.precisions:
        said = f"it executes {', '.join(facts.precisions)}, and this is {precision}"
        return msgspec.structs.replace(
            empty,
            taken=0,
            partitions=0,
            left_out=tuple(
                left_out(target, facts.name, operator, count, "PRECISION", said)
                for operator, count in sorted(operators.items())
            ),
        )
    if not facts.operators:
        return msgspec.structs.replace(empty, notes=(_UNPUBLISHED,))
    missing: dict[str, tuple[Cause, str]] = {
        operator: ("OP-UNSUPPORTED", "it is not in the published list")
        for operator in operators
        if operator not in facts.operators
    }
    if nodes is None:
        lost = sum(operators[operator] for operator in missing)
        return msgspec.structs.replace(
            empty,
            taken=total - lost,
            partitions=None if missing else 1,
            partition_sizes=() if missing else (total,),
            left_out=tuple(
                left_out(target, facts.name, operator, operators[operator], cause, reason)
                for operator, (cause, reason) in sorted(missing.items())
            ),
            notes=(_CONDITIONS,),
        )
    groups = pieces(nodes, [node.operator not in missing for node in nodes])
    return msgspec.structs.replace(
        empty,
        taken=sum(map(len, groups)),
        partitions=len(groups),
        partition_sizes=tuple(map(len, groups)),
        left_out=refusals(target, facts.name, nodes, missing),
        notes=(_CONDITIONS,),
    )


def remarked(target: str, facts: DelegateFacts, operators: Mapping[str, int]) -> DelegateReport:
    """What is documented of single operators of a delegate that cannot be asked.

    How many it takes stays open: of most operators nothing is documented.

    Args:
        operators: how many of each kind the file has.
    """
    told = [
        (remark, operator)
        for remark in facts.remarks
        for operator in remark.operators
        if operator in operators
    ]
    return DelegateReport(
        delegate=facts.name,
        title=facts.title,
        basis="documented",
        by=facts.source,
        operators=sum(operators.values()),
        taken=None,
        partitions=None,
        left_out=tuple(
            left_out(
                target,
                facts.name,
                operator,
                operators[operator],
                "OP-UNSUPPORTED",
                f"{remark.remark} ({remark.source})",
            )
            for remark, operator in told
            if not remark.taken
        ),
        notes=(
            *(
                f"{operator} ({operators[operator]}): {remark.remark} ({remark.source})."
                for remark, operator in told
                if remark.taken
            ),
            _UNASKED,
        ),
    )


def largest_piece(
    target: str,
    facts: DelegateFacts,
    nodes: Sequence[Node],
    refused: Mapping[str, str],
    taken: int,
    by: str,
    arguments: AbstractSet[str] = frozenset(),
) -> DelegateReport:
    """A delegate that executes the largest piece alone, and told kinds and a number.

    Which operators of a kind it refuses it does not tell. Where the largest piece has just as many
    operators as it took when all of a kind are refused, that is what it did; elsewhere the counts
    by kind are left open.

    Args:
        refused: the delegate's reason by kind; empty where it takes all.
        taken: how many operators it executes, in its own words.
        arguments: the kinds that it has, but not in this form.
    """
    told: dict[str, tuple[Cause, str]] = {
        operator: ("ARGUMENTS" if operator in arguments else "OP-UNSUPPORTED", reason)
        for operator, reason in refused.items()
    }
    groups = pieces(nodes, [node.operator not in told for node in nodes])
    chosen = max(groups, key=len, default=())
    known = len(chosen) == taken
    if known:
        rest = Counter(nodes[i].operator for group in groups if group is not chosen for i in group)
        said = (
            f"it executes one piece of {taken} operators; these are in the {len(groups) - 1} others"
        )
        left = (
            *refusals(target, facts.name, nodes, told),
            *(
                left_out(target, facts.name, operator, count, "SMALLER-PIECE", said)
                for operator, count in sorted(rest.items())
            ),
        )
    else:
        left = tuple(
            left_out(target, facts.name, operator, None, cause, reason)
            for operator, (cause, reason) in sorted(told.items())
        )
    unknown = "It refuses some operators of a kind and not others, and does not tell which."
    return DelegateReport(
        delegate=facts.name,
        title=facts.title,
        basis="asked",
        by=by,
        operators=len(nodes),
        taken=taken,
        partitions=1 if taken else 0,
        partition_sizes=(taken,) if taken else (),
        left_out=left,
        notes=() if known else (unknown,),
    )
