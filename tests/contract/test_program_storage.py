"""Programs on disk: what is read is exactly what was written, and nothing that a file says runs."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from edgese import catalog  # noqa: E402
from edgese.errors import ConversionError, InputError  # noqa: E402
from edgese.program.integers import integer_outputs  # noqa: E402
from edgese.program.storage import read_program, write_program  # noqa: E402
from edgese.quantization.ptq import quantized  # noqa: E402

KEY = "edgese.program"


class Plain(nn.Module):
    """Tied weights, a buffer, a constant, operators in place, several results, casts."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.second.weight = self.first.weight
        self.register_buffer("steps", torch.arange(8.0).view(1, 8, 1, 1))
        self.register_buffer("passing", torch.full((1,), 0.1), persistent=False)
        self.norm, self.act = nn.BatchNorm2d(8), nn.ReLU6(inplace=True)
        self.head = nn.Linear(8, 4)

    def forward(self, input):  # noqa: A002, D102  # a builtin's name is the point
        left, right = self.first(input).chunk(2, 1)
        y = self.act(self.norm(self.second(input))) * self.steps + self.passing
        y = y + torch.cat([left, right], 1) + torch.tensor(2.0)
        y = y.half().float().masked_fill(y > 1e9, float("inf")).clamp(-1e9)
        return self.head(y.max(dim=2).values.mean(-1))


class WithoutGradients(Plain):
    """A block without gradients."""

    def forward(self, x):  # noqa: D102
        with torch.no_grad():
            return super().forward(x) * 2


class WithoutAutocast(Plain):
    """Blocks within a block."""

    def forward(self, x):  # noqa: D102
        with torch.autocast("cpu", enabled=False), torch.no_grad():
            y = super().forward(x)
        return y * 3


class Attention(nn.Module):
    """What a transformer has."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.act, self.head = nn.GELU("tanh"), nn.Linear(16, 4)

    def forward(self, x):  # noqa: D102
        y = self.norm(self.patches(x).flatten(2).transpose(1, 2))
        y = y + self.attention(y, y, y, need_weights=False)[0]
        return self.head(self.act(y).mean(1))


class Odd(nn.Module):
    """Names with dots and dashes, a scalar parameter, a mutated buffer, padding by a word."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"conv-1": nn.Conv2d(3, 4, 3, padding="same", bias=False)})
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("seen", torch.zeros(1))
        self.empty = nn.Parameter(torch.zeros(0, 3))

    def forward(self, x):  # noqa: D102
        self.seen.add_(1)
        y = nn.functional.interpolate(self.parts["conv-1"](x), scale_factor=2.0, mode="bilinear")
        return (y * self.scale + self.seen).amax((2, 3)) + self.empty.sum()


def exported(module):
    torch.manual_seed(0)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape) + 0.1)
    return torch.export.export(module.eval(), (torch.zeros(2, 3, 8, 8),))


def output(program):
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return program.module(check_guards=False)(x).numpy()


def kept(program, tmp_path, name="a.program"):
    write_program(program, tmp_path / name)
    return read_program(tmp_path / name)


@pytest.mark.parametrize(
    "module", [Plain, WithoutGradients, WithoutAutocast, Attention, Odd], ids=lambda m: m.__name__
)
def test_what_is_read_is_what_was_written_to_the_bit(module, tmp_path):
    program = exported(module())
    read = kept(program, tmp_path)
    again = kept(read, tmp_path, "b.program")
    np.testing.assert_array_equal(output(read), output(program))
    assert (tmp_path / "a.program").read_bytes() == (tmp_path / "b.program").read_bytes()
    assert str(again.graph) == str(read.graph)


@pytest.mark.parametrize("module", [Plain, Attention], ids=lambda m: m.__name__)
def test_a_read_program_has_the_names_shapes_and_places_of_the_written_one(module, tmp_path):
    program = exported(module())
    read = kept(program, tmp_path)
    assert str(read.graph_signature) == str(program.graph_signature)
    for one, other in zip(program.graph.nodes, read.graph.nodes, strict=True):
        assert (one.op, one.name, one.target) == (other.op, other.name, other.target) or (
            one.op == "placeholder"
        )
        value = one.meta.get("val")
        if isinstance(value, torch.Tensor):
            found = other.meta["val"]
            assert (value.shape, value.dtype) == (found.shape, found.dtype)
        if one.op == "call_function":
            assert one.meta["nn_module_stack"] == other.meta["nn_module_stack"]


