"""Reads what ONNX Runtime's QNN provider logs and writes while it compiles a file. Pure.

Source of the wording: onnxruntime-qnn 2.7.0, GetCapability and LogNodeSupport in
onnxruntime/core/providers/qnn/qnn_execution_provider.cc; of the reasons, Qualcomm's libraries.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from edgese.errors import DeviceError

_TURN: Final = "GetCapability pass "
_UNIT: Final = re.compile(
    r"Validation (?P<verdict>PASSED|FAILED) for \d+ nodes in OrtNodeUnit \((?P<operator>\w+)\) :\n"
    r"(?P<nodes>(?:\tOperator type: .*\n)+)(?:\tREASON : (?P<reason>.*))?"
)
_NODE: Final = re.compile(r"\tOperator type: (?P<operator>\S+) Node name: ")
# What the compiler says of an operator before the provider says that it failed.
_DETAIL: Final = re.compile(
    r"QnnLogging\]\s+(?:<E>\s+)?"
    r"(?P<said>Unsupported [^\n]*|Tensor \d+ and \d+ have mismatching [^\n]*)"
)
_REQUESTED: Final = re.compile(
    r"Requested I/O datatype set:\s*\n(?P<types>(?:\s*(?:in|out)\[\d+\]:\w+\s*\n)+)"
)
_MISMATCH: Final = re.compile(r"(?P<one>0x[0-9a-f]+) != (?P<other>0x[0-9a-f]+)")
# Qualcomm's numbers of data types, as the log itself shows them elsewhere by name.
_TYPES: Final = {
    "0x8": "INT_8",
    "0x108": "UINT_8",
    "0x308": "SFIXED_POINT_8",
    "0x408": "UFIXED_POINT_8",
}
_IN_NODE: Final = re.compile(r" in the node '[^']*'\. There is a mismatch [^.]*\.?")
_VAGUE: Final = "Failed to add node."


@dataclass(frozen=True)
class Unit:
    """Operators that the provider judges together: one, or one among its quantize and dequantize.

    Attributes:
        operator: the one that they are there for.
        operators: all of them.
        reason: why it leaves them; "" where it takes them.
    """

    operator: str
    operators: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Trace:
    """What the provider compiled.

    Attributes:
        operators: of the graph after the runtime's own changes.
        partition_sizes: operators of each piece.
    """

    operators: int
    partition_sizes: tuple[int, ...]


def parsed_log(text: str) -> tuple[tuple[Unit, ...], ...]:
    """The units that the provider judged, once for each time that it was asked.

    It is asked about the graph as the file has it, and again after its tensors have channels last.

    Raises:
        DeviceError: it is not in the wording that edgese knows.
    """
    passes = tuple(tuple(_units(part)) for part in text.split(_TURN)[1:])
    if not any(passes):
        raise foreign("its log names no operator")
    return passes


def _units(text: str) -> Iterator[Unit]:
    behind = 0
    for found in _UNIT.finditer(text):
        reason = ""
        if found["verdict"] == "FAILED":
            told = (found["reason"] or "").strip()
            detail = _detail(text[behind : found.start()]) if told in ("", _VAGUE) else ""
            reason = detail or told or "it did not say"
        behind = found.end()
        yield Unit(found["operator"], tuple(_NODE.findall(found["nodes"])), reason)


def _detail(text: str) -> str:
    """The compiler's own words for what the provider only calls a failure; "" where it is mute."""
    said = _DETAIL.search(text)
    if said is None:
        return ""
    words = _IN_NODE.sub("", said["said"]).strip().rstrip(".")
    if differs := _MISMATCH.search(words):
        names = (_TYPES.get(differs[side], differs[side]) for side in ("one", "other"))
        return f"{words} ({', '.join(names)})"
    requested = _REQUESTED.search(text)
    if requested is None:
        return words
    types = [part.strip().replace("QNN_DATATYPE_", "") for part in requested["types"].split("\n")]
    return f"{words}: {', '.join(part.replace(':', ' ') for part in types if part)}"


def parsed_trace(text: str) -> Trace:
    """Reads the provider's trace of operators.

    Raises:
        DeviceError: it is not in the format that edgese knows.
    """
    try:
        trace: dict[str, Any] = json.loads(text)
        return Trace(
            operators=int(trace["summary"]["total_onnx_nodes"]),
            partition_sizes=tuple(
                sum(
                    source["type"] == "OP"
                    for made in piece["op_mappings"]
                    for source in made["sources"]
                )
                for piece in trace["subgraph_traces"]
            ),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise foreign(f"its trace of operators cannot be read ({error!r})") from error


def foreign(what: str) -> DeviceError:
    """The error of an answer in another version's words."""
    return DeviceError(
        f"The QNN provider's answer is not in the form that edgese reads: {what}.",
        hint="Install the version that is known to work: pip install 'edgese[qualcomm]'",
    )
