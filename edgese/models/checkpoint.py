"""Reads files of weights as they are, without running code that they may carry.

What a file is, is seen from its first bytes: names end in .bin, .pth, .pt and .ckpt alike.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from edgese.bounds import (
    SAFETENSORS_HEADER_BYTES,
    ZIP_EXPANSION,
    ZIP_MEMBERS,
    opened,
    unique,
)
from edgese.errors import InputError, stage

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


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """A tensor in a safetensors header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


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
        if not _is_zip(path):
            raise InputError(f"{path} starts as a torch file and has no end.", hint=_AGAIN)
        return "zip"
    if start.startswith(b"\x80"):
        return "pickle"
    if start[8:] == b"{":
        raise InputError(f"{path} ends before its header does.", hint=_AGAIN)
    if not start:
        raise InputError(f"{path} is empty.", hint=_READABLE)
    raise InputError(f"{path} is neither a safetensors file nor a torch file.", hint=_READABLE)


def _is_zip(path: Path) -> bool:
    with stage(f"read the weights {path} as a torch file", hint=_AGAIN):
        return zipfile.is_zipfile(path)


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The metadata in a safetensors file's header, read without the safetensors package.

    Source: the format's own description, github.com/huggingface/safetensors, README.md.

    Raises:
        InputError: the header is broken, or the file ends before its tensors do.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise InputError(f"{path} ends before its header does.", hint=_AGAIN)
        if length > SAFETENSORS_HEADER_BYTES:
            raise InputError(
                f"{path} has a header of {length} bytes; {SAFETENSORS_HEADER_BYTES} are the most "
                "that the format allows.",
                hint=_AGAIN,
            )
        with stage(f"read the safetensors header of {path}", hint=_AGAIN):
            read = json.loads(file.read(length), object_pairs_hook=unique(path))
            header = msgspec.convert(read, dict[str, Any])
            metadata = msgspec.convert(header.pop("__metadata__", {}), dict[str, str])
            entries = msgspec.convert(header, dict[str, _Entry])
    expected = 8 + length + max((entry.data_offsets[1] for entry in entries.values()), default=0)
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


def _opened(path: Path) -> BufferedReader:
    return opened(
        path, "weights file", hint="Give the path of a readable file, `imagenet` or `none`."
    )


def _read_safetensors(path: Path) -> dict[str, "Tensor"]:
    from safetensors.torch import load_file

    with stage(f"read the weights {path} as safetensors", hint=_AGAIN):
        return load_file(path)


def _read_torch(path: Path) -> object:
    import pickle

    import torch

    form = file_format(path)
    if form == "zip":
        _refuse_programs(path)
    # Only the newer zip files can be mapped into memory; and by a path torch goes by the suffix.
    mapped = form == "zip" and path.suffix != ".safetensors"
    # Whatever a damaged pickle makes torch's unpickler raise.
    with _opened(path) as file, stage(f"read the weights {path} as a torch file", hint=_AGAIN):
        try:
            content: object = torch.load(
                path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped
            )
        except pickle.UnpicklingError as error:
            if "weights_only" not in str(error) and "Weights only" not in str(error):
                raise
            raise InputError(
                f"{path} is a pickled program, not just weights, and reading it would run it.",
                hint="Where you trust it: load it in your own code, then "
                'torch.save(model.state_dict(), "weights.pth") and give that file.',
            ) from error
    return content


def _refuse_programs(path: Path) -> None:
    """Tells weights from the two kinds of programs that torch keeps in a zip file as well."""
    with stage(f"read the weights {path} as a torch file", hint=_AGAIN):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        names = {member.filename.rpartition("/")[2] for member in members}
        most = ZIP_EXPANSION * path.stat().st_size
    if len(members) > ZIP_MEMBERS or sum(member.file_size for member in members) > most:
        raise InputError(
            f"{path} has {len(members)} members and would take more than {ZIP_EXPANSION} times its "
            f"size; {ZIP_MEMBERS} and that are the most that are read.",
            hint="torch.save compresses nothing; this file was made to exhaust memory.",
        )
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