def test_weights_keep_their_ties_and_how_they_lie_in_memory(tmp_path):
    module = Plain().to(memory_format=torch.channels_last)
    program = exported(module)
    read = kept(program, tmp_path)
    assert read.state_dict["first.weight"].stride() == program.state_dict["first.weight"].stride()
    assert read.state_dict["first.weight"].stride() != (27, 9, 3, 1)
    one, other = (read.state_dict[f"{name}.weight"] for name in ("first", "second"))
    assert one.data_ptr() == other.data_ptr()
    assert "second.weight" not in tensors_of(tmp_path / "a.program")
    np.testing.assert_array_equal(output(read), output(program))


def test_decomposed_programs_are_kept_too(tmp_path):
    program = exported(Odd()).run_decompositions({})
    read = kept(program, tmp_path)
    assert read.dialect == program.dialect == "ATEN"
    assert "seen" in read.graph_signature.buffers_to_mutate.values()
    np.testing.assert_array_equal(output(read), output(program))


class Looks(nn.Module):
    """A branch on a value."""

    def forward(self, x):  # noqa: D102
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,)).mean((2, 3))


class Counts(nn.Module):
    """A size that depends on values."""

    def forward(self, x):  # noqa: D102
        return x.flatten()[torch.nonzero(x.flatten())[:, 0]].sum().view(1, 1)


class Two(nn.Module):
    """Two results."""

    def forward(self, x):  # noqa: D102
        return x.mean((2, 3)), x


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Looks, "cond"),
        (Counts, "sym_size|sym_constrain|nonzero|_assert_scalar|u0"),
        (Two, "number of outputs"),
    ],
)
def test_what_no_file_holds_is_named(module, said, tmp_path):
    with pytest.raises(ConversionError, match=said):
        write_program(torch.export.export(module(), (torch.zeros(2, 3, 8, 8),)), tmp_path / "a")


def tensors_of(path):
    from safetensors.torch import load_file

    return load_file(path)


def edited(path, edit):
    """Write a program's file anew with another graph, tensors or header."""
    from safetensors.torch import save_file

    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    graph = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"][KEY])
    tensors = tensors_of(path)
    edit(graph, tensors)
    save_file(tensors, path, metadata={KEY: json.dumps(graph)})


def step(graph, operator):
    return next(one for one in graph["steps"] if one["operator"] == operator)


def held(graph):
    return next(one for one in graph["inputs"] if one["type"] == "held")


def given(graph):
    return next(one for one in graph["inputs"] if one["type"] == "given")


def changes(find, /, *names, **values):
    """An edit that changes keys of one part of a graph."""
    return lambda graph, _: find(graph, *names).update(values)


def deep(graph, _):
    value = []
    for _ in range(50):
        value = [value]
    step(graph, "aten.linear.default")["arguments"] = value


def more(*steps):
    """An edit that puts steps behind the others: operators with their arguments."""

    def edit(graph, _):
        for index, (operator, *arguments) in enumerate(steps):
            one = {"name": f"more{index}", "operator": operator, "arguments": arguments}
            graph["steps"].append(one)

    return edit


