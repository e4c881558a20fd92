"""An image at many sizes, the descriptor of each, and the windows that a template of one size has in them.

L levels, from the largest to the smallest. A *place* is what the descriptor describes: a block of cells, or a cell.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.boxes.boxes import Boxes, clip
from lib.detectors.hog.features import Descriptor, Features
from lib.images.decode import Image
from lib.stage.errors import Fault, InputError
from lib.stage.params import Settings
from lib.storage import shards

NAME = "places"


class Pyramid(Settings):
    """Block `hog.pyramid`.

    upscale : of the first level; 2: objects of half a window's side are found (DPM: 2; Dalal, Triggs: 1)
    octave  : levels from one size to half of it (DPM: 10, in training 5 and 4)
    least   : cells, the shorter side of the last level (DPM: 5)
    padding : cells of a window that may lie outside the image, on each side (DPM: all but one)
    """

    upscale: float = Field(ge=0.25, le=4)
    octave: int = Field(ge=1, le=40)
    least: int = Field(ge=3)
    padding: int = Field(ge=0)

    def levels(self, width: int, height: int, descriptor: Descriptor, octave: int | None = None) -> "list[Level]":
        """Those of an image of these sides in pixels; none where it is too small. octave : another than `octave`"""
        levels: list[Level] = []
        while True:
            scale = self.upscale * 2 ** (-len(levels) / (octave or self.octave))
            sides = round(width * scale), round(height * scale)
            grid = descriptor.grid(sides[1], sides[0])
            if min(grid) < self.least:
                return levels
            levels.append(Level(*sides, sides[0] / width, sides[1] / height, *descriptor.size(*grid)))


@dataclass(frozen=True)
class Level:
    """width, height : pixels;  x, y : by what the image's sides were multiplied;  rows, columns : of places"""

    width: int
    height: int
    x: float
    y: float
    rows: int
    columns: int


def sources(levels: Sequence[Level]) -> list[int | None]:
    """The level, by its number, that each is made from: the smallest of twice its size; None: the image itself."""
    whole = [number for number, level in enumerate(levels) if level.x <= 1]
    return [
        max((number for number in whole
             if levels[number].width >= 2 * level.width - 1 and levels[number].height >= 2 * level.height - 1),
            default=None)
        for level in levels
    ]


def describe(image: Image, levels: Sequence[Level], descriptor: Descriptor) -> Iterator[Features]:
    """float32 (rows, columns, D) of each level.

    Smaller images are averages over areas, larger ones bilinear. A level is made from one of twice its size where there
    is one, as in DPM.
    """
    origins = sources(levels)
    last = {origin: number for number, origin in enumerate(origins)}
    made: dict[int | None, Image] = {None: image}
    for number, (level, origin) in enumerate(zip(levels, origins, strict=True)):
        size, source = (level.width, level.height), made[origin]
        way = cv2.INTER_AREA if level.width < source.shape[1] else cv2.INTER_LINEAR
        same = source.shape[1::-1] == size
        pixels = source if same else np.asarray(cv2.resize(source, size, interpolation=way), np.uint8)
        if number in last:
            made[number] = pixels
        if last[origin] == number:
            del made[origin]
        yield descriptor(pixels)


def memory(levels: Sequence[Level], descriptor: Descriptor) -> int:
    """Bytes while an image is described, its places kept in half precision: pixels that a later level is made from, and
    of the level at work its pixels twice and its places."""
    origins = sources(levels)
    kept, most = 0, 0
    for number, level in enumerate(levels):
        pixels, depth = 3 * level.width * level.height, 4 if descriptor.gamma == "sqrt" or descriptor.smoothing else 1
        most = max(most, kept + (1 + depth) * pixels + 4 * descriptor.width * level.rows * level.columns)
        kept += pixels * (number in origins)
        origin = origins[number]
        if origin is not None and number == max(at for at, own in enumerate(origins) if own == origin):
            kept -= 3 * levels[origin].width * levels[origin].height
    return most + sum(2 * descriptor.width * level.rows * level.columns for level in levels)


def padded(places: NDArray[np.floating], descriptor: Descriptor, padding: int) -> Features:
    """float32 (rows + 2 padding, columns + 2 padding, D): with empty places around, marked where the descriptor can."""
    rows, columns, width = places.shape
    around = np.zeros((rows + 2 * padding, columns + 2 * padding, width), np.float32)
    around[:, :, descriptor.mark] = 1
    around[padding : padding + rows, padding : padding + columns] = places
    return around


class Store:
    """The places of training images on disk, level by level; see `shards`. Raises InputError for another pyramid's.

    folder : of the store
    """

    def __init__(self, folder: Path, descriptor: Descriptor, pyramid: Pyramid) -> None:
        self._reader, self._descriptor, self._pyramid = shards.Reader(folder), descriptor, pyramid
        self.folder = folder

    def levels(self, size: tuple[int, int]) -> list[Level]:
        """Those of an image of this width and height."""
        return self._pyramid.levels(*size, self._descriptor)

    def memory(self, size: tuple[int, int]) -> int:
        """Bytes of what `read` makes of an image of this width and height."""
        around = 2 * self._pyramid.padding
        places = sum((level.rows + around) * (level.columns + around) for level in self.levels(size))
        return 4 * self._descriptor.width * places

    def read(self, image_id: str, size: tuple[int, int]) -> list[Features]:
        """What `padded` makes of each level of an image of this width and height."""
        levels, places = self.levels(size), self._reader.view(NAME, image_id)
        ends = np.cumsum([level.rows * level.columns for level in levels]).tolist()
        if places.shape != ((ends or [0])[-1], self._descriptor.width):
            problem = f"holds {len(places)} places of {image_id}, the pyramid has {(ends or [0])[-1]}"
            allowed = "features of the descriptor and pyramid of params.yaml"
            raise InputError([Fault("other features", str(self.folder), problem, allowed, "Run: dvc repro")])
        parts = np.split(places, ends[:-1]) if ends else []
        return [
            padded(part.reshape(level.rows, level.columns, -1), self._descriptor, self._pyramid.padding)
            for part, level in zip(parts, levels, strict=True)
        ]


@dataclass(frozen=True)
class Template:
    """A window: which class's, and its size.

    label : of the class, from 0;  rows, columns : cells;  margin : cells around the object, on each side
    """

    label: int
    rows: int
    columns: int
    margin: int

    def places(self, descriptor: Descriptor) -> tuple[int, int]:
        """Rows and columns of places in the window."""
        return self.rows - descriptor.beyond, self.columns - descriptor.beyond


def boxes(
    template: Template, level: Level, rows: NDArray[Any], columns: NDArray[Any], cell: int, first: int
) -> Boxes:
    """float32 (R, 4): the objects' boxes that these windows of a level stand for, cut to the image as detections are.

    rows, columns : (R,) whole numbers, first place of a window;  cell : pixels;  first : cell of the first place
    """
    y, x = (np.asarray(part, np.float64) + first + template.margin for part in (rows, columns))
    high, wide = template.rows - 2 * template.margin, template.columns - 2 * template.margin
    corners = np.stack([x / level.x, y / level.y, (x + wide) / level.x, (y + high) / level.y], axis=1) * cell
    return clip(corners.astype(np.float32), level.width / level.x, level.height / level.y)
