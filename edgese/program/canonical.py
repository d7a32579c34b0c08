"""Brings an exported program into the few operators that every integer runtime has.

Each rewriting computes the same in floats. What it buys is that no runtime has to have an integer
form of hard-sigmoid, hard-swish or tanh: they become convolutions, sums, products and sigmoids,
which all of them have, and clamps, which the saturation of a grid does for nothing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import fx

from edgese.errors import ConversionError
from edgese.program.nodes import arguments, computed_nodes, is_random

if TYPE_CHECKING:
    from torch.export import ExportedProgram

aten = torch.ops.aten

# They hand on what they were given; dropout does where it draws nothing.
_NOTHING: Final = (
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.alias.default,
)


def canonical(program: "ExportedProgram") -> fx.GraphModule:
    """Return the program as a graph module of its own, in canonical operators, for any batch.

    Its weights are copies, so that correcting them leaves the program as it was.

    Args:
        program: fp32, one input (N, 3, H, W), one output.

    Raises:
        ConversionError: it pads with something else than zeros, clamps one side alone, draws
            random numbers, or reshapes a batch of images into another number of them.
    """
    for node in _calls(program.graph):
        if is_random(node):
            raise ConversionError(
                f"The program draws random numbers with {described(node)}.",
                hint="Dropout must depend on the mode: nn.Dropout, or training=self.training.",
            )
    if any(_works_in_place(node) for node in _calls(program.graph)):
        # A later reader of what was changed in place means the changed one.
        program = program.run_decompositions({})
    module = _plain(program)
    _fold_constants(module)
    held = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in held:
        set_tensor(module, name, tensor.detach().clone(memory_format=torch.contiguous_format))
    _untie(module)
    for node in list(module.graph.nodes):
        if node.op == "call_function" and (rewrite := _REWRITES.get(node.target)):
            rewrite(module, node)
    for node in list(_calls(module.graph)):
        if node.target in _NOTHING:
            node.replace_all_uses_with(_source(node))
            module.graph.erase_node(node)
    tidy(module)
    return module


def _plain(program: "ExportedProgram") -> fx.GraphModule:
    """The program's graph in a module of tensor to tensor, for any batch.

    The module that a program gives checks the size of its input and unpacks containers, which one
    tensor has no need of.
    """
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)  # noqa: S101  # what a program's module is
    graph = fx.Graph()
    output = graph.graph_copy(module.graph, {})
    if isinstance(output, tuple | list):
        (output,) = output
    graph.output(output)
    for node in graph.find_nodes(op="call_function", target=aten.copy_.default):
        # What the program leaves in its input or its buffers is not its answer.
        node.replace_all_uses_with(node.args[1])
        graph.erase_node(node)
    return fx.GraphModule(module, graph)


def _works_in_place(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _fold_constants(module: fx.GraphModule) -> None:
    """Compute once what does not depend on the input, such as a normalized weight."""
    computed = computed_nodes(module.graph)
    known: dict[fx.Node, Any] = {}
    for node in list(module.graph.nodes):
        if node in computed or node.op == "output":
            continue
        if node.op == "get_attr":
            known[node] = tensor_of(module, node)
            continue
        target: Any = node.target
        with torch.no_grad():
            known[node] = target(
                *fx.node.map_arg(node.args, known.__getitem__),
                **fx.node.map_arg(node.kwargs, known.__getitem__),
            )
        if isinstance(known[node], torch.Tensor) and computed.intersection(node.users):
            attribute = f"_folded_{node.name}"
            module.register_buffer(attribute, known[node])
            with module.graph.inserting_before(node):
                folded = module.graph.get_attr(attribute)
            folded.meta = dict(node.meta)
            node.replace_all_uses_with(folded)
    tidy(module)


def _untie(module: fx.GraphModule) -> None:
    """Gives each operator tensors of its own, so that changing one's leaves the others'."""
    seen: set[str] = set()
    for node in module.graph.find_nodes(op="get_attr"):
        for index, user in enumerate(tuple(node.users)):
            if index == 0 and str(node.target) not in seen:
                seen.add(str(node.target))
                continue
            attribute = f"_own_{node.name}_{index}"
            module.register_buffer(attribute, tensor_of(module, node).clone())
            with module.graph.inserting_before(user):
                own = module.graph.get_attr(attribute)
            own.meta = dict(node.meta)
            user.replace_input_with(node, own)


def tidy(module: fx.GraphModule) -> None:
    """Takes out what nobody reads, and makes the code anew."""
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.graph.lint()
    module.recompile()


def set_tensor(module: fx.GraphModule, name: str, value: torch.Tensor) -> None:
    """Puts a tensor under a name that may have dots, as a buffer; nothing here is trained."""
    parent, _, attribute = name.rpartition(".")
    owner = module.get_submodule(parent)
    if hasattr(owner, attribute):
        delattr(owner, attribute)
    owner.register_buffer(attribute, value)


def tensor_of(module: fx.GraphModule, node: object) -> torch.Tensor:
    """The tensor that a ``get_attr`` node stands for."""
    assert isinstance(node, fx.Node), node  # noqa: S101  # callers looked
    assert node.op == "get_attr", node  # noqa: S101  # the same
    parent, _, attribute = str(node.target).rpartition(".")
    found: torch.Tensor = getattr(module.get_submodule(parent), attribute)
    return found


def place(node: fx.Node) -> str:
    """The path of the module that an operator came from; "" for the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(next(reversed(stack.values()))[0]) if stack else ""


