"""Reads and writes Core ML packages, and finds faults in the program that one holds."""

import logging
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgese.errors import StoreError
from edgese.records.artifact import Interface
from edgese.targets.batches import unreadable

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX: Final = ".mlpackage"
# coremltools imports each of these that it finds, to offer front ends that are not used here: three
# seconds where scikit-learn, torchao and ExecuTorch are installed.
_PROBED: Final = (
    "executorch",
    "libsvm",
    "sklearn",
    "tensorflow",
    "torchao",
    "torchaudio",
    "torchvision",
    "transformers",
    "xgboost",
)
_DATA: Final = Path("Data", "com.apple.CoreML")
TITLE: Final = "Core ML"
# The set of operators that each version of the specification brought; coremltools 9,
# converters/mil/backend/mil/helper.py and _deployment_compatibility.py.
_OPSETS: Final = {7: "CoreML6", 8: "CoreML7", 9: "CoreML8", 10: "CoreML9"}
# A weight's entry in the file: mark, data type, bytes, and where they begin; MILBlob's
# StorageFormat.hpp in coremltools.
_BLOB: Final = struct.Struct("<IIQQ")
_BLOB_MARK: Final = 0xDEADBEEF


@dataclass(frozen=True)
class Package:
    """A package's specification, which is a protobuf message, and the bytes of its weights."""

    spec: Any
    weights: bytes

    @property
    def block(self) -> Any:  # noqa: ANN401  # a protobuf message
        """The program's operators."""
        main = self.spec.mlProgram.functions["main"]
        return main.block_specializations[main.opset]


