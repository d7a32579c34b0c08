"""Programs of torch.export: what is plain is read exactly, and what would execute is not read.

Each file is tried on torch.export.load first, which executes it. So the proofs are proofs.
"""

import io
import json
import os
import pickle
import shutil
import subprocess
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from edgese.errors import InputError  # noqa: E402
from edgese.program.foreign import read_exported  # noqa: E402
from edgese.program.storage import read_program, write_program  # noqa: E402
from edgese.program.stored import find_stored  # noqa: E402

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
MARKER = "marker"
CALL = f"__import__('os').mkdir('{MARKER}')"


class Tiny(nn.Module):
    """A buffer, a constant, several results, a number that JSON lacks."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.register_buffer("k", torch.ones(4, 1, 1))
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):  # noqa: D102
        self.seen.add_(1)
        y = self.conv(x) * self.k + torch.tensor(1.0) + self.seen
        y = y.masked_fill(y > 1e9, float("inf")).max(2).values
        return self.fc(torch.cat(y.chunk(2, 1), 1).mean(-1))


def exported():
    torch.manual_seed(0)
    return torch.export.export(Tiny().eval(), (torch.zeros(1, 3, 8, 8),))


def members_of(program):
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}


def packed(members, path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    return path


@pytest.fixture(scope="module")
def members():
    return members_of(exported())


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def output(program):
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return program.module(check_guards=False)(x).numpy()


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_plain_program_is_read_exactly(decomposed, tmp_path):
    program = exported().run_decompositions({}) if decomposed else exported()
    torch.export.save(program, tmp_path / "a.pt2")
    read = read_exported(tmp_path / "a.pt2")
    assert str(read.graph_signature) == str(program.graph_signature)
    write_program(read, tmp_path / "a.program")
    expected = output(program)
    np.testing.assert_array_equal(output(read), expected)
    np.testing.assert_array_equal(output(read_program(tmp_path / "a.program")), expected)


class Boom:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (MARKER,)


def boom():
    buffer = io.BytesIO()
    torch.save(Boom(), buffer)
    return buffer.getvalue()


def edited(members, name, edit):
    content = json.loads(members[name])
    edit(content)
    return {**members, name: json.dumps(content).encode()}


def graph(content):
    return content["graph_module"]["graph"]


def call_signature(content):
    return content["graph_module"]["module_call_graph"][0]["signature"]


def with_node(members, **node):
    def edit(content):
        nodes = graph(content)["nodes"]
        nodes.insert(0, {**nodes[0], "metadata": {}, "name": "boom", **node})
        graph(content)["tensor_values"]["boom"] = graph(content)["tensor_values"]["b_seen"]

    return edited(members, MODEL, edit)


def renamed(members, name, evil):
    text = members[MODEL].decode()
    text = text.replace(f'"name": "{name}"', f'"name": {json.dumps(evil)}')
    text = text.replace(f'"{name}": {{', f"{json.dumps(evil)}: {{")
    return {**members, MODEL: text.encode()}


def example_inputs(members):
    return {**members, "data/sample_inputs/model.pt": boom()}


def weight(members):
    changed = edited(members, WEIGHTS, lambda c: c["config"]["fc.bias"].update(use_pickle=True))
    name = json.loads(changed[WEIGHTS])["config"]["fc.bias"]["path_name"]
    return {**changed, f"data/weights/{name}": boom()}


def constant(members):
    changed = edited(
        members, CONSTANTS, lambda c: c["config"]["lifted_tensor_0"].update(use_pickle=True)
    )
    return {**changed, "data/constants/tensor_0": boom()}


def opaque_object(members):
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}
    changed = edited(
        members, CONSTANTS, lambda c: c["config"].update(o={**entry, "tensor_meta": None})
    )
    return {**changed, "data/constants/opaque_obj_0": pickle.dumps(Boom())}


def older_weights(members):
    return {**members, "data/weights/model.pt": boom()}


def older_constants(members):
    return {**members, "data/constants/model.pt": boom()}


def symbolic_size(members):
    expression = {"expr_str": CALL, "hint": {"as_int": 1}}
    return edited(
        members,
        MODEL,
        lambda c: graph(c)["tensor_values"]["x"]["sizes"].__setitem__(0, {"as_expr": expression}),
    )


def symbolic_size_of_a_weight(members):
    def edit(content):
        graph(content)["sym_int_values"]["s0"] = {"as_expr": {"expr_str": CALL, "hint": None}}
        argument = {"as_sym_ints": [{"as_name": "s0"}]}
        graph(content)["nodes"][0]["inputs"].append({"name": "stride", "arg": argument, "kind": 1})
        graph(content)["inputs"].insert(0, {"as_sym_int": {"as_name": "s0"}})
        spec = {"user_input": {"arg": {"as_sym_int": {"as_name": "s0"}}}}
        content["graph_module"]["signature"]["input_specs"].insert(0, spec)

    return edited(members, MODEL, edit)


def guard(members):
    return edited(members, MODEL, lambda c: c.update(guards_code=[f"{CALL} is None"]))


def input_name(members):
    return renamed(members, "x", f"x, q={CALL}")


def path_of_a_buffer(members):
    evil = f'k", getattr(__import__("os"), "mkdir")("{MARKER}"))#'
    changed = edited(members, WEIGHTS, lambda c: c["config"].update({evil: c["config"].pop("k")}))
    text = (
        changed[MODEL].decode().replace('"buffer_name": "k"', f'"buffer_name": {json.dumps(evil)}')
    )
    return {**changed, MODEL: text.encode()}


def imported_enum(members):
    Path("evil_enum.py").write_text(CALL)

    def edit(content):
        spec = json.loads(call_signature(content)["in_spec"])
        enum = {"__enum__": True, "fqn": "evil_enum:X", "name": "Y"}
        spec[1]["context"] = json.dumps(enum)
        call_signature(content)["in_spec"] = json.dumps(spec)

    return edited(members, MODEL, edit)


def imported_default(members):
    Path("evil_default.py").write_text(CALL)

    def edit(content):
        spec = json.loads(call_signature(content)["in_spec"])
        context = {"default_factory_module": "evil_default", "default_factory_name": "X"}
        spec[1]["children_spec"][1].update(
            type="collections.defaultdict", context={**context, "dict_context": []}
        )
        call_signature(content)["in_spec"] = json.dumps(spec)

    return edited(members, MODEL, edit)


def operator_on_files(members):
    arguments = {"filename": {"as_string": MARKER}, "shared": {"as_bool": True}}
    return with_node(
        members,
        target="torch.ops.aten.from_file.default",
        inputs=[
            {"name": name, "arg": value, "kind": 1}
            for name, value in {**arguments, "size": {"as_int": 4}}.items()
        ],
        outputs=[{"as_tensor": {"name": "boom"}}],
    )


def library(members):
    compiler = shutil.which("cc") or pytest.skip(
        "no C compiler is installed, which makes the proof"
    )
    code = f"""#include <sys/stat.h>