def described(node: fx.Node) -> str:
    """An operator for an error's message: what it is, and where it stands."""
    where = place(node)
    return f"{node.target}" + (f" in {where}" if where else "")


def constant(module: fx.GraphModule, like: fx.Node, name: str, value: float) -> fx.Node:
    """A number as a tensor that broadcasts over pictures; inserted at the graph's insert point."""
    rank = like.meta["val"].ndim
    attribute = f"_constant_{name}"
    tensor = torch.full((1,) * rank, value)
    module.register_buffer(attribute, tensor)
    node = module.graph.get_attr(attribute)
    node.meta["val"] = tensor
    return node


def _calls(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "call_function"]


def _insert(
    module: fx.GraphModule, origin: fx.Node, target: Callable[..., Any], *args: object
) -> fx.Node:
    """An operator in place of (a part of) another one, with its whereabouts."""
    node = module.graph.call_function(target, args)  # type: ignore[arg-type]  # what operators take
    node.meta = {key: origin.meta[key] for key in ("nn_module_stack", "val") if key in origin.meta}
    return node


def _source(node: fx.Node) -> fx.Node:
    source = node.args[0]
    assert isinstance(source, fx.Node)  # noqa: S101  # an operator reads a tensor first
    return source


def _replace(module: fx.GraphModule, node: fx.Node, new: fx.Node) -> None:
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)


def _relu(module: fx.GraphModule, node: fx.Node) -> None:
    """One form of all clamps: ``hardtanh(x, low, high)``, or ``relu``."""
    low, high = _bounds(node)
    with module.graph.inserting_before(node):
        if low == 0 and high is None:
            new = _insert(module, node, aten.relu.default, _source(node))
        elif low is None or high is None:
            raise ConversionError(
                f"The program clamps one side alone with {described(node)}.",
                hint="Clamp both sides, or take torch.nn.ReLU.",
            )
        else:
            new = _insert(module, node, aten.hardtanh.default, _source(node), low, high)
    _replace(module, node, new)


def _bounds(node: fx.Node) -> tuple[float | None, float | None]:
    # Defaults are the operators' own: relu6 is 0 to 6, hardtanh -1 to 1, a clamp is open.
    if node.target is aten.relu6.default:
        return 0.0, 6.0
    default: list[object] = [-1.0, 1.0] if node.target is aten.hardtanh.default else [None, None]
    given: list[object] = [*node.args[1:3]]
    low, high = given + default[len(given) :]
    low, high = node.kwargs.get("min", low), node.kwargs.get("max", high)
    assert isinstance(low, int | float | None)  # noqa: S101  # numbers in these operators
    assert isinstance(high, int | float | None)  # noqa: S101  # the same
    return None if low is None else float(low), None if high is None else float(high)


def _silu(module: fx.GraphModule, node: fx.Node) -> None:
    x = _source(node)
    with module.graph.inserting_before(node):
        gate = _insert(module, node, aten.sigmoid.default, x)
        new = _insert(module, node, aten.mul.Tensor, x, gate)
    _replace(module, node, new)


def _hard_sigmoid(module: fx.GraphModule, node: fx.Node) -> None:
    with module.graph.inserting_before(node):
        sixth = _scaled(module, node, _source(node), 1 / 6, 0.5)
        new = _insert(module, node, aten.hardtanh.default, sixth, 0.0, 1.0)
    _replace(module, node, new)


def _hard_swish(module: fx.GraphModule, node: fx.Node) -> None:
    x = _source(node)
    with module.graph.inserting_before(node):
        shifted = _insert(
            module, node, aten.add.Tensor, x, constant(module, x, f"{node.name}_3", 3.0)
        )
        clamped = _insert(module, node, aten.hardtanh.default, shifted, 0.0, 6.0)
        gate = _insert(
            module,
            node,
            aten.mul.Tensor,
            clamped,
            constant(module, x, f"{node.name}_6th", 1 / 6),
        )
        new = _insert(module, node, aten.mul.Tensor, x, gate)
    _replace(module, node, new)


def _tanh(module: fx.GraphModule, node: fx.Node) -> None:
    """``2 sigmoid(2 x) - 1``."""
    x = _source(node)
    with module.graph.inserting_before(node):
        double = _scaled(module, node, x, 2.0, 0.0)
        gate = _insert(module, node, aten.sigmoid.default, double)
        spread = _insert(
            module, node, aten.mul.Tensor, gate, constant(module, x, f"{node.name}_2", 2.0)
        )
        new = _insert(
            module, node, aten.add.Tensor, spread, constant(module, x, f"{node.name}_1", -1.0)
        )
    _replace(module, node, new)