def import_coremltools() -> None:
    """Imports coremltools without the packages that it probes for.

    None in ``sys.modules`` is Python's own way to say that a module is not there (reference manual,
    5.3.1); those that are loaded already stay. What it logs of itself meanwhile is kept away: that
    Core ML's own libraries are not there, which is so on every system but Apple's, and that it was
    not tried with this version of torch, which edgese's tests do. What it logs later is shown.
    """
    logger = logging.getLogger("coremltools")
    before = logger.level
    logger.setLevel(logging.ERROR)
    hidden = [name for name in _PROBED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is allowed there
    try:
        import coremltools  # noqa: F401  # its import is what this is for
    finally:
        logger.setLevel(before)
        for name in hidden:
            sys.modules.pop(name, None)


def read(artifact: Path) -> Package:
    """Reads specification and weights.

    Raises:
        InputError: a part is missing or truncated, or it is no ML program.
        StoreError: a newer specification than is known here.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types

    import_coremltools()
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    try:
        spec.ParseFromString((artifact / _DATA / "model.mlmodel").read_bytes())
    except OSError as error:
        raise unreadable(artifact, TITLE, f"{error.filename}: {error.strerror}") from error
    except DecodeError as error:
        raise unreadable(artifact, TITLE, error) from error
    if spec.WhichOneof("Type") != "mlProgram" or "main" not in spec.mlProgram.functions:
        raise unreadable(artifact, TITLE, "it holds no ML program")
    newest = max(_OPSETS)
    if spec.specificationVersion > newest:
        raise StoreError(
            f"{artifact} is of Core ML's specification {spec.specificationVersion}; the newest "
            f"that is known here is {newest}.",
            hint="A newer coremltools made it. Convert the model again, or upgrade edgese.",
        )
    weights = weights_folder(artifact) / "weight.bin"
    package = Package(spec, weights.read_bytes() if weights.is_file() else b"")
    for name, start in _blobs(package):
        if fault := _blob_fault(package.weights, start):
            raise unreadable(artifact, TITLE, f"the weights of {name} {fault}")
    return package


def weights_folder(artifact: Path) -> Path:
    """Where a package keeps the files of its weights."""
    return artifact / _DATA / "weights"


def save(model: Any, dest: Path) -> None:  # noqa: ANN401  # coremltools is untyped
    """Writes a package to ``dest``, whatever its name ends in."""
    place = dest if dest.suffix == SUFFIX else dest.with_name(dest.name + SUFFIX)
    model.save(str(place))
    # coremltools leaves its map from the exported program's nodes there: it is no part of the
    # package, which lists its own, and nothing reads it.
    (place / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    if place != dest:
        place.rename(dest)


def operators(package: Package) -> Counter[str]:
    """How many operators of each kind the program has; constants are none."""
    return Counter(op.type for op in package.block.operations if op.type != "const")


def argument(package: Package, op: Any, name: str) -> "NDArray[Any]":  # noqa: ANN401  # protobuf
    """The constant that an operator is given under a name, by whichever way the format has."""
    if name in op.attributes:
        return _array(package, op.attributes[name])
    (given,) = op.inputs[name].arguments
    if given.WhichOneof("binding") == "value":
        return _array(package, given.value)
    (maker,) = (made for made in package.block.operations if made.outputs[0].name == given.name)
    return _array(package, maker.attributes["val"])


def _array(package: Package, value: Any) -> "NDArray[Any]":  # noqa: ANN401  # a protobuf message
    import numpy as np
    from coremltools.proto import MIL_pb2

    kind = value.type.tensorType
    dtype = np.dtype(MIL_pb2.DataType.Name(kind.dataType).lower())
    shape = [dimension.constant.size for dimension in kind.dimensions]
    if value.WhichOneof("value") == "blobFileValue":
        _, _, size, start = _BLOB.unpack_from(package.weights, value.blobFileValue.offset)
        return np.frombuffer(package.weights[start : start + size], dtype).reshape(shape)
    held = value.immediateValue.tensor
    values = getattr(held, held.WhichOneof("value")).values
    if isinstance(values, bytes):
        return np.frombuffer(values, dtype).reshape(shape)
    return np.array(values, dtype).reshape(shape)


def faults(package: Package, interface: Interface) -> tuple[str, ...]:
    """What is wrong with the program, seen from outside; nothing where all is as it should be."""
    return tuple(_faults(package, interface))


def _faults(package: Package, interface: Interface) -> Iterator[str]:
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    main = package.spec.mlProgram.functions["main"]
    version = package.spec.specificationVersion
    if _OPSETS.get(version) != main.opset:
        yield f"specification {version} with the operators of {main.opset}"
    unknown = sorted({*operators(package)} - {*SSAOpRegistry.core_ops})
    if unknown:
        yield f"unknown operators {', '.join(unknown)}"
    if not any(True for _ in _blobs(package)):
        yield "no weights"
    description = package.spec.description
    inputs = {feature.name: feature.type for feature in description.input}
    outputs = {feature.name: feature.type for feature in description.output}
    if [*inputs] != [interface.input.name]:
        yield f"inputs {', '.join(inputs)} where {interface.input.name} was asked for"
    else:
        yield from _input_faults(inputs[interface.input.name], interface)
    if interface.output.name not in outputs:
        yield f"outputs {', '.join(outputs)} without {interface.output.name}"
    else:
        yield from _tensor_faults("output", outputs[interface.output.name], interface.output.shape)


def _input_faults(kind: Any, interface: Interface) -> Iterator[str]:  # noqa: ANN401  # protobuf
    if interface.input.dtype != "image":
        yield from _tensor_faults("input", kind, interface.input.shape)
        return
    size = (kind.imageType.height, kind.imageType.width)
    if kind.WhichOneof("Type") != "imageType" or size != interface.input.shape[2:]:
        yield f"an input that is no picture of {interface.input.shape[2:]} pixels"


def _tensor_faults(which: str, kind: Any, shape: tuple[int, ...]) -> Iterator[str]:  # noqa: ANN401  # protobuf
    from coremltools.proto import FeatureTypes_pb2

    found = tuple(kind.multiArrayType.shape)
    if found != shape:
        yield f"an {which} of shape {found} where {shape} was asked for"
    if kind.multiArrayType.dataType != FeatureTypes_pb2.ArrayFeatureType.FLOAT32:
        yield f"an {which} that is not fp32"


def _blobs(package: Package) -> Iterator[tuple[str, int]]:
    """Name and place of every constant that is kept in the weight file."""
    for op in package.block.operations:
        given = [each.value for name in op.inputs for each in op.inputs[name].arguments]
        for value in (*op.attributes.values(), *given):
            if value.WhichOneof("value") == "blobFileValue":
                yield op.outputs[0].name, value.blobFileValue.offset


def _blob_fault(weights: bytes, start: int) -> str:
    if start + _BLOB.size > len(weights):
        return f"are missing: the file ends at {len(weights)} bytes"
    mark, _, size, data = _BLOB.unpack_from(weights, start)
    if mark != _BLOB_MARK:
        return f"do not begin at {start}"
    if data + size > len(weights):
        return f"end at {data + size}, the file at {len(weights)}"
    return ""
