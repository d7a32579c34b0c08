"""The closed list of operators that a program may have, by name.

A name leads to an operator of ATen, or to one that quantizes, and to nothing else in torch. Of
ATen's operators those are left out that have anything to do with files, storages, other devices or
objects: an operator takes tensors, numbers and a few words, and gives tensors.
"""

import re
from functools import cache
from operator import getitem
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch._ops import OpOverload

# An element of what an operator with several results gives.
ELEMENT: Final = "getitem"

_NAME: Final = re.compile(r"(aten)\.([a-z][a-z0-9_]*)\.([A-Za-z][A-Za-z0-9_]*)")
# Those of a private name that torch.export itself gives.
_PRIVATE: Final = frozenset(
    f"aten._{name}"
    for name in (
        "adaptive_avg_pool2d.default",
        "adaptive_avg_pool3d.default",
        "assert_tensor_metadata.default",
        "cdist_forward.default",
        "convolution.default",
        "fft_c2c.default",
        "fft_c2r.default",
        "fft_r2c.default",
        "log_softmax.default",
        "native_batch_norm_legit.default",
        "native_batch_norm_legit.no_stats",
        "native_batch_norm_legit_no_training.default",
        "native_multi_head_attention.default",
        "prelu_kernel.default",
        "scaled_dot_product_flash_attention_for_cpu.default",
        "softmax.default",
        "to_copy.default",
        "transformer_encoder_layer_fwd.default",
        "trilinear.default",
        "unsafe_view.default",
        "upsample_bicubic2d_aa.default",
        "upsample_bicubic2d_aa.vec",
        "upsample_bilinear2d_aa.default",
        "upsample_bilinear2d_aa.vec",
        "upsample_nearest_exact2d.default",
        "upsample_nearest_exact2d.vec",
        "weight_norm.default",
        "weight_norm_interface.default",
    )
)
_QUANTIZING: Final = frozenset(
    f"quantized_decomposed.{direction}_per_{what}.default"
    for direction in ("quantize", "dequantize")
    for what in ("tensor", "channel")
)
# They reach below tensors, into storages, or to other machines and devices.
_NEVER: Final = re.compile(
    r"set_?|set_data|resize.*|record_stream|from_file|.*(sparse|mkldnn|cudnn|miopen|storage|cuda"
    r"|pin_memory|nested|rename|names|unsafe).*"
)
_PLAIN: Final = frozenset(
    {"Tensor", "List[Tensor]", "Optional[Tensor]", "List[Optional[Tensor]]"}
    | {
        f"{of}{kind}{end}"
        for kind in ("int", "float", "bool", "number", "Device", "Generator")
        for of, end in (("", ""), ("Optional[", "]"), ("List[", "]"), ("Optional[List[", "]]"))
    }
)
# Arguments that are words.
_WORDS: Final = frozenset(
    (
        "UPLO",
        "approximate",
        "driver",
        "equation",
        "indexing",
        "interpolation",
        "mode",
        "norm",
        "ord",
        "pad_mode",
        "padding",
        "padding_side",
        "reduce",
        "rounding_mode",
        "side",
    )
)
_CHECK: Final = "aten::_assert_tensor_metadata"
# Arguments that say how often something is done, or into how many parts.
_TIMES: Final = ("num_layers", "chunks", "sections", "r")
# Operators whose argument n is the size of something.
_SIZED: Final = re.compile(r"aten::(fft_.*|eye|randperm|arange)")
# Whole numbers to TorchScript, and words to everybody else.
_CODED: Final = re.compile(r"ScalarType|Layout|MemoryFormat")
_DIVIDES: Final = re.compile(r"aten::(unsafe_)?(split|unbind)(_copy)?")


