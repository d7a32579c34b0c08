"""Refuses a network whose answer for an image is no function of that image alone.

An artifact has no random numbers, no memory, and one batch size. What a module does with any of
these is lost in it, and lost without a trace where the reference is computed in the same way: at a
batch of 1 a mean over the batch is the image itself.
"""

from typing import TYPE_CHECKING, Final

from edgese.errors import ConfigError, ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray
    from torch import fx
    from torch.export import ExportedProgram

# Of the largest output: a hundred times what sums in another order round a deep network by.
_SAME: Final = 1e-3


def check_operators(program: "ExportedProgram", name: str) -> None:
    """Refuse operators that draw random numbers or compute as in a training, and state that lasts.

    Args:
        program: as exported, before anything in it is rewritten.
        name: of the model.

    Raises:
        ConversionError: the program has one; names the operator and its module.
    """
    from edgese.program.canonical import described
    from edgese.program.nodes import argument_of, is_random

    for node in program.graph.nodes:
        if node.op != "call_function" or _is_unread(node):
            continue
        if is_random(node):
            raise ConversionError(
                f"{name} draws random numbers with {described(node)}, also in evaluation mode: "
                "its answer for an image is another one each time.",
                hint="Take the operator out of the forward, or make it depend on the mode: "
                "torch.nn.Dropout, or training=self.training.",
            )
        if "batch_norm" in str(node.target) and argument_of(node, "training"):
            raise ConversionError(
                f"{name} normalizes with the statistics of the batch in {described(node)}, also "
                "in evaluation mode: its answer for an image depends on the images beside it.",
                hint="Put the module into evaluation mode, and train it with "
                "track_running_stats=True.",
            )
    if state := _state(program):
        raise ConversionError(
            f"{name} changes its own {state} in its forward and computes with it: its answer for "
            "an image depends on those before it.",
            hint="Compute with values that stay: an artifact keeps nothing from run to run.",
        )


def _is_unread(node: "fx.Node") -> bool:
    """Whether nobody can see what a node does."""
    schema = getattr(node.target, "_schema", None)
    return not node.users and not (schema is not None and schema.is_mutable)


def _state(program: "ExportedProgram") -> str:
    """The name of a held tensor that the program changes and computes with; "" for none."""
    if not _writes_held(program):
        return ""
    # Without operators that work in place, edges tell what depends on what.
    functional = program.run_decompositions({})
    signature = functional.graph_signature
    changed = {*signature.buffers_to_mutate.values(), *signature.parameters_to_mutate.values()}
    outputs = {*signature.user_outputs}
    needed = _ancestors(node for node in functional.graph.nodes if node.name in outputs)
    return next(
        (
            str(spec.target)
            for spec in signature.input_specs
            if spec.target in changed and spec.arg.name in {node.name for node in needed}
        ),
        "",
    )


def _writes_held(program: "ExportedProgram") -> bool:
    """Whether an operator may write into what the program holds, as its schema has it."""
    given = set(program.graph_signature.user_inputs)
    held: set[fx.Node] = set()
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name not in given:
            held.add(node)
        schema = getattr(node.target, "_schema", None)
        for argument, value in zip(schema.arguments if schema else (), node.args, strict=False):
            if argument.alias_info is not None and value in held:
                if argument.alias_info.is_write:
                    return True
                held.add(node)
    return False


def _ancestors(nodes: "Iterable[fx.Node]") -> "set[fx.Node]":
    found: set[fx.Node] = set()
    ahead = list(nodes)
    while ahead:
        node = ahead.pop()
        if node not in found:
            found.add(node)
            ahead.extend(node.all_input_nodes)
    return found


def check_answers(
    run: "Callable[[NDArray[np.float32]], NDArray[np.float32]]",
    pictures: "NDArray[np.float32]",
    batch: int,
    name: str,
) -> bool:
    """Refuse a network whose answer for an image changes by itself, or with other images beside it.

    Args:
        run: gives the network's own outputs, (N, classes), for images of any N; a ConfigError
            where it takes no such N.
        pictures: (count, 3, H, W), of which the first is asked about.
        batch: that the artifact will have.
        name: of the model.

    Returns:
        Whether the network takes other batches than ``batch`` too.

    Raises:
        ConversionError: the answer changes.
    """
    import numpy as np

    image = pictures[0]
    alone = run(np.stack([image] * batch))
    if not same(run(np.stack([image] * batch)), alone):
        raise ConversionError(
            f"{name} gives another answer for the same image when it is asked again.",
            hint="Its forward must not draw random numbers or keep anything from run to run; "
            "in evaluation mode either is lost in an artifact.",
        )
    takes_any = True
    # Weaker and stronger: a maximum over the batch shows beside the one or the other.
    for factor in (0.5, -2.0):
        other = factor * image[:, ::-1, ::-1]
        try:
            mixed = run(np.stack([image] + [other] * batch))
        except ConfigError:
            takes_any = False
            if batch == 1:
                break
            mixed = run(np.stack([image] + [other] * (batch - 1)))
        if not same(mixed[:1], alone[:1]):
            raise ConversionError(
                f"What {name} answers for an image depends on the other images of the batch.",
                hint="Its forward must treat each image by itself: no mean, sum, maximum or "
                "softmax over the batch, and no view that moves values from one image to another.",
            )
    return takes_any


def same(found: "NDArray[np.float32]", expected: "NDArray[np.float32]") -> bool:
    """Return whether outputs are equal but for the order in which floats were summed."""
    import numpy as np

    finite = np.abs(expected[np.isfinite(expected)])
    tolerance = _SAME * float(finite.max(initial=0.0))
    return found.shape == expected.shape and bool(
        np.allclose(found, expected, rtol=0, atol=tolerance, equal_nan=True)
    )
