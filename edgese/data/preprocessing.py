"""From a decoded picture to a network's input."""

from typing import TYPE_CHECKING, Final

from edgese.errors import InputError
from edgese.records.model import Interpolation, Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

# A strip of 1 x 20000 pixels is a small file, and 1.3 billion pixels once its short side is 256.
MAX_RESIZED_PIXELS: Final = 64_000_000


def preprocess(image: "Image", p: Preprocessing) -> "NDArray[np.float32]":
    """The network's input from an RGB picture, equal to torchvision's transforms bit for bit.

    That is Resize on the picture (Pillow's resampling, with its antialiasing), CenterCrop, ToTensor
    and Normalize. The aspect ratio is kept. With ``height`` unlike ``width`` the picture's shorter
    side is still resized for the larger of the two, so that the crop always lies within it.

    Returns:
        (3, height, width), contiguous.

    Raises:
        InputError: the picture is so elongated that it cannot be resized within reasonable memory.
    """
    import numpy as np

    values = np.asarray(cropped(image, p), dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    values -= np.array(p.mean, np.float32)[:, None, None]
    values /= np.array(p.std, np.float32)[:, None, None]
    return np.ascontiguousarray(values)


def cropped(image: "Image", p: Preprocessing) -> "Image":
    """What a network sees of an RGB picture: resized and cropped, ``p.width`` x ``p.height`` px.

    Raises:
        InputError: as `preprocess`.
    """
    width, height = resized_size(image.size, p)
    if width * height > MAX_RESIZED_PIXELS:
        raise InputError(
            f"A picture of {image.width} x {image.height} px would be resized to "
            f"{width} x {height} px.",
            hint="It is too elongated to be classified; crop it or take it out.",
        )
    resized = image.resize((width, height), resampling(p.interpolation))
    # round() is half to even here as in torchvision; half up would move every odd margin by one.
    left, top = round((width - p.width) / 2), round((height - p.height) / 2)
    return resized.crop((left, top, left + p.width, top + p.height))


def resized_size(size: tuple[int, int], p: Preprocessing) -> tuple[int, int]:
    """Width and height after resizing, from those of the picture."""
    width, height = size
    shorter = round(max(p.height, p.width) / p.crop)
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def resampling(interpolation: Interpolation) -> int:
    """Pillow's number for an interpolation."""
    from PIL.Image import Resampling

    return {
        "nearest": Resampling.NEAREST,
        "bilinear": Resampling.BILINEAR,
        "bicubic": Resampling.BICUBIC,
    }[interpolation]
