"""Reads an ML program into steps that can be executed, through coremltools' own loader."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from edgese.errors import OperatorUnknown
from edgese.targets.batches import unreadable
from edgese.targets.coreml.mil.elementwise import UnknownForm
from edgese.targets.coreml.mil.kernels import KERNELS, has_kernel, is_constant
from edgese.targets.coreml.mil.steps import (
    Arithmetic,
    Step,
    Value,
    keeps_rows,
    needed,
    result,
    with_any_rows,
)
from edgese.targets.coreml.package import TITLE, Package, weights_folder

_HALF: Final = "fp16"


@dataclass(frozen=True)
class MilProgram:
    """A program that is ready to be executed.

    Attributes:
        input: name of its only input.
        shape: of that, in the file.
        output: name of what is computed.
        steps: in the file's order; those that the output does not need are left out.
        takes_rows: whether any number of pictures can be computed at once.
        dtype: of what is computed with.
    """

    input: str
    shape: tuple[int, ...]
    output: str
    steps: tuple[Step, ...]
    takes_rows: bool
    dtype: torch.dtype


def loaded(
    artifact: Path, package: Package, output: str, arithmetic: Arithmetic = Arithmetic.HALVES
) -> MilProgram:
    """A package's main program, its constants expanded and folded, tried on zeros.

    Args:
        package: as `edgese.targets.coreml.package.read` gives it.
        output: name of the output that is wanted.

    Raises:
        InputError: the program is not what coremltools can read, or lacks the output.
        OperatorUnknown: an operator without a kernel.
    """
    for line, op in enumerate(package.block.operations, 1):
        if not has_kernel(op.type):
            raise _unknown(artifact, op.type, line, op.outputs[0].name)
    main = _main(artifact, package)
    if len(main.inputs) != 1:
        raise unreadable(artifact, TITLE, f"it has {len(main.inputs)} inputs, not one")
    ((name, given),) = main.inputs.items()
    if not all(isinstance(size, int) for size in given.shape):
        raise unreadable(artifact, TITLE, f"its input has no fixed shape: {tuple(given.shape)}")
    if output not in {each.name for each in main.outputs}:
        raise unreadable(artifact, TITLE, f"it has no output {output}")
    steps = needed([*_steps(artifact, main, arithmetic)], output)
    shape = tuple(given.shape)
    _try(artifact, steps, {name: torch.zeros(shape, dtype=arithmetic.dtype)})
    shapes = {step.output: step.shape for step in steps} | {name: shape}
    takes_rows = all(keeps_rows(step, shapes) for step in steps)
    return MilProgram(
        input=name,
        shape=shape,
        output=output,
        steps=with_any_rows(steps) if takes_rows else steps,
        takes_rows=takes_rows,
        dtype=arithmetic.dtype,
    )


def computed(program: MilProgram, pictures: Tensor) -> Tensor:
    """What a program gives, in its own dtype.

    Args:
        pictures: (N, 3, H, W) as the program takes them; any N where it takes rows.
    """
    values = {program.input: pictures.to(program.dtype)}
    for step in program.steps:
        values[step.output] = result(step, values)
        for name in step.last:
            del values[name]
    return values[program.output]


def _unknown(
    artifact: Path, operator: str, line: int, output: str, form: str = ""
) -> OperatorUnknown:
    return OperatorUnknown(
        f"{artifact} has an operator that Core ML alone can execute: "
        f"{' '.join(filter(None, (operator, form)))}, in line {line} of the program, which gives "
        f"{output}.",
        hint="On a Mac, Core ML executes it. The package is none the worse for it.",
    )


def _main(artifact: Path, package: Package) -> Any:  # noqa: ANN401  # coremltools is untyped
    from coremltools.converters.mil.frontend.milproto.load import load

    folder = weights_folder(artifact)
    try:
        program = load(package.spec, package.spec.specificationVersion, str(folder))
    except (
        AssertionError,
        AttributeError,
        IndexError,
        KeyError,
        NotImplementedError,
        OSError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise unreadable(artifact, TITLE, f"coremltools says: {error}") from error
    return program.functions["main"]


def _steps(artifact: Path, main: Any, arithmetic: Arithmetic) -> Iterator[Step]:  # noqa: ANN401  # the same
    """Every operator that depends on the input; those that do not are computed here."""
    raw: dict[str, Any] = {}
    known: dict[str, Any] = {}
    computed_names = {given.name for given in main.inputs.values()}
    for line, op in enumerate(main.operations, 1):
        if is_constant(op.op_type):
            name = op.outputs[0].name
            raw[name] = _raw(artifact, op, raw, arithmetic)
            known[name] = _constant(raw[name], arithmetic.dtype)
        if op.op_type not in KERNELS:
            continue
        (output,) = op.outputs
        step = Step(
            operator=op.op_type,
            line=line,
            inputs={
                name: _argument(given, known)
                for name, given in op.inputs.items()
                if given is not None
            },
            output=output.name,
            shape=tuple(output.shape),
            is_half=arithmetic is Arithmetic.HALVES and _type_of(output) == _HALF,
        )
        if computed_names.isdisjoint(step.reads):
            known[output.name] = _tried(artifact, step, {})
        else:
            computed_names.add(output.name)
            yield step


def _type_of(var: Any) -> str:  # noqa: ANN401  # the same
    from coremltools.converters.mil.mil import types

    return str(types.builtin_to_string(var.dtype))


def _argument(given: Any, known: Mapping[str, Any]) -> Any:  # noqa: ANN401  # the same
    if isinstance(given, list | tuple):
        return tuple(_argument(each, known) for each in given)
    return known[given.name] if given.name in known else Value(given.name)


def _raw(
    artifact: Path,
    op: Any,  # noqa: ANN401  # the same
    raw: Mapping[str, Any],
    arithmetic: Arithmetic,
) -> Any:  # noqa: ANN401  # the same
    """What a constant holds, as coremltools has it, which expands a compressed one.

    Args:
        raw: of the constants before it, which one may be compressed twice with.
    """
    (var,) = op.outputs
    if op.op_type == "const":
        return var.val
    given = {name: raw[each.name] for name, each in op.inputs.items() if each is not None}
    if op.op_type == "constexpr_cast":
        return np.float32(given["source_val"])
    if arithmetic is Arithmetic.DOUBLES and "scale" in given:
        # What is expanded has the scale's type, and would be rounded to it.
        given["scale"] = np.float64(given["scale"])
    try:
        wanted = inspect.signature(op.decompress).parameters
        return op.decompress(**{name: given.get(name) for name in wanted})
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise unreadable(artifact, TITLE, f"{var.name} cannot be expanded: {error}") from error


def _constant(held: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401  # the same
    """What kernels take: floats as a tensor of that type, numbers and their lists as they are."""
    if not isinstance(held, np.ndarray | np.generic):
        return held
    if held.ndim == 0:
        return held.item()
    if held.dtype.kind == "f":
        return torch.from_numpy(np.ascontiguousarray(held)).to(dtype)
    return tuple(held.tolist()) if held.ndim == 1 else held


def _try(artifact: Path, steps: Sequence[Step], values: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        for step in steps:
            found = _tried(artifact, step, values)
            if tuple(found.shape) != step.shape:
                raise unreadable(
                    artifact,
                    TITLE,
                    f"{step.output} has shape {tuple(found.shape)}, and {step.shape} is written",
                )
            values[step.output] = found
            for name in step.last:
                del values[name]


def _tried(artifact: Path, step: Step, values: Mapping[str, Tensor]) -> Tensor:
    try:
        return result(step, values)
    except UnknownForm as form:
        raise _unknown(artifact, step.operator, step.line, step.output, str(form)) from form
    except TypeError as error:
        # It has a parameter that the kernel does not.
        raise _unknown(artifact, step.operator, step.line, step.output, f"({error})") from error
    except (IndexError, RuntimeError, ValueError) as error:
        raise unreadable(artifact, TITLE, f"{step.output} cannot be computed: {error}") from error