__attribute__((constructor)) void f() {{ mkdir("{MARKER}", 0777); }}"""
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-xc", "-", "-o", "evil.so"],
        input=code,
        text=True,
        check=True,
    )
    return {
        **members,
        "data/aotinductor/model/w.wrapper.so": Path("evil.so").read_bytes(),
        "data/aotinductor/model/w.wrapper_metadata.json": b'{"AOTI_DEVICE_KEY": "cpu"}',
    }


EXECUTED = (
    example_inputs,
    weight,
    constant,
    opaque_object,
    older_weights,
    older_constants,
    symbolic_size,
    symbolic_size_of_a_weight,
    guard,
    input_name,
    path_of_a_buffer,
    imported_enum,
    imported_default,
    operator_on_files,
    library,
)
# They are not read, so that there is nothing to refuse.
UNREAD = (example_inputs, guard, imported_enum, imported_default)


def torch_executes(path, marker):
    # What it makes of the file afterwards does not matter.
    with suppress(Exception):
        torch.export.load(path).module()(torch.zeros(1, 3, 8, 8))
    ran = marker.exists()
    if marker.is_dir():
        marker.rmdir()
    marker.unlink(missing_ok=True)
    return ran


@pytest.mark.parametrize("evil", EXECUTED, ids=lambda evil: evil.__name__)
def test_a_file_that_torch_executes_is_not_executed(evil, members, place):
    path = packed(evil(members), place / "evil.pt2")
    marker = place / MARKER
    assert torch_executes(path, marker)
    if evil in UNREAD:
        assert output(read_exported(path)).shape == (1, 2)
    else:
        with pytest.raises(InputError, match=r"is not read|is no program|no readable"):
            read_exported(path)
    with pytest.raises(InputError, match=r"no readable program|not a readable program"):
        read_program(path)
    with pytest.raises(InputError, match=r"program of torch\.export"):
        find_stored(path)
    assert not marker.exists()


def test_a_file_of_before_torch_2_8_that_torch_executes_is_not_executed(members, place):
    path = place / "evil.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.20")
        archive.writestr("serialized_exported_program.json", members[MODEL])
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", boom())
    marker = place / MARKER
    assert torch_executes(path, marker)
    with pytest.raises(InputError, match="member 'version'"):
        read_exported(path)
    assert not marker.exists()


def function_of_torch(members):
    argument = {"name": "", "arg": {"as_string": MARKER}, "kind": 1}
    return with_node(
        members, target="torch.os.mkdir", inputs=[argument], outputs=[{"as_none": True}]
    )


def loaded_library(members):
    argument = {"name": "", "arg": {"as_string": "evil.so"}, "kind": 1}
    return with_node(
        members, target="torch.ops.load_library", inputs=[argument], outputs=[{"as_none": True}]
    )


def payload(**changes):
    return lambda members: edited(
        members, WEIGHTS, lambda c: c["config"]["fc.bias"].update(changes)
    )


def meta(**changes):
    return lambda members: edited(
        members, WEIGHTS, lambda c: c["config"]["fc.bias"]["tensor_meta"].update(changes)
    )


FAULTS = {
    "a function of torch": (function_of_torch, "unknown operator 'torch.os.mkdir'"),
    "a library to load": (loaded_library, "unknown operator 'load_library'"),
    "another member": (lambda m: {**m, "data/more/x": b""}, "the member"),
    "a member outside": (lambda m: {**m, "../x": b""}, "the member"),
    "an absolute member": (lambda m: {**m, "/etc/x": b""}, "the member"),
    "no model": (lambda m: {k: v for k, v in m.items() if k != MODEL}, "no member models"),
    "no weight": (lambda m: {k: v for k, v in m.items() if "weight_3" not in k}, "no member data"),
    "a weight cut short": (lambda m: {**m, "data/weights/weight_3": b"1"}, "ends before"),
    "another archive": (lambda m: {**m, "archive_format": b"pt3"}, "another kind"),
    "another schema": (
        lambda m: edited(m, MODEL, lambda c: c["schema_version"].update(major=9)),
        "its schema is",
    ),
    "another byte order": (lambda m: {**m, "byteorder": b"big"}, "byte order"),
    "JSON that is none": (lambda m: {**m, MODEL: b"{"}, "no readable"),
    "nested JSON": (lambda m: {**m, MODEL: b"[" * 100_000 + b"]" * 100_000}, "no readable"),
    "a file elsewhere": (payload(path_name="../../etc/passwd"), "pickled object"),
    "a negative size": (meta(sizes=[{"as_int": -1}]), "has sizes"),
    "negative strides": (meta(strides=[{"as_int": -4}]), "has sizes"),
    "an offset beyond the file": (meta(storage_offset={"as_int": 2**62}), "ends before"),
    "sizes beyond the file": (meta(sizes=[{"as_int": 2**62}]), "ends before"),
    "a giant of one value": (
        meta(sizes=[{"as_int": 2**50}], strides=[{"as_int": 0}]),
        "has a tensor of",
    ),
    "an unknown type": (meta(dtype=9), "another kind"),
    "another device": (meta(device={"type": "cuda", "index": 0}), "another kind"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_plain_program_is_refused(fault, members, place):
    edit, said = FAULTS[fault]
    path = packed(edit(members), place / "a.pt2")
    with pytest.raises(InputError, match=said):
        read_exported(path)
    assert [one.name for one in place.iterdir()] == ["a.pt2"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_a_name_are_refused(members, tmp_path):
    path = packed(members, tmp_path / "a.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"archive/{MODEL}", members[MODEL])
    with pytest.raises(InputError, match="two members"):
        read_exported(path)


def test_packed_members_are_refused(members, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    with pytest.raises(InputError, match=r"packed member|overlap"):
        read_exported(tmp_path / "a.pt2")


def test_a_graph_within_an_operator_is_named(tmp_path):
    class Within(Tiny):
        def forward(self, x):
            with torch.no_grad():
                return super().forward(x)

    program = torch.export.export(Within().eval(), (torch.zeros(1, 3, 8, 8),))
    torch.export.save(program, tmp_path / "a.pt2")
    with pytest.raises(InputError, match="kind as_graph") as error:
        read_exported(tmp_path / "a.pt2")
    assert "run_decompositions" in error.value.hint
    torch.export.save(program.run_decompositions({}), tmp_path / "a.pt2")
    assert output(read_exported(tmp_path / "a.pt2")).shape == (1, 2)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04.", bytes(1000)])
def test_bytes_that_are_no_archive_are_refused(content, tmp_path):
    (tmp_path / "a.pt2").write_bytes(content)
    with pytest.raises(InputError, match="no readable program"):
        read_exported(tmp_path / "a.pt2")
