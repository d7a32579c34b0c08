"""The form in which a program is executed: operators in order, with constants in place."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from edgese.targets.coreml.mil.kernels import KERNELS


class Arithmetic(Enum):
    """What a program is computed in.

    Attributes:
        HALVES: each value that the file has in fp16 is rounded to it, as the Neural Engine and the
            GPU hold it; sums are in fp32.
        FLOATS: fp32, whatever the file says.
        DOUBLES: fp64, and codes times their scale are not rounded to the scale's type. So a sum of
            products of codes is exact, and what is put on a grid is put where the file says.
    """

    HALVES = "halves"
    FLOATS = "floats"
    DOUBLES = "doubles"

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensors that are computed with."""
        return torch.float64 if self is Arithmetic.DOUBLES else torch.float32


@dataclass(frozen=True)
class Value:
    """What another step gives, by its name."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operator.

    Attributes:
        operator: its name, as in "conv".
        line: its place among the program's operators, from 1.
        inputs: parameters by their names: a constant, a `Value`, or a tuple of these.
        output: the name of what it gives.
        shape: of that, in the file.
        is_half: whether what it gives is rounded to fp16.
        last: values that no later step reads.
    """

    operator: str
    line: int
    inputs: Mapping[str, Any]
    output: str
    shape: tuple[int, ...]
    is_half: bool
    last: tuple[str, ...] = ()

    @property
    def given(self) -> list[Any]:
        """Constants and values that it is given, lists of them laid open."""
        return [
            each
            for one in self.inputs.values()
            for each in (one if isinstance(one, tuple) else (one,))
        ]

    @property
    def reads(self) -> list[str]:
        """The names of the values that it is given."""
        return [each.name for each in self.given if isinstance(each, Value)]


def result(step: Step, values: Mapping[str, Tensor]) -> Tensor:
    """What a step gives.

    Raises:
        UnknownForm: a form of the operator without a kernel.
    """
    found = KERNELS[step.operator](
        **{name: _held(given, values) for name, given in step.inputs.items()}
    )
    return found.half().float() if step.is_half else found


def _held(given: Any, values: Mapping[str, Tensor]) -> Any:  # noqa: ANN401  # a constant of any kind
    if isinstance(given, tuple):
        return tuple(_held(each, values) for each in given)
    return values[given.name] if isinstance(given, Value) else given


def needed(steps: Sequence[Step], output: str) -> tuple[Step, ...]:
    """The steps that an output hangs on, each with the values that nobody reads after it."""
    wanted, kept = {output}, []
    for step in reversed(steps):
        if step.output in wanted:
            last = {*step.reads} - wanted
            kept.append(replace(step, last=tuple(sorted(last))))
            wanted |= last
    return tuple(kept[::-1])


def with_any_rows(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The same steps for any number of rows: the shapes that they name leave it open."""
    return tuple(
        replace(step, inputs={**step.inputs, "shape": (-1, *step.shape[1:])})
        if step.operator == "reshape"
        else step
        for step in steps
    )


def _as_numbers(given: "int | Sequence[int]") -> Iterator[int]:
    yield from (given,) if isinstance(given, int) else given


def keeps_rows(step: Step, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the first dimension of all that a step reads and gives is the batch, and stays it.

    Then any number of pictures can go through at once.

    Args:
        shapes: of values, in the file.
    """
    read = [shapes[name] for name in step.reads]
    if {shape[:1] for shape in read} != {step.shape[:1]} or not step.shape:
        return False
    rank = len(step.shape) if step.operator == "expand_dims" else max(map(len, read))
    # Without axes these take all dimensions.
    if step.operator.startswith(("reduce_", "squeeze")) and "axes" not in step.inputs:
        return False
    axes = [axis for name in ("axis", "axes") for axis in _as_numbers(step.inputs.get(name, ()))]
    return (
        all(axis % rank for axis in axes)
        and not _holds_rows(step)
        and (step.operator != "transpose" or step.inputs["perm"][0] % rank == 0)
        and (step.operator != "pad" or _pads_inside(step.inputs["pad"], rank))
    )


def _pads_inside(amounts: Sequence[int], rank: int) -> bool:
    """Whether padding adds no rows."""
    return len(amounts) < 2 * rank or not any(amounts[:2])


def _holds_rows(step: Step) -> bool:
    """Whether a constant of a step has, or must have, a row for each picture."""
    constants = {name: each for name, each in step.inputs.items() if isinstance(each, Tensor)}
    if step.operator == "concat":
        return any(isinstance(each, Tensor) for each in step.given)
    if step.operator == "matmul":
        return bool(constants.keys() - {"y"}) or step.inputs["y"].ndim != 2  # a matrix
    if {*step.inputs} != {"x", "y"}:
        return False
    return any(each.ndim == len(step.shape) and each.shape[0] != 1 for each in constants.values())