def _scaled(
    module: fx.GraphModule, origin: fx.Node, x: fx.Node, factor: float, offset: float
) -> fx.Node:
    """``factor * x + offset``: inside a convolution that nobody else reads, for nothing."""
    if x.target is aten.conv2d.default and len(x.users) == 1:
        weight, bias = x.args[1], x.args[2] if len(x.args) > 2 else None
        scaled = tensor_of(module, weight) * factor
        set_tensor(module, str(weight.target), scaled)  # type: ignore[union-attr]  # a node
        shift = torch.full((scaled.shape[0],), offset)
        if bias is not None:
            set_tensor(module, str(bias.target), tensor_of(module, bias) * factor + shift)  # type: ignore[union-attr]  # a node
        elif offset:
            attribute = f"_bias_{x.name}"
            module.register_buffer(attribute, shift)
            with module.graph.inserting_before(x):
                added = module.graph.get_attr(attribute)
            x.args = (*x.args[:2], added, *x.args[3:])
        return x
    new = _insert(
        module, origin, aten.mul.Tensor, x, constant(module, x, f"{origin.name}_factor", factor)
    )
    if not offset:
        return new
    return _insert(
        module, origin, aten.add.Tensor, new, constant(module, x, f"{origin.name}_offset", offset)
    )


def _pad(module: fx.GraphModule, node: fx.Node) -> None:
    _, amounts, *rest = arguments(node)
    mode, value = rest if len(rest) == 2 else ("constant", rest[0])
    if mode != "constant" or value not in (None, 0, 0.0):
        raise ConversionError(
            f"The program pads with {value if mode == 'constant' else mode} in {described(node)}.",
            hint="Pad with zeros: they are a code of every grid.",
        )
    with module.graph.inserting_before(node):
        new = _insert(module, node, aten.constant_pad_nd.default, _source(node), amounts, 0.0)
    _replace(module, node, new)


def _conv_same(module: fx.GraphModule, node: fx.Node) -> None:
    """A convolution whose padding is a word: as numbers."""
    defaults: tuple[Any, ...] = (None, [1, 1], "valid", [1, 1], 1)
    given: tuple[Any, ...] = node.args
    x, weight, bias, stride, padding, dilation, groups = (*given, *defaults[len(given) - 2 :])
    sides = tensor_of(module, weight).shape[2:]
    total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, sides, strict=True)]
    if any(amount % 2 for amount in total):
        raise ConversionError(
            f"The padding of {described(node)} is uneven.", hint="Pad with torch.nn.ZeroPad2d."
        )
    with module.graph.inserting_before(node):
        half = [amount // 2 for amount in total]
        new = _insert(
            module, node, aten.conv2d.default, x, weight, bias, stride, half, dilation, groups
        )
    _replace(module, node, new)


def _number(module: fx.GraphModule, node: fx.Node) -> None:
    """A sum or product with a plain number as one with a tensor, and ``x + a y`` as two."""
    x, other = node.args[:2]
    factor: Any = node.kwargs.get("alpha", 1)
    node.kwargs = {}
    with module.graph.inserting_before(node):
        if isinstance(x, fx.Node) and isinstance(other, int | float):
            node.args = (x, constant(module, x, node.name, float(other * factor)))
        elif factor != 1 and isinstance(other, fx.Node) and other.op == "get_attr":
            set_tensor(module, str(other.target), tensor_of(module, other) * factor)
        elif factor != 1 and isinstance(other, fx.Node):
            node.args = (x, _scaled(module, node, other, float(factor), 0.0))


def _reshape(module: fx.GraphModule, node: fx.Node) -> None:
    """A change of shape for any batch: what is one row an image is a flatten."""
    x, shape = _source(node), tuple(node.meta["val"].shape)
    before = tuple(x.meta["val"].shape)
    if not before or not shape or before[0] != shape[0]:
        raise ConversionError(
            f"The program reshapes {before} to {shape} in {described(node)}, so that the first "
            "dimension is no longer the images of the batch.",
            hint="Keep it as it is: x.flatten(1), or x.view(x.shape[0], ...).",
        )
    if shape == before:
        _replace(module, node, x)
        return
    with module.graph.inserting_before(node):
        if len(shape) == 2:
            new = _insert(module, node, aten.flatten.using_ints, x, 1)
        else:
            new = _insert(module, node, aten.reshape.default, x, [-1, *shape[1:]])
    _replace(module, node, new)


_REWRITES: Final[dict[object, Callable[[fx.GraphModule, fx.Node], None]]] = {
    aten.relu6.default: _relu,
    aten.hardtanh.default: _relu,
    aten.clamp.default: _relu,
    aten.clamp_min.default: _relu,
    aten.silu.default: _silu,
    aten.hardsigmoid.default: _hard_sigmoid,
    aten.hardswish.default: _hard_swish,
    aten.tanh.default: _tanh,
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _pad,
    aten.conv2d.padding: _conv_same,
    aten.add.Tensor: _number,
    aten.mul.Tensor: _number,
    aten.view.default: _reshape,
    aten.reshape.default: _reshape,
    aten.flatten.using_ints: _reshape,
}
