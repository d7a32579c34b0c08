"""Programs that torch.export has saved, read without torch.export.load.

That function executes what a file holds, in more than a dozen ways: pickles of example inputs,
weights, constants and opaque objects, in today's layout and the one before; symbolic expressions,
which sympy evaluates; guards, names of inputs and paths of tensors, which become Python code; enums
and default dicts, whose modules are imported; compiled libraries, which are loaded; functions of
torch in the place of operators. To check each of them before calling it would be to know all ways
of every later version. So it is not called: the JSON and the bytes of tensors are read here, into
the same graph as edgese's own programs, with the same closed list of operators. Nothing that needs
a pickle, a symbol or a library is read at all.

Source: torch 2.13, torch/_export/serde/schema.py (schema 8) and export/pt2_archive/_package.py.
"""

import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edgese.errors import InputError
from edgese.program.building import put_together
from edgese.program.operators import ELEMENT
from edgese.program.values import as_json
from edgese.records.program import ProgramGraph

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

_SCHEMA: Final = 8
_MOST_MEMBERS: Final = 20_000
_LONGEST: Final = 2**28
_MODEL: Final = "models/model.json"
_PAYLOADS: Final = {
    "weights": re.compile(r"weight_\d{1,6}"),
    "constants": re.compile(r"tensor_\d{1,6}"),
}
_KNOWN: Final = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|models/model\.json|extra/[^/]+"
    r"|data/weights/(weight_\d{1,6}|model_weights_config\.json)"
    r"|data/constants/(tensor_\d{1,6}|model_constants_config\.json)|data/sample_inputs/model\.pt"
)
_DTYPES: Final = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 12: "bool", 13: "bfloat16",
}  # fmt: skip
_FORMATS: Final = {1: "contiguous_format", 2: "channels_last", 4: "preserve_format"}
_STRIDED: Final = 7
# How torch writes what JSON has no number for.
_NO_NUMBERS: Final = {name: float(name) for name in ("Infinity", "-Infinity", "NaN")}
_POSITIONAL, _KEYWORD = 1, 2
_SAVE: Final = "torch.export.save(program.run_decompositions({}), PATH) writes one without."


class _Beyond(Exception):
    """Something that is not read."""


def read_exported(path: Path) -> "ExportedProgram":
    """Read a program that torch.export.save has written; executes nothing of it.

    Its example inputs are not read: they are a pickle, and zeros of the input's shape do.

    Raises:
        InputError: it is missing, damaged or no such program; or it has something that is not read:
            pickled objects, symbolic shapes, compiled code, graphs within operators, operators
            beyond the closed list.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            graph, tensors = _read(_Archive(archive, path.stat().st_size))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", hint="Give a readable file."
        ) from error
    except _Beyond as error:
        raise InputError(
            f"{path} has {error}, which is not read.",
            hint="Of a program of torch.export only its graph and the plain bytes of its tensors "
            f"are read, so that nothing in it executes. {_SAVE}",
        ) from error
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        msgspec.ValidationError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RuntimeError,
        EOFError,
    ) as error:
        raise InputError(
            f"{path} is no readable program of torch.export: {str(error)[:300]}",
            hint="It is damaged, or of another version of torch; save it again with torch 2.13.",
        ) from error
    return put_together(graph, tensors, str(path))


class _Archive:
    """The members of a file of torch's, read within bounds."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > size:
            raise _Beyond("members that overlap")
        if len(infos) > _MOST_MEMBERS:
            raise _Beyond(f"{len(infos)} members")
        root = infos[0].filename.partition("/")[0] if infos else ""
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            folder, _, name = info.filename.partition("/")
            if folder != root or not _KNOWN.fullmatch(name):
                raise _Beyond(f"the member {info.filename[:200]!r}")
            if name in self._members:
                raise _Beyond(f"two members {name}")
            # As torch writes them; what is packed can be larger than any memory.
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise _Beyond(f"the packed member {name}")
            self._members[name] = info

    def content(self, name: str) -> bytes:
        """Return a member's bytes."""
        if name not in self._members:
            raise ValueError(f"it has no member {name}")
        return self._archive.read(self._members[name])

    def json(self, name: str) -> Any:  # noqa: ANN401  # JSON
        """Return a member's JSON."""
        text = self.content(name)
        if len(text) > _LONGEST:
            raise _Beyond(f"{len(text)} bytes of {name}")
        return json.loads(text)

    def has(self, name: str) -> bool:
        """Return whether there is such a member."""
        return name in self._members


