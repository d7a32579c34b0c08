"""Reads files of weights as they are, without running code that they may carry.

What a file is, is seen from its first bytes: names end in .bin, .pth, .pt and .ckpt alike.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from edgese.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Format = Literal["safetensors", "zip", "pickle"]

# Training scripts store more than the weights; these keys hold them.
_WRAPPERS: Final = ("state_dict", "model", "state_dict_ema", "model_ema")
_AGAIN: Final = "It is truncated or damaged: fetch it again and compare its hash with its source."
_READABLE: Final = (
    "Give a .safetensors file, or a .pth or .pt file with a state_dict "
    '(torch.save(model.state_dict(), "weights.pth")).'
)


def file_format(path: Path) -> Format:
    """What kind of file ``path`` is, as far as can be told without torch.

    Raises:
        InputError: it is truncated, or neither safetensors nor torch's.
    """
    with _opened(path) as file:
        start = file.read(9)
    # Before the others: a header's length may begin with any byte, that of a pickle among them.
    header = int.from_bytes(start[:8], "little")
    if start[8:] == b"{" and header <= path.stat().st_size - 8:
        return "safetensors"
    if start.startswith(b"PK\x03\x04"):
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path} starts as a torch file and has no end.", hint=_AGAIN)
        return "zip"
    if start.startswith(b"\x80"):
        return "pickle"
    if start[8:] == b"{":
        raise InputError(f"{path} ends before its header does.", hint=_AGAIN)
    if not start:
        raise InputError(f"{path} is empty.", hint=_READABLE)
    raise InputError(f"{path} is neither a safetensors file nor a torch file.", hint=_READABLE)


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The metadata in a safetensors file's header, read without the safetensors package.

    Source: the format's own description, github.com/huggingface/safetensors, README.md.

    Raises:
        InputError: the header is broken, or the file ends before its tensors do.
    """
    size = path.stat().st_size
    with _opened(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise InputError(f"{path} ends before its header does.", hint=_AGAIN)
        try:
            header = json.loads(file.read(length))
            metadata = msgspec.convert(header.pop("__metadata__", {}), dict[str, str])
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
            expected = 8 + length + end
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            IndexError,
            msgspec.ValidationError,
        ) as error:
            raise InputError(f"{path} has no readable safetensors header.", hint=_AGAIN) from error
    if expected != size:
        raise InputError(f"{path} should be {expected} bytes long and is {size}.", hint=_AGAIN)
    return metadata


def read_tensors(path: Path) -> dict[str, "Tensor"]:
    """The tensors of a file by their own names, wrappers and "module." prefixes taken off.

    Raises:
        InputError: truncated, not weights, or code that would have to run.
        MissingDependency: torch or safetensors is not installed.
    """
    if file_format(path) == "safetensors":
        safetensors_metadata(path)
        return _without_prefix(_read_safetensors(path))
    return _without_prefix(_state_dict(_read_torch(path), path))


def _opened(path: Path) -> Any:  # noqa: ANN401  # a binary file; its type has no public name
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(
            f"The weights file {path} cannot be read: {error.strerror}.",
            hint="Give the path of a readable file, `imagenet` or `none`.",
        ) from error


def _read_safetensors(path: Path) -> dict[str, "Tensor"]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not readable safetensors: {error}", hint=_AGAIN) from error


def _read_torch(path: Path) -> object:
    import pickle

    import torch

    # Only the newer zip files can be mapped into memory.
    mapped = file_format(path) == "zip"
    if mapped:
        _refuse_programs(path)
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Weights only" in str(error):
            raise InputError(
                f"{path} is a pickled program, not just weights, and reading it would run it.",
                hint="Where you trust it: load it in your own code, then "
                'torch.save(model.state_dict(), "weights.pth") and give that file.',
            ) from error
        raise InputError(f"{path} is not a readable torch file: {error}", hint=_AGAIN) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path} is not a readable torch file: {error}", hint=_AGAIN) from error
    return content


def _refuse_programs(path: Path) -> None:
    """Tells weights from the two kinds of programs that torch keeps in a zip file as well."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is not a readable torch file: {error}", hint=_AGAIN) from error
    if names & {"constants.pkl", "archive_format"}:
        raise InputError(
            f"{path} is a TorchScript or an exported program, not weights.",
            hint="Save the state_dict of the module that it was made from.",
        )
    if "data.pkl" not in names:
        raise InputError(f"{path} is a zip file, but not one of torch's.", hint=_READABLE)


def _state_dict(content: object, path: Path) -> dict[str, "Tensor"]:
    import torch

    if isinstance(content, Mapping):
        wrappers = [key for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        if len(wrappers) > 1:
            raise InputError(
                f"{path} holds several sets of weights: {', '.join(wrappers)}.",
                hint="Save the one that you mean as a file of its own.",
            )
        tensors = content[wrappers[0]] if wrappers else content
        if tensors and all(
            isinstance(name, str) and isinstance(value, torch.Tensor)
            for name, value in tensors.items()
        ):
            return dict(tensors)
        found = f"a dict with {', '.join(map(repr, list(content)[:4])) or 'nothing'} in it"
    else:
        found = f"a {type(content).__name__}"
    raise InputError(f"{path} holds {found}, not a state_dict of tensors.", hint=_READABLE)


def _without_prefix(tensors: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    # DataParallel and DistributedDataParallel put the network one level down.
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors
