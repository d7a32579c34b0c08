"""Reading picture files."""

import io
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from edgese.bounds import IMAGE_BYTES, IMAGE_PIXELS, check_size, opened
from edgese.errors import InputError, MissingDependency, stage

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".webp")

# No others are tried whatever a file is called: some of Pillow's parsers start foreign programs.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
_REPLACE: Final = "Replace the file, or take it out."


def read_picture(path: Path, content: bytes | None = None) -> "Image":
    """The picture in a file, as RGB with 8 bits a channel, turned as its EXIF orientation says.

    JPEG, PNG, WebP and BMP, told by content and not by name; of an animation the first frame. An
    alpha channel is dropped, as torchvision's reader does, so that what lies under transparent
    pixels shows. 16-bit greys keep their upper 8 bits.

    Args:
        content: the file's bytes, where they are not to be read from ``path``, which then only
            names them.

    Raises:
        InputError: the file is missing, damaged, cut short, no regular file, or claims so many
            pixels (more than 179 million) that it is likely made to exhaust memory.
        MissingDependency: Pillow is not installed.
    """
    try:
        import PIL.Image  # noqa: F401  # the name is looked up where it is used
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "Pictures are read with Pillow, which is not installed.",
            hint="pip install 'edgese[train]'",
        ) from error
    if content is not None:
        return _decoded(io.BytesIO(content), path)
    with opened(path, "image", hint=_REPLACE) as file:
        check_size(file, path, "image", IMAGE_BYTES)
        return _decoded(file, path)


def _decoded(file: IO[bytes], path: Path) -> "Image":
    from PIL import Image, ImageOps, UnidentifiedImageError

    # Of what Pillow raises on damaged bytes only OSError is documented.
    with stage(f"read the image {path}", hint=_REPLACE):
        try:
            image = Image.open(file, formats=_FORMATS)
        except UnidentifiedImageError as error:
            raise _unreadable(
                path, "it is no JPEG, PNG, WebP or BMP, or its head is damaged"
            ) from error
        with image:
            if image.width * image.height > IMAGE_PIXELS:
                raise _unreadable(path, f"it claims {image.width} x {image.height} pixels")
            return _rgb(ImageOps.exif_transpose(image))


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
    return InputError(f"Cannot read the image {path}: {cause}.", hint=_REPLACE)