def _read(archive: _Archive) -> "tuple[ProgramGraph, dict[str, Tensor]]":
    if archive.content("archive_format") != b"pt2" or archive.content("archive_version") != b"0":
        raise ValueError("its archive is of another kind")
    if archive.has("byteorder") and archive.content("byteorder") != b"little":
        raise _Beyond("numbers of another byte order")
    model = archive.json(_MODEL)
    if model["schema_version"]["major"] != _SCHEMA:
        raise ValueError(f"its schema is {model['schema_version']}, not {_SCHEMA}")
    module = model["graph_module"]
    graph, signature = module["graph"], module["signature"]
    payloads = {
        path: (kind, meta)
        for kind in _PAYLOADS
        for path, meta in archive.json(f"data/{kind}/model_{kind}_config.json")["config"].items()
    }
    tensors: dict[str, Tensor] = {}
    inputs = []
    for spec in signature["input_specs"]:
        held = _held(spec)
        if held is None:
            inputs.append(_given(spec, graph["tensor_values"]))
            continue
        kind, meta = payloads[held["path"]]
        if held["path"] not in tensors:
            tensors[held["path"]] = _tensor(archive, kind, meta)
        inputs.append(held | {"gradient": bool(meta["tensor_meta"]["requires_grad"])})
    places: dict[str, int] = {}
    steps = [step for node in graph["nodes"] for step in _steps(node, places)]
    return msgspec.convert(
        {
            "dialect": "ATEN" if model.get("verifiers") == ["ATEN"] else "TRAINING",
            "inputs": inputs,
            "steps": steps,
            "results": [_result(spec) for spec in signature["output_specs"]],
            "places": [_place(text) for text in places],
        },
        ProgramGraph,
    ), tensors