@cache
def operator_called(name: str) -> "Callable[..., Any] | None":
    """Return what a name of the closed list stands for; None for any other name."""
    import torch
    import torch.ao.quantization.fx._decomposed  # registers its operators
    from torch._ops import OpOverload

    if name == ELEMENT:
        return getitem
    match = _NAME.fullmatch(name)
    if name in _PRIVATE or name in _QUANTIZING:
        space, packet, overload = name.split(".")
    elif match is not None and not _NEVER.fullmatch(match[2]):
        space, packet, overload = match.groups()
    else:
        return None
    bare = torch._C  # noqa: SLF001  # asks by the exact name, and for nothing else
    full, own = f"{space}::{packet}", "" if overload == "default" else overload
    try:
        bare._get_schema(full, own)  # noqa: SLF001  # the same
    except RuntimeError:
        return None
    # TorchScript has operators of its own, such as aten.as_tensor.int, which no program of
    # torch.export has; on shapes alone some of them never end.
    if not bare._dispatch_has_kernel(f"{full}.{own}" if own else full):  # noqa: SLF001  # the same
        return None
    found = getattr(getattr(getattr(torch.ops, space), packet), overload)
    if not isinstance(found, OpOverload) or str(found) != name or not _takes_plain(found):
        return None
    return found


def coded(operator: "OpOverload", given: "Sequence[Any]", named: "Mapping[str, Any]") -> str:
    """Return which argument has a number in the place of a word, such as a dtype; "" for none.

    Torch takes its own numbers for them, and with one that is none of these some never end.
    """
    schema: Any = operator._schema  # noqa: SLF001  # no other way
    for index, argument in enumerate(schema.arguments):
        value = given[index] if index < len(given) else named.get(argument.name)
        if _CODED.search(str(argument.real_type)) and isinstance(value, int | float):
            return str(argument.name)
    return ""


def repetitions(operator: "OpOverload", given: "Sequence[Any]", named: "Mapping[str, Any]") -> int:
    """Return how often an operator repeats something at most, beyond what tensors' sizes say.

    That is how many tensors it gives, and how many times it is applied where an argument says so.
    """
    schema: Any = operator._schema  # noqa: SLF001  # no other way
    arguments: dict[str, Any] = {
        argument.name: given[index] if index < len(given) else named.get(argument.name)
        for index, argument in enumerate(schema.arguments)
    }
    found: list[int] = [arguments[name] for name in _TIMES if type(arguments.get(name)) is int]
    if any(str(result.type).startswith("List") for result in schema.returns):
        found += [len(value) for value in arguments.values() if isinstance(value, list | tuple)]
    times = arguments.get("n")
    if type(times) is int and not _SIZED.fullmatch(schema.name):
        found.append(times)
    shape = getattr(arguments.get("self"), "shape", ())
    dimension = arguments.get("dim") or 0
    if _DIVIDES.fullmatch(schema.name) and type(dimension) is int:
        side = shape[dimension] if -len(shape) <= dimension < len(shape) else 0
        each = arguments.get("split_size", 1)
        if "chunks" not in arguments and "sections" not in arguments and type(each) is int:
            found.append(-(-side // max(1, each)))
    return max(found, default=0)


def operator_name(target: object) -> str | None:
    """Return the name of an operator of the closed list; None for any other."""
    name = ELEMENT if target is getitem else str(target)
    return name if operator_called(name) is target else None


def _takes_plain(operator: "OpOverload") -> bool:
    schema: Any = operator._schema  # noqa: SLF001  # no other way
    for index, argument in enumerate(schema.arguments):
        kind = str(argument.type)
        if kind in ("str", "Optional[str]"):
            if argument.name not in _WORDS:
                return False
        elif kind not in _PLAIN:
            return False
        # In place: what an operator reads first, and no tensor beside.
        if index and argument.alias_info is not None and argument.alias_info.is_write:
            return False
    gives = [str(result.type) for result in schema.returns]
    return all(kind in ("Tensor", "List[Tensor]") for kind in gives) and (
        bool(gives) or schema.name == _CHECK
    )
