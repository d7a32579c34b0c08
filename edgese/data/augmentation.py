"""Pictures varied at random, for training; the same for the same generator."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from edgese.data.preprocessing import cropped, resampling
from edgese.records.model import Preprocessing
from edgese.records.training import Augmentation, CenterCrop, PadCrop, ResizedCrop

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray
    from PIL.Image import Image

# Rectangles that are drawn before the largest one in the middle is taken, as in torchvision.
_TRIES: Final = 10
# Operations that RandAugment applies to each picture; EfficientNet and its successors take two.
_OPERATIONS: Final = 2
# At magnitude 10, arXiv:1909.13719 and its code: degrees, shares, and torchvision's 150 of 331 px.
_ROTATION: Final = 30.0
_SHEAR: Final = 0.3
_SHIFT: Final = 150 / 331
_CONTRAST: Final = 0.9
# What moves in from outside the picture, as in AutoAugment's code.
_GREY: Final = (128, 128, 128)


def augmented(
    image: "Image", augmentation: Augmentation, p: Preprocessing, rng: "Generator"
) -> "NDArray[np.uint8]":
    """A varied picture, as large as the network's input, not yet normalised.

    Args:
        image: RGB, of any size.
        p: of the network, with the height and width that are wanted.

    Returns:
        (height, width, 3).

    Raises:
        InputError: a picture too elongated for the crop, as in `preprocess`.
    """
    import numpy as np
    from PIL.Image import Transpose

    match augmentation.crop:
        case ResizedCrop() as crop:
            view = _resized_crop(image, crop, p, rng)
        case PadCrop() as crop:
            view = _moved(cropped(image, p), crop, p, rng)
        case CenterCrop():
            view = cropped(image, p)
    if augmentation.flip and rng.random() < 0.5:
        view = view.transpose(Transpose.FLIP_LEFT_RIGHT)
    if augmentation.colour:
        view = _coloured(view, augmentation.colour, rng)
    if augmentation.randaugment:
        for number in rng.integers(len(_RANDAUGMENT), size=_OPERATIONS):
            view = _RANDAUGMENT[number](view, augmentation.randaugment / 10, rng)
    return np.asarray(view)


def _resized_crop(image: "Image", crop: ResizedCrop, p: Preprocessing, rng: "Generator") -> "Image":
    left, top, width, height = rectangle(image.size, crop, rng)
    return image.resize(
        (p.width, p.height),
        resampling(p.interpolation),
        box=(left, top, left + width, top + height),
    )


def rectangle(
    size: tuple[int, int], crop: ResizedCrop, rng: "Generator"
) -> tuple[int, int, int, int]:
    """Left, top, width and height of a rectangle that lies within a picture."""
    full_width, full_height = size
    narrowest, widest = crop.aspect
    for _ in range(_TRIES):
        area = full_width * full_height * rng.uniform(*crop.area)
        aspect = math.exp(rng.uniform(math.log(narrowest), math.log(widest)))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= full_width and 0 < height <= full_height:
            left = int(rng.integers(full_width - width + 1))
            return left, int(rng.integers(full_height - height + 1)), width, height
    # A strip has no rectangle of this kind: as much of its middle as the aspect allows.
    width = max(1, min(full_width, round(full_height * widest)))
    height = max(1, min(full_height, round(full_width / narrowest)))
    return (full_width - width) // 2, (full_height - height) // 2, width, height


def _moved(view: "Image", crop: PadCrop, p: Preprocessing, rng: "Generator") -> "Image":
    from PIL import Image

    # Zero once it is normalised, which is what the ResNet paper pads with.
    rim = tuple(round(255 * mean) for mean in p.mean)
    canvas = Image.new("RGB", view.size, rim)
    left, top = (int(rng.integers(-crop.padding, crop.padding + 1)) for _ in range(2))
    canvas.paste(view, (left, top))
    return canvas


def _coloured(view: "Image", strength: float, rng: "Generator") -> "Image":
    from PIL import ImageEnhance

    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for number in rng.permutation(len(kinds)):
        view = kinds[number](view).enhance(rng.uniform(1 - strength, 1 + strength))
    return view


_Operation = Callable[["Image", float, "Generator"], "Image"]


def _same(view: "Image", _level: float, _rng: "Generator") -> "Image":
    return view


def _autocontrast(view: "Image", _level: float, _rng: "Generator") -> "Image":
    from PIL import ImageOps

    return ImageOps.autocontrast(view)


def _equalize(view: "Image", _level: float, _rng: "Generator") -> "Image":
    from PIL import ImageOps

    return ImageOps.equalize(view)


def _solarize(view: "Image", level: float, _rng: "Generator") -> "Image":
    from PIL import ImageOps

    return ImageOps.solarize(view, max(0, round(256 * (1 - level))))


def _posterize(view: "Image", level: float, _rng: "Generator") -> "Image":
    from PIL import ImageOps

    return ImageOps.posterize(view, max(1, 8 - round(4 * level)))


def _enhancing(name: str) -> _Operation:
    """An operation of Pillow's ImageEnhance, whose factor goes as far below 1 as above."""

    def enhance(view: "Image", level: float, rng: "Generator") -> "Image":
        from PIL import ImageEnhance

        factor = max(0.0, 1 + _signed(_CONTRAST * level, rng))
        changed: Image = getattr(ImageEnhance, name)(view).enhance(factor)
        return changed

    return enhance


def _rotate(view: "Image", level: float, rng: "Generator") -> "Image":
    from PIL.Image import Resampling

    angle = _signed(_ROTATION * level, rng)
    return view.rotate(angle, resample=Resampling.BILINEAR, fillcolor=_GREY)


def _shear_x(view: "Image", level: float, rng: "Generator") -> "Image":
    return _moved_by(view, (1, _signed(_SHEAR * level, rng), 0, 0, 1, 0))


def _shear_y(view: "Image", level: float, rng: "Generator") -> "Image":
    return _moved_by(view, (1, 0, 0, _signed(_SHEAR * level, rng), 1, 0))


def _shift_x(view: "Image", level: float, rng: "Generator") -> "Image":
    return _moved_by(view, (1, 0, _signed(_SHIFT * level * view.width, rng), 0, 1, 0))


def _shift_y(view: "Image", level: float, rng: "Generator") -> "Image":
    return _moved_by(view, (1, 0, 0, 0, 1, _signed(_SHIFT * level * view.height, rng)))


def _moved_by(view: "Image", matrix: tuple[float, ...]) -> "Image":
    from PIL.Image import Resampling, Transform

    return view.transform(
        view.size, Transform.AFFINE, matrix, resample=Resampling.BILINEAR, fillcolor=_GREY
    )


def _signed(value: float, rng: "Generator") -> float:
    return value if rng.random() < 0.5 else -value


# The fourteen of arXiv:1909.13719, figure 2.
_RANDAUGMENT: Final[tuple[_Operation, ...]] = (
    _same,
    _autocontrast,
    _equalize,
    _rotate,
    _solarize,
    _enhancing("Color"),
    _posterize,
    _enhancing("Contrast"),
    _enhancing("Brightness"),
    _enhancing("Sharpness"),
    _shear_x,
    _shear_y,
    _shift_x,
    _shift_y,
)