def _one(union: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the kind and the value of torch's union, which is an object of one key."""
    ((kind, value),) = union.items()
    return kind, value


def _held(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    kind, value = _one(spec)
    if kind == "user_input":
        return None
    if kind not in ("parameter", "buffer", "tensor_constant"):
        raise _Beyond(f"an input of the kind {kind}")
    path = value[f"{kind}_name"]
    return {
        "type": "held",
        "name": value["arg"]["name"],
        "path": path,
        "kind": kind.removeprefix("tensor_"),
        "tensor": path,
        "persistent": value.get("persistent", True),
    }


def _given(spec: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    kind, value = _one(spec["user_input"]["arg"])
    if kind != "as_tensor":
        raise _Beyond(f"an input of the kind {kind}")
    meta = values[value["name"]]
    return {
        "type": "given",
        "name": value["name"],
        "shape": [_int(size) for size in meta["sizes"]],
        "dtype": _DTYPES.get(meta["dtype"], str(meta["dtype"])),
    }


def _int(size: Mapping[str, Any]) -> int:
    kind, value = _one(size)
    if kind != "as_int" or type(value) is not int:
        raise _Beyond(f"the symbolic size {str(value)[:100]}")
    return value


def _tensor(archive: _Archive, kind: str, payload: Mapping[str, Any]) -> "Tensor":
    import torch

    name, meta = payload["path_name"], payload["tensor_meta"]
    if payload["use_pickle"] is not False or not _PAYLOADS[kind].fullmatch(name):
        raise _Beyond(f"the pickled object {name[:200]!r}")
    if (
        meta["dtype"] not in _DTYPES
        or meta["layout"] != _STRIDED
        or meta["device"]["type"] != "cpu"
    ):
        raise _Beyond(f"a tensor of another kind in {name}")
    dtype: torch.dtype = vars(torch)[_DTYPES[meta["dtype"]]]
    sizes, strides = ([_int(size) for size in meta[key]] for key in ("sizes", "strides"))
    offset = _int(meta["storage_offset"])
    if len(sizes) != len(strides) or min((*sizes, *strides, offset), default=0) < 0:
        raise ValueError(f"the tensor in {name} has sizes {sizes} and strides {strides}")
    if not math.prod(sizes):
        return torch.zeros(sizes, dtype=dtype)
    content = archive.content(f"data/{kind}/{name}")
    reach = offset + sum((n - 1) * stride for n, stride in zip(sizes, strides, strict=True)) + 1
    if reach * dtype.itemsize > len(content):
        raise ValueError(f"the tensor in {name} ends before its values do")
    flat = torch.frombuffer(bytearray(content), dtype=torch.uint8).clone().view(dtype)
    return flat.as_strided(sizes, strides, offset)


def _steps(node: Mapping[str, Any], places: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield an operator, and where it gives several values each of them."""
    operator = str(node["target"])
    stack = str(node["metadata"].get("nn_module_stack", ""))
    place = places.setdefault(stack, len(places)) if stack else -1
    arguments: list[Any] = []
    named: dict[str, Any] = {}
    for given in node["inputs"]:
        value = _argument(given["arg"])
        if given["kind"] == _POSITIONAL and not named:
            arguments.append(value)
        elif given["kind"] == _KEYWORD:
            named[given["name"]] = value
        else:
            raise _Beyond(f"arguments of {operator[:100]} of an older layout")
    outputs = [_one(output) for output in node["outputs"]]
    several = outputs[0][1] if len(outputs) == 1 and outputs[0][0] == "as_tensors" else None
    if several is None and len(outputs) > 1:
        several = [value if kind == "as_tensor" else None for kind, value in outputs]
    if several is None and outputs and outputs[0][0] not in ("as_tensor", "as_none"):
        raise _Beyond(f"a result of {operator[:100]} of the kind {outputs[0][0]}")
    name = node["name"]
    yield {
        "name": name,
        "operator": operator.removeprefix("torch.ops."),
        "arguments": arguments,
        "named": named,
        "place": place,
    }
    for index, value in enumerate(several or ()):
        if value is not None:
            yield {
                "name": value["name"],
                "operator": ELEMENT,
                "arguments": [{"node": name}, index],
                "place": place,
            }
    if (
        several is None
        and outputs
        and outputs[0][0] == "as_tensor"
        and outputs[0][1]["name"] != name
    ):
        raise ValueError(f"the result of {name} has another name")


def _argument(union: Mapping[str, Any]) -> Any:  # noqa: ANN401  # what a graph's arguments are
    kind, value = _one(union)
    if kind in _LISTS:
        return [_LISTS[kind](one) for one in value]
    if kind not in _SINGLE:
        raise _Beyond(f"an argument of the kind {kind[:100]}")
    return _SINGLE[kind](value)


def _optional(union: Mapping[str, Any]) -> Any:  # noqa: ANN401  # a node or nothing
    kind, value = _one(union)
    return {"node": value["name"]} if kind == "as_tensor" else None


def _float(value: object) -> Any:  # noqa: ANN401  # as in a graph
    return as_json(_NO_NUMBERS.get(value, value) if isinstance(value, str) else value)


def _text(value: object) -> dict[str, str]:
    return {"text": str(value)}


def _node(value: Mapping[str, Any]) -> dict[str, str]:
    return {"node": value["name"]}


_LISTS: Final[dict[str, Any]] = {
    "as_tensors": _node,
    "as_ints": as_json,
    "as_floats": _float,
    "as_bools": as_json,
    "as_strings": _text,
    "as_sym_ints": _int,
    "as_optional_tensors": _optional,
}
_SINGLE: Final[dict[str, Any]] = {
    "as_none": lambda _: None,
    "as_tensor": _node,
    "as_int": as_json,
    "as_float": _float,
    "as_bool": as_json,
    "as_string": _text,
    "as_sym_int": _int,
    "as_optional_tensor": _optional,
    "as_scalar_type": lambda value: {"dtype": _DTYPES.get(value, str(value))},
    "as_memory_format": lambda value: {"memory_format": _FORMATS.get(value, str(value))},
    "as_layout": lambda value: {"layout": "strided" if value == _STRIDED else str(value)},
    "as_device": lambda value: {"device": str(value["type"])},
}


def _result(spec: Mapping[str, Any]) -> dict[str, Any]:
    kind, value = _one(spec)
    if kind == "user_output":
        form, argument = _one(value["arg"])
        if form != "as_tensor":
            raise _Beyond(f"an output of the kind {form}")
        return {"node": argument["name"]}
    if kind == "buffer_mutation":
        return {"node": value["arg"]["name"], "kind": "buffer", "mutates": value["buffer_name"]}
    if kind == "user_input_mutation":
        return {"node": value["arg"]["name"], "kind": "input", "mutates": value["user_input_name"]}
    raise _Beyond(f"an output of the kind {kind}")


def _place(text: str) -> list[list[str]]:
    """Return the modules of torch's "key,path,type;..."; none where it is something else."""
    parts = [part.split(",", 2) for part in text.split(";")]
    return parts if all(len(part) == len(("key", "path", "type")) for part in parts) else []