LINEAR = "aten.linear.default"
BYTES = ("aten.zeros.default", [2**33])
BEHIND = {"node": "more0"}
OFTEN = "too often"
FAULTS = {
    # Each of them never ended, or filled the memory.
    "2^33 parts": (more(BYTES, ("aten.split.Tensor", BEHIND, 1)), "shape|too often"),
    "a part a value": (more(("aten.zeros.default", [2**20]), ("aten.unbind.int", BEHIND)), OFTEN),
    "parts of one": (
        more(("aten.zeros.default", [2**20]), ("aten.split.Tensor", BEHIND, 1)),
        OFTEN,
    ),
    "chunks": (more(("aten.zeros.default", [2**20]), ("aten.chunk.default", BEHIND, 2**20)), OFTEN),
    "sections": (
        more(("aten.zeros.default", [4]), ("aten.tensor_split.sections", BEHIND, 10**6)),
        OFTEN,
    ),
    "parts of parts": (
        more(("aten.zeros.default", [2**12]), *[("aten.unbind.int", BEHIND)] * 4),
        OFTEN,
    ),
    "copies": (
        more(("aten.zeros.default", [4]), ("aten.meshgrid.default", [BEHIND] * 20_000)),
        OFTEN,
    ),
    "differences": (more(("aten.zeros.default", [4]), ("aten.diff.default", BEHIND, 10**9)), OFTEN),
    "combinations": (
        more(("aten.zeros.default", [4]), ("aten.combinations.default", BEHIND, 10**9)),
        OFTEN,
    ),
    "a dtype as a number": (
        more(("aten.zeros.default", [4]), ("aten.softmax.int", BEHIND, 0, 10**7)),
        "a number as its dtype",
    ),
    "an operator of TorchScript": (more(("aten.as_tensor.int", 3)), "unknown operator"),
    "unknown operator": (
        changes(step, LINEAR, operator="aten.nothing.default"),
        "unknown operator",
    ),
    "an operator on files": (
        changes(
            step,
            LINEAR,
            operator="aten.from_file.default",
            arguments=[{"text": "marker"}, True, 4],
        ),
        "unknown operator",
    ),
    "a function of torch": (changes(step, LINEAR, operator="torch.os.mkdir"), "unknown operator"),
    "a library": (changes(step, LINEAR, operator="torch.ops.load_library"), "unknown operator"),
    "a storage": (changes(step, LINEAR, operator="aten.set_.source_Storage"), "unknown operator"),
    "an attribute": (changes(step, LINEAR, operator="aten.linear.__class__"), "unknown operator"),
    "an element of nothing": (changes(step, LINEAR, operator="getitem"), "element"),
    "wrong types": (changes(step, LINEAR, arguments=[{"text": "x"}, 1, 2]), "is no aten.linear"),
    "no argument": (changes(step, LINEAR, arguments=[{"code": "1"}]), "no argument"),
    "another dtype": (changes(step, LINEAR, arguments=[{"dtype": "os"}]), "no argument"),
    "another device": (changes(step, LINEAR, arguments=[{"device": "cuda"}]), "no argument"),
    "nested lists": (deep, "no argument"),
    "a cycle": (changes(step, LINEAR, arguments=[{"node": "linear"}] * 3), "not computed before"),
    "an undefined value": (changes(step, LINEAR, arguments=[{"node": "no"}] * 3), "not computed"),
    "a place of none": (changes(step, LINEAR, place=10**6), "no known place"),
    "a name that ends a line": (changes(step, LINEAR, name="a\nimport os"), "not a readable"),
    "a name with code": (changes(given, name="x, q=print(1)"), "not a readable"),
    "a keyword": (changes(step, LINEAR, name="import"), "Python has for itself"),
    "a name of torch.fx": (changes(given, name="torch"), "Python has for itself"),
    "a path with a quote": (changes(held, path='k", print(1))#'), "not a readable"),
    "a path of Python's": (changes(held, path="__class__.x"), "is called __class__"),
    "an empty path": (changes(held, path="a..b"), "is called a..b"),
    "a negative size": (changes(given, shape=[-1, 3, 8, 8]), "not a readable"),
    "a size that is no number": (changes(given, shape=["1", 3, 8, 8]), "not a readable"),
    "a symbolic size": (changes(given, shape=["s0", 3, 8, 8]), "not a readable"),
    "a size without end": (changes(given, shape=[2**39, 3, 8, 8]), "it has a tensor of"),
    "a size that overflows": (changes(given, shape=[2**80, 3, 8, 8]), "not a readable"),
    "a type of nothing": (changes(given, dtype="str"), "is of str"),
    "another shape": (changes(given, shape=[2, 4, 8, 8]), "is no aten.conv2d"),
    "dimensions of none": (changes(held, order=[0, 0, 1, 2]), "no dimensions"),
    "an unknown key": (changes(step, LINEAR, code="1"), "not a readable"),
    "another schema": (lambda graph, _: graph.update(schema=99), "schema 99"),
    "a dialect": (lambda graph, _: graph.update(dialect="OTHER"), "not a readable"),
    "a tensor missing": (lambda _, tensors: tensors.pop("head.bias"), "head.bias"),
    "a tensor left over": (
        lambda _, tensors: tensors.update(more=torch.zeros(1)),
        "more is in its graph or its tensors alone",
    ),
    "two values of a name": (
        lambda graph, _: graph["steps"].append(dict(graph["steps"][-1])),
        "two values",
    ),
    "no result": (lambda graph, _: graph.update(results=[]), "0 outputs"),
    "a result of nothing": (
        lambda graph, _: graph["results"][0].update(node="no"),
        "its output no",
    ),
    "a result that is no tensor": (
        lambda graph, _: graph["results"][0].update(node="chunk"),
        "its output chunk",
    ),
    "no input": (
        lambda graph, _: graph.update(inputs=[i for i in graph["inputs"] if i["type"] == "held"]),
        "not computed before",
    ),
    "a giant in between": (
        lambda graph, _: graph["steps"].append(
            {"name": "big", "operator": "aten.zeros.default", "arguments": [[2**20, 2**20]]}
        ),
        "has the shape",
    ),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "a.program"
    write_program(exported(Plain()), path)
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to run in, which must be as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_no_program_is_refused(fault, plain, place):
    edit, said = FAULTS[fault]
    path = place / "a.program"
    path.write_bytes(plain.read_bytes())
    edited(path, edit)
    with pytest.raises(InputError, match=said):
        read_program(path)
    assert [one.name for one in place.iterdir()] == ["a.program"]


def test_an_edit_that_changes_nothing_is_read(plain, tmp_path):
    # So that the faults above are the faults, and not how they were made.
    path = tmp_path / "a.program"
    path.write_bytes(plain.read_bytes())
    edited(path, lambda _graph, _tensors: None)
    np.testing.assert_array_equal(output(read_program(path)), output(read_program(plain)))


def header(text, data=b""):
    content = text.encode()
    return len(content).to_bytes(8, "little") + content + data


HEAD = (
    '{"__metadata__": {"edgese.program": %s}, '
    '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
)
BYTES = {
    "nothing": b"",
    "no header": b"PK\x03\x04" + bytes(100),
    "a pickle": b"\x80\x04cos\nmkdir\n(Vmarker\ntR.",
    "a header beyond the file": (2**40).to_bytes(8, "little") + b"{}",
    "a header that is no JSON": header("{" * 10),
    "nested": header("[" * 100_000 + "]" * 100_000),
    "no graph": header("{}"),
    "nested graph": header(HEAD % json.dumps("[" * 100_000 + "]" * 100_000), bytes(4)),
    "a graph that is a number": header(HEAD % '"1"', bytes(4)),
    "metadata that is none": header('{"__metadata__": 1}'),
    "two members of a name": header(
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
        '"a": {"dtype": "I32", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": {}}',
        bytes(4),
    ),
    "a graph with two of a name": header(HEAD % json.dumps('{"schema": 1, "schema": 1}'), bytes(4)),
}


@pytest.mark.parametrize("content", BYTES)
def test_bytes_that_are_no_program_are_refused(content, place):
    (place / "a.program").write_bytes(BYTES[content])
    with pytest.raises(InputError, match="not a readable program"):
        read_program(place / "a.program")
    assert [one.name for one in place.iterdir()] == ["a.program"]


@pytest.mark.parametrize("kept_bytes", [5, 200, -1])
def test_a_file_that_is_cut_short_is_refused(kept_bytes, plain, tmp_path):
    path = tmp_path / "a.program"
    path.write_bytes(plain.read_bytes()[:kept_bytes])
    with pytest.raises(InputError, match="not a readable program"):
        read_program(path)


def test_a_file_with_something_behind_it_is_refused(plain, tmp_path):
    path = tmp_path / "a.program"
    path.write_bytes(plain.read_bytes() + b"more")
    with pytest.raises(InputError, match="not a readable program"):
        read_program(path)


def test_tensors_that_overlap_are_refused(plain, tmp_path):
    raw = plain.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    entries = json.loads(raw[8 : 8 + length])
    entries["head.weight"]["data_offsets"] = entries["first.weight"]["data_offsets"]
    (tmp_path / "a.program").write_bytes(header(json.dumps(entries), raw[8 + length :]))
    with pytest.raises(InputError, match="not a readable program"):
        read_program(tmp_path / "a.program")


def test_a_missing_file_is_an_error():
    with pytest.raises(InputError, match="cannot be read"):
        read_program(Path("gone.program"))


class Gated(nn.Module):
    """What quantization has forms for: a residual, a gate, hard activations, pooling."""

    def __init__(self):
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.gate, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, x):  # noqa: D102
        x = nn.functional.hardswish(self.stem(x))
        y = nn.functional.silu(self.deep(x)) + x
        y = y * nn.functional.hardsigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        return self.head(y.mean((2, 3)))


