"""Pictures of coloured shapes with known classes, as many as wanted: a user's task in small.

    python tests/bench/shapes.py FOLDER --classes 5 --train 300 --held-out 200

writes FOLDER/train and FOLDER/held-out, each with one folder a class.
"""

import argparse
import colorsys
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

Points = list[tuple[float, float]]


def _polygon(corners: int, inner: float = 1.0) -> Points:
    """A regular polygon of radius 1; every other corner lies at ``inner``."""
    radii = [1.0 if i % 2 == 0 else inner for i in range(corners)]
    angles = [2 * math.pi * i / corners for i in range(corners)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _bar(length: float, width: float) -> Points:
    return [(-length, -width), (length, -width), (length, width), (-length, width)]


# A shape is the polygons that it is filled with, within radius 1.
SHAPES: Final[dict[str, tuple[Points, ...]]] = {
    "disc": (_polygon(32),),
    "triangle": (_polygon(3),),
    "square": (_polygon(4),),
    "star": (_polygon(10, inner=0.4),),
    "cross": (_bar(1.0, 0.28), [(y, x) for x, y in _bar(1.0, 0.28)]),
}


def class_names(classes: int) -> tuple[str, ...]:
    """Names of the classes, sorted as folders are.

    Up to five classes are shapes of any colour; more are shapes of one of several hues each.
    """
    hues = math.ceil(classes / len(SHAPES))
    if hues == 1:
        return tuple(sorted(list(SHAPES)[:classes]))
    names = [f"{shape}-{hue:02d}" for hue in range(hues) for shape in SHAPES]
    return tuple(sorted(names[:classes]))


def write_shapes(folder: Path, classes: int, count: int, *, seed: int, side: int = 96) -> Path:
    """Write ``count`` pictures into one folder a class, the same for the same seed.

    Args:
        folder: must not have any yet.
        side: of a picture, in pixels.

    Returns:
        The folder.
    """
    names = class_names(classes)
    hues = math.ceil(classes / len(SHAPES))
    for number in range(count):
        name = names[number % classes]
        random = np.random.default_rng((seed, number))
        shape, _, hue = name.partition("-")
        # Hues of neighbouring classes do not overlap.
        centre = random.uniform() if not hue else (int(hue) + random.uniform(-0.25, 0.25)) / hues
        path = folder / name / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _drawn(SHAPES[shape], centre % 1.0, random, side).save(path)
    return folder


def _drawn(
    polygons: tuple[Points, ...], hue: float, random: np.random.Generator, side: int
) -> Image.Image:
    """A shape of random place, size and direction on a noisy grey ground."""
    ground = random.uniform(60, 190) + random.normal(0, 12, (side, side, 1))
    image = Image.fromarray(np.repeat(ground, 3, 2).clip(0, 255).astype(np.uint8))
    red, green, blue = colorsys.hsv_to_rgb(hue, random.uniform(0.6, 1), random.uniform(0.6, 1))
    radius = side * random.uniform(0.22, 0.4)
    x, y = random.uniform(radius, side - radius, 2)
    turned = _turning(random.uniform(0, 2 * math.pi))
    for points in polygons:
        corners = [(x + radius * a, y + radius * b) for a, b in map(turned, points)]
        ImageDraw.Draw(image).polygon(
            corners, fill=tuple(round(255 * value) for value in (red, green, blue))
        )
    return image


def _turning(angle: float) -> Callable[[tuple[float, float]], tuple[float, float]]:
    cos, sin = math.cos(angle), math.sin(angle)
    return lambda point: (point[0] * cos - point[1] * sin, point[0] * sin + point[1] * cos)


def main() -> None:
    """Write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for part, count in (("train", arguments.train), ("held-out", arguments.held_out)):
        # The parts have no picture in common: their numbers run on.
        seed = 2 * arguments.seed + (part == "held-out")
        print(write_shapes(arguments.folder / part, arguments.classes, count, seed=seed))


if __name__ == "__main__":
    main()
