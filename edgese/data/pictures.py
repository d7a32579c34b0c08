"""Reading picture files."""

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese.errors import InputError, MissingDependency

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".webp")

# No others are tried whatever a file is called: some of Pillow's parsers start foreign programs.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")

# What Pillow's parsers raise on damaged bytes, as random mutations of files showed; only OSError is
# documented.
_DAMAGED: Final = (OSError, SyntaxError, ValueError, TypeError, struct.error)


def read_picture(path: Path, content: bytes | None = None) -> "Image":
    """The picture in a file, as RGB with 8 bits a channel, turned as its EXIF orientation says.

    JPEG, PNG, WebP and BMP, told by content and not by name; of an animation the first frame. An
    alpha channel is dropped, as torchvision's reader does, so that what lies under transparent
    pixels shows. 16-bit greys keep their upper 8 bits.

    Args:
        content: the file's bytes, where they are not to be read from ``path``, which then only
            names them.

    Raises:
        InputError: the file is missing, damaged, cut short, or claims so many pixels (Pillow's
            limit, 179 million) that it is likely made to exhaust memory.
        MissingDependency: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "Pictures are read with Pillow, which is not installed.",
            hint="pip install 'edgese[train]'",
        ) from error
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        source = path if content is None else io.BytesIO(content)
        with Image.open(source, formats=_FORMATS) as image:
            return _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise _unreadable(
            path, "it is no JPEG, PNG, WebP or BMP, or its head is damaged"
        ) from error
    except (*bombs, *_DAMAGED) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(path, cause) from error


def _rgb(image: "Image") -> "Image":
    if image.mode.startswith("I;16"):
        import numpy as np
        from PIL.Image import fromarray

        # Pillow would clip: every grey above 255 of 65535 would be white.
        image = fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _unreadable(path: Path, cause: str) -> InputError:
    return InputError(
        f"{path} is not a readable picture: {cause}", hint="Replace the file, or take it out."
    )