RECIPES = [name for name in catalog.recipe_names() if catalog.recipe(name).is_integer]


@pytest.mark.parametrize(
    ("name", "keep_float"), [*((name, ()) for name in RECIPES), ("int8-minmax", ("gate",))]
)
def test_quantized_programs_keep_their_integers(name, keep_float, tmp_path):
    recipe = catalog.recipe(name)
    how = msgspec.structs.replace(recipe.quantization, keep_float=keep_float, pictures=8)
    pictures = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype(np.float32)
    torch.manual_seed(0)
    exported = torch.export.export(Gated().eval(), (torch.zeros(1, 3, 16, 16),))
    program = quantized(
        exported, msgspec.structs.replace(recipe, quantization=how), pictures
    ).program
    read = kept(program, tmp_path)
    assert [str(node.target) for node in read.graph.nodes if node.op == "call_function"] == [
        str(node.target) for node in program.graph.nodes if node.op == "call_function"
    ]
    for path, tensor in {**program.state_dict, **program.constants}.items():
        found = read.state_dict.get(path, read.constants.get(path))
        assert found.dtype is tensor.dtype
        assert torch.equal(found, tensor)
    np.testing.assert_array_equal(
        integer_outputs(read, pictures, 1), integer_outputs(program, pictures, 1)
    )
