"""From a program's graph and tensors to torch's own object, and back.

Nothing here executes what a file says but operators of the closed list, and these on tensors that
have shapes and no contents.
"""

import keyword
import math
from typing import TYPE_CHECKING, Any, Final

from edgese.errors import ConversionError, InputError
from edgese.program.operators import (
    ELEMENT,
    coded,
    operator_called,
    operator_name,
    repetitions,
)
from edgese.program.values import as_json, from_json, word_of, words
from edgese.records.program import GivenTensor, HeldTensor, ProgramGraph, Result, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import Tensor, fx, nn
    from torch.export import ExportedProgram
    from torch.export.graph_signature import InputSpec, OutputSpec

# A value of more bytes is no image's; it is refused before anything is computed.
LARGEST_BYTES: Final = 2**34
# Of all operators together: tensors that they give beside one each, and how often they repeat
# something. Networks of attention have some hundred.
MOST_REPETITIONS: Final = 10_000
# What torch raises where an operator does not go with its arguments.
REFUSALS: Final = (
    RuntimeError,
    TypeError,
    ValueError,
    IndexError,
    KeyError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    NotImplementedError,
    MemoryError,
)
# Its generated code has these names for itself.
_TAKEN: Final = frozenset(
    ("self", "torch", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree")
)


def taken_apart(program: "ExportedProgram") -> "tuple[ProgramGraph, dict[str, Tensor]]":
    """Return a program's graph, and its tensors by the names that the graph has for them.

    Tensors are contiguous and share no memory. Blocks without gradients become a part of the graph.

    Raises:
        ConversionError: the program has something that no file of a program holds.
    """
    flat = program.graph
    if any(_block(node) for node in flat.nodes):
        flat = flattened(program.graph_module)
    held, tensors = _Held(program), {**program.state_dict, **program.constants}
    inputs: list[HeldTensor | GivenTensor] = []
    steps, results = [], []
    places: dict[tuple[tuple[str, str, str], ...], int] = {}
    specs = iter(program.graph_signature.input_specs)
    for node in flat.nodes:
        if node.op == "placeholder":
            spec = next(specs)
            if spec.target is None:
                inputs.append(_given(node))
            else:
                inputs.append(held.entry(node.name, spec, tensors.get(spec.target)))
        elif node.op == "call_function":
            steps.append(_step(node, places))
        elif node.op != "output":
            users = [str(user.target) for user in node.users] or [node.name]
            raise _beyond(f"the operator {users[0]}, which reads a graph of its own")
    given = flat.output_node().args[0]
    for spec, node in zip(program.graph_signature.output_specs, given, strict=True):
        results.append(_result(spec, node))
    if sum(isinstance(given, GivenTensor) for given in inputs) != 1:
        raise _beyond("another number of inputs than one")
    if sum(result.kind == "output" for result in results) != 1:
        raise _beyond("another number of outputs than one")
    graph = ProgramGraph(
        dialect="ATEN" if program.dialect == "ATEN" else "TRAINING",
        inputs=tuple(inputs),
        steps=tuple(steps),
        results=tuple(results),
        places=tuple(places),
    )
    return graph, held.tensors


def flattened(module: "nn.Module") -> "fx.Graph":
    """Return a copy of a graph in which blocks without gradients stand in line.

    `torch.no_grad()` in a module's forward becomes an operator on a graph of its own; so does
    autocast that is switched off. What is computed is the same without the block around it.
    """
    from torch import fx

    graph = fx.Graph()
    own: Any = module
    graph.output(graph.graph_copy(own.graph, {}))
    for node in list(graph.nodes):
        found = _block(node)
        if found is None:
            continue
        inner, *given = found
        part = flattened(module.get_submodule(str(inner.target)))
        inputs = [one for one in part.nodes if one.op == "placeholder"]
        with graph.inserting_before(node):
            values: Any = graph.graph_copy(part, dict(zip(inputs, given, strict=True)))
        for element in list(node.users):
            element.replace_all_uses_with(values[element.args[1]])
            graph.erase_node(element)
        graph.erase_node(node)
        if not inner.users:
            graph.erase_node(inner)
    return graph


def _block(node: "fx.Node") -> "tuple[fx.Node, ...] | None":
    """Return the graph and the arguments of a block that computes what it would without it."""
    name, args = str(node.target), node.args
    if name == "wrap_with_set_grad_enabled":
        return args[1:]  # type: ignore[return-value]  # these operators read a graph and tensors
    if name == "wrap_with_autocast" and args[2] is False:
        return args[4:]  # type: ignore[return-value]  # the same
    return None


def _beyond(what: str) -> ConversionError:
    return ConversionError(
        f"The program has {what}, and a program's file holds no such thing.",
        hint="It holds operators of ATen on tensors of fixed shapes, one image tensor in and one "
        "tensor out; write the module's forward with these.",
    )


class _Held:
    """Collects tensors; one that occurs twice is kept once."""

    def __init__(self, program: "ExportedProgram") -> None:
        self._kinds = _kinds()
        self._seen: dict[tuple[object, ...], str] = {}
        self.tensors: dict[str, Tensor] = {}
        self._program = program

    def entry(self, name: str, spec: "InputSpec", tensor: "Tensor | None") -> HeldTensor:
        import torch

        kind = {kind: name for name, kind in self._kinds.items()}.get(spec.kind)
        path = str(spec.target)
        if kind is None or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            raise _beyond(f"{path}, which is no plain tensor")
        assert tensor is not None  # noqa: S101  # its type was looked at
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise _beyond(f"{path}, which is a tensor of {tensor.layout} on {tensor.device}")
        gradient, tensor = tensor.requires_grad, tensor.detach()
        order = _order(tensor)
        identity = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        kept = self._seen.get(identity) if tensor.numel() else None
        if kept is None:
            self._seen[identity] = kept = path
            # Of its own memory, also where values of several tensors lie in one.
            self.tensors[kept] = (tensor.permute(order) if order else tensor).contiguous().clone()
        return HeldTensor(
            name=name,
            path=path,
            kind=kind,  # type: ignore[arg-type]  # one of the three
            tensor=kept,
            persistent=spec.persistent is not False,
            gradient=gradient,
            order=order,
        )


def _kinds() -> dict[str, Any]:
    from torch.export.graph_signature import InputKind

    return {
        "parameter": InputKind.PARAMETER,
        "buffer": InputKind.BUFFER,
        "constant": InputKind.CONSTANT_TENSOR,
    }


def _order(tensor: "Tensor") -> tuple[int, ...] | None:
    """Return the dimensions from the widest stride to the narrowest, where values lie otherwise."""
    if tensor.is_contiguous():
        return None
    strides = tensor.stride()
    order = tuple(sorted(range(tensor.ndim), key=lambda dimension: -strides[dimension]))
    return order if tensor.permute(order).is_contiguous() else None


def _given(node: "fx.Node") -> GivenTensor:
    import torch

    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or any(type(size) is not int for size in value.shape):
        raise _beyond(f"the input {node.name}, which is no tensor of a fixed shape")
    return GivenTensor(
        name=node.name,
        shape=tuple(value.shape),
        dtype=word_of(value.dtype),
    )


def _step(node: "fx.Node", places: dict[tuple[tuple[str, str, str], ...], int]) -> Step:
    operator = operator_name(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    place = tuple((str(key), str(path), str(kind)) for key, (path, kind, *_) in stack.items())
    if operator is None:
        where = f" in {place[-1][1]}" if place and place[-1][1] else ""
        raise _beyond(f"the operator {node.target}{where}")
    return Step(
        name=node.name,
        operator=operator,
        arguments=tuple(_plain(value, node) for value in node.args),
        named={name: _plain(value, node) for name, value in node.kwargs.items()},
        place=places.setdefault(place, len(places)) if place else -1,
    )


def _plain(value: object, node: "fx.Node") -> Any:  # noqa: ANN401  # what JSON takes
    try:
        return as_json(value)
    except TypeError as error:
        raise _beyond(f"{error}, as an argument of {node.target}") from error


def _result(spec: "OutputSpec", node: object) -> Result:
    from torch import fx
    from torch.export.graph_signature import OutputKind

    kinds: dict[Any, Any] = {
        OutputKind.USER_OUTPUT: "output",
        OutputKind.BUFFER_MUTATION: "buffer",
        OutputKind.USER_INPUT_MUTATION: "input",
    }
    if spec.kind not in kinds or not isinstance(node, fx.Node):
        raise _beyond(f"an output of the kind {spec.kind.name.lower()}")
    return Result(node=node.name, kind=kinds[spec.kind], mutates=spec.target or "")


def put_together(
    graph: ProgramGraph, tensors: "Mapping[str, Tensor]", source: str
) -> "ExportedProgram":
    """Return the program of a graph.

    Shapes are computed from the inputs', operator by operator, and not taken from anywhere.

    Args:
        tensors: by the names that the graph has for them.
        source: what messages call it.

    Raises:
        InputError: the graph is no program: an unknown operator, a value that is used before it is
            computed, arguments of the wrong kind, tensors missing or left over.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    builder = _Builder(graph, tensors, source)
    builder.hold()
    with FakeTensorMode():
        builder.compute()
    return builder.program()


class _Builder:
    def __init__(self, graph: ProgramGraph, tensors: "Mapping[str, Tensor]", source: str) -> None:
        from torch import fx

        self._description = graph
        self._tensors = tensors
        self._source = source
        self._graph = fx.Graph()
        self._nodes: dict[str, fx.Node] = {}
        self._values: dict[fx.Node, Any] = {}
        self._inputs: list[InputSpec] = []
        self._outputs: list[OutputSpec] = []
        self._state: dict[str, Tensor] = {}
        self._constants: dict[str, Any] = {}
        self._repeated = 0

    def _fault(self, what: str) -> InputError:
        return InputError(
            f"{self._source} is no program: {what}.",
            hint="It is damaged, or was not written by edgese; make it again.",
        )

    def hold(self) -> None:
        """Keep the tensors under their paths, as they lay in memory."""
        import torch

        held = [one for one in self._description.inputs if isinstance(one, HeldTensor)]
        if odd := {one.tensor for one in held} ^ set(self._tensors):
            raise self._fault(f"{', '.join(sorted(odd)[:3])} is in its graph or its tensors alone")
        for one in held:
            tensor, order = self._tensors[one.tensor], one.order
            if order is not None:
                if sorted(order) != list(range(tensor.ndim)):
                    raise self._fault(f"{one.path} has no dimensions {order}")
                tensor = tensor.permute([order.index(d) for d in range(tensor.ndim)])
            parts = one.path.split(".")
            if "" in parts or any(part.startswith("__") for part in parts):
                raise self._fault(f"a tensor is called {one.path}")
            if one.path in self._state or one.path in self._constants:
                raise self._fault(f"two tensors are called {one.path}")
            if one.kind == "parameter":
                if one.gradient and not tensor.is_floating_point():
                    raise self._fault(f"{one.path} is of {tensor.dtype} and cannot be trained")
                self._state[one.path] = torch.nn.Parameter(tensor, requires_grad=one.gradient)
            elif one.kind == "buffer" and one.persistent:
                self._state[one.path] = tensor
            else:
                self._constants[one.path] = tensor

    def compute(self) -> None:
        """Put the nodes down, with the shapes of their values; in a FakeTensorMode."""
        import torch

        with torch.no_grad():
            for given in self._description.inputs:
                self._input(given)
            for step in self._description.steps:
                self._step(step)
        self._results()

    def _add(self, name: str, make: "Callable[[], fx.Node]") -> "fx.Node":
        if name in self._nodes:
            raise self._fault(f"two values are called {name}")
        if keyword.iskeyword(name) or name in _TAKEN:
            raise self._fault(f"a value is called {name}, which Python has for itself")
        self._nodes[name] = node = make()
        # torch.fx makes another name of a builtin's, such as input, and programs have those.
        node.name = name
        return node

    def _input(self, given: "HeldTensor | GivenTensor") -> None:
        from torch.export.graph_signature import InputKind, InputSpec, TensorArgument

        node = self._add(given.name, lambda: self._graph.placeholder(given.name))
        argument = TensorArgument(name=node.name)
        if isinstance(given, GivenTensor):
            dtype = words()["dtype"].get(given.dtype)
            if dtype is None:
                raise self._fault(f"the input {given.name} is of {given.dtype}")
            self._set(node, self._empty(given.shape, dtype, None))
            self._inputs.append(InputSpec(InputKind.USER_INPUT, argument, None))
            return
        tensor = self._state.get(given.path, self._constants.get(given.path))
        assert tensor is not None  # noqa: S101  # hold has put it there
        self._set(node, self._empty(tensor.shape, tensor.dtype, tensor.stride()))
        self._inputs.append(
            InputSpec(
                _kinds()[given.kind],
                argument,
                given.path,
                given.persistent if given.kind == "buffer" else None,
            )
        )

    def _empty(
        self, shape: tuple[int, ...], dtype: "torch.dtype", strides: tuple[int, ...] | None
    ) -> "Tensor":
        import torch

        if math.prod(shape) * dtype.itemsize > LARGEST_BYTES:
            raise self._fault(f"it has a tensor of {'x'.join(map(str, shape))}")
        # In a FakeTensorMode: nothing is allocated.
        if strides is None:
            return torch.empty(shape, dtype=dtype)
        return torch.empty_strided(shape, strides, dtype=dtype)

    def _step(self, step: Step) -> None:
        operator: Any = operator_called(step.operator)
        if operator is None:
            raise self._fault(f"{step.name} is of the unknown operator {step.operator!r}")
        try:
            args = [from_json(value, self._nodes) for value in step.arguments]
            named = {name: from_json(value, self._nodes) for name, value in step.named.items()}
        except ValueError as error:
            raise self._fault(f"{step.name}: {error}") from error
        node = self._add(
            step.name,
            lambda: self._graph.create_node(
                "call_function", operator, tuple(args), named, name=step.name
            ),
        )
        self._set(node, self._computed(step, node))
        if step.place >= len(self._description.places):
            raise self._fault(f"{step.name} is in no known place")
        stack = self._description.places[step.place] if step.place >= 0 else ()
        node.meta["nn_module_stack"] = {key: (path, kind) for key, path, kind in stack}

    def _computed(self, step: Step, node: "fx.Node") -> Any:  # noqa: ANN401  # what operators give
        from torch.fx.node import map_arg

        given: Any = map_arg(node.args, self._values.__getitem__)
        named: Any = map_arg(node.kwargs, self._values.__getitem__)
        if step.operator == ELEMENT and not (
            len(given) == 2
            and not named
            and isinstance(given[0], list | tuple)
            and type(given[1]) is int
        ):
            raise self._fault(f"{step.name} is an element of something that has none")
        operator: Any = node.target
        if step.operator != ELEMENT:
            if odd := coded(operator, given, named):
                raise self._fault(f"{step.name} has a number as its {odd}")
            self._repeated += repetitions(operator, given, named)
            if self._repeated > MOST_REPETITIONS:
                raise self._fault(f"{step.name} divides or repeats something too often")
        try:
            return operator(*given, **named)
        except REFUSALS as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise self._fault(f"{step.name} is no {step.operator}: {lines[0][:300]}") from error

    def _set(self, node: "fx.Node", value: Any) -> None:  # noqa: ANN401  # what operators give
        import torch

        self._values[node] = value
        several = value if isinstance(value, list | tuple) else [value]
        for one in several:
            if isinstance(one, torch.Tensor) and one.numel() * one.itemsize > LARGEST_BYTES:
                raise self._fault(f"{node.name} has the shape {tuple(one.shape)}")
        # A copy: an operator in place may change the value's shape later.
        shown = [one.detach() if isinstance(one, torch.Tensor) else one for one in several]
        node.meta["val"] = type(value)(shown) if isinstance(value, list | tuple) else shown[0]

    def _results(self) -> None:
        import torch
        from torch.export.graph_signature import OutputKind, OutputSpec, TensorArgument

        kinds = {
            "output": OutputKind.USER_OUTPUT,
            "buffer": OutputKind.BUFFER_MUTATION,
            "input": OutputKind.USER_INPUT_MUTATION,
        }
        given = [one.name for one in self._description.inputs if isinstance(one, GivenTensor)]
        kept = [result for result in self._description.results if result.kind == "output"]
        if len(given) != 1 or len(kept) != 1:
            raise self._fault(f"it has {len(given)} inputs and {len(kept)} outputs")
        nodes = []
        for result in self._description.results:
            node = self._nodes.get(result.node)
            if node is None or not isinstance(self._values[node], torch.Tensor):
                raise self._fault(f"its output {result.node} is no tensor of it")
            target = None
            if result.kind == "input":
                if result.mutates not in given:
                    raise self._fault(f"it changes {result.mutates}, which is no input")
                target = self._nodes[result.mutates].name
            elif result.kind == "buffer":
                if result.mutates not in {**self._state, **self._constants}:
                    raise self._fault(f"it changes {result.mutates}, which is no buffer")
                target = result.mutates
            nodes.append(node)
            self._outputs.append(
                OutputSpec(kinds[result.kind], TensorArgument(name=node.name), target)
            )
        self._graph.output(tuple(nodes))

    def program(self) -> "ExportedProgram":
        """Return torch's object."""
        import torch
        from torch._export.verifier import TrainingIRVerifier, Verifier
        from torch.export import ExportedProgram
        from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
        from torch.export.graph_signature import ExportGraphSignature
        from torch.utils._pytree import tree_flatten

        (given,) = (one for one in self._description.inputs if isinstance(one, GivenTensor))
        dtype = words()["dtype"].get(given.dtype)
        example: Any = ((torch.zeros(given.shape, dtype=dtype),), {})
        signature = ModuleCallSignature(
            inputs=[],
            outputs=[],
            in_spec=tree_flatten(example)[1],
            out_spec=tree_flatten(example[0][0])[1],
            forward_arg_names=[self._nodes[given.name].name],
        )
        verifier = Verifier if self._description.dialect == "ATEN" else TrainingIRVerifier
        try:
            return ExportedProgram(
                root=torch.nn.Module(),
                graph=self._graph,
                graph_signature=ExportGraphSignature(self._inputs, self._outputs),
                state_dict=self._state,
                range_constraints={},
                module_call_graph=[ModuleCallEntry(fqn="", signature=signature)],
                example_inputs=example,
                constants=self._constants,
                verifiers=[verifier],
            )
        except REFUSALS as error:
            raise self._fault(str(error).strip().partition("\n")[0][:300]) from error
