"""Which windows stand for the objects of a class, and which of them are where: sizes, fit, random draws.

The size of a template follows voc-dpm, model/root_model.m. K objects, L levels.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lib.boxes.boxes import Boxes, area
from lib.detectors.hog.features import Descriptor
from lib.detectors.hog.pyramid import Level, Template, boxes
from lib.stage.params import Settings


class WindowSettings(Settings):
    """Block `hog.windows`.

    components : templates of a class, for so many groups of its objects by aspect, of equal size (DPM: 3)
    percentile : of the objects' areas that a template has, fraction (DPM: 0.2)
    cells      : fewest and most cells of a template, its margin left out (DPM: 3000 and 5000 pixels of cells of 8)
    margin     : cells around the object, on each side (Dalal, Triggs: 2; DPM: 0)
    smallest   : objects of a smaller fraction of a template's pixels are no positives (DPM: 0.25)
    aspect     : kept: a positive is the window of an object's centre and area, as at test; warped: its axes are
                 stretched to the template's (DPM)
    copies     : positives of an object: itself, and others, shifted by up to half a cell and scaled by up to half a
                 level, as the windows of a pyramid are (both papers: 1)
    mirror     : learn from mirrored objects too (both papers: yes)
    negatives  : random windows of a template, over all images (Dalal, Triggs: 12180)
    apart      : IoU with every object of the class that they stay below, see `Occupied`
    """

    components: int = Field(ge=1, le=8)
    percentile: float = Field(gt=0, le=1)
    cells: list[float] = Field(min_length=2, max_length=2)
    margin: int = Field(ge=0, le=8)
    smallest: float = Field(ge=0)
    aspect: Literal["kept", "warped"]
    copies: int = Field(ge=1)
    mirror: bool
    negatives: int = Field(ge=1)
    apart: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _ascending(self) -> "WindowSettings":
        if not 9 <= self.cells[0] <= self.cells[1]:
            raise ValueError(f"cells of at least 9, the fewest first; they are {list(self.cells)}")
        return self


def common_aspect(objects: Boxes) -> float:
    """Height by width where the histogram of its logarithm, smoothed, is highest; ties go to the flattest."""
    sides = np.asarray(objects, np.float64)[:, 2:] - objects[:, :2]
    centres = np.arange(-100, 101) / 50
    places = np.clip(np.rint(np.log(sides[:, 1] / sides[:, 0]) * 50), -100, 100).astype(int) + 100
    counts = np.bincount(places, minlength=len(centres))
    kernel = np.exp(-(np.arange(-100, 101) ** 2) / 400)
    return float(np.exp(centres[np.argmax(np.convolve(counts, kernel, "same").round(9))]))


def template(label: int, objects: Boxes, settings: WindowSettings, cell: int) -> Template:
    """The window of some objects of a class. objects : float32 (K, 4), K > 0;  cell : pixels"""
    aspect, areas = common_aspect(objects), np.repeat(np.sort(area(objects)), 2)  # DPM's have mirror images beside them
    pixels = areas[max(int(settings.percentile * len(areas) + 1e-9), 1) - 1]
    pixels = np.clip(pixels, *np.array(settings.cells) * cell**2)
    wide = math.sqrt(pixels / aspect)
    rows, columns = (max(3, math.floor(side / cell + 0.5)) for side in (wide * aspect, wide))
    margin = settings.margin
    return Template(label, rows + 2 * margin, columns + 2 * margin, margin)


def groups(objects: Boxes, components: int) -> list[NDArray[np.int64]]:
    """Rows of the objects by aspect, from flat to tall, in equal groups; at most as many as objects."""
    sides = np.asarray(objects, np.float64)[:, 2:] - objects[:, :2]
    order = np.argsort(sides[:, 1] / sides[:, 0], kind="stable")
    return [np.sort(part) for part in np.array_split(order, min(components, len(order))) if len(part)]


def counts(shape: Template, levels: Sequence[Level], descriptor: Descriptor, padding: int) -> NDArray[np.int64]:
    """int64 (L, 2): rows and columns of windows in each level; 0 where none fits."""
    down, across = shape.places(descriptor)
    sides = [(level.rows + 2 * padding - down + 1, level.columns + 2 * padding - across + 1) for level in levels]
    return np.maximum(np.array(sides, np.int64).reshape(-1, 2), 0)


def best_overlaps(
    objects: Boxes, shape: Template, levels: Sequence[Level], descriptor: Descriptor, padding: int
) -> NDArray[np.float64]:
    """float64 (K,): the largest IoU of each object with any window of the template; 0 where there is no window."""
    best = np.zeros(len(objects))
    for level, (down, across) in zip(levels, counts(shape, levels, descriptor, padding).tolist(), strict=True):
        if not down or not across:
            continue
        # Windows of a row have one height, those of a column one width: an axis at a time.
        places = [np.arange(side) - padding for side in (across, down)]
        columns = boxes(shape, level, np.zeros(across), places[0], descriptor.cell, descriptor.first)[:, [0, 2]]
        rows = boxes(shape, level, places[1], np.zeros(down), descriptor.cell, descriptor.first)[:, [1, 3]]
        for number, box in enumerate(np.asarray(objects, np.float64)):
            shared = _shared(rows, box[[1, 3]])[:, None] * _shared(columns, box[[0, 2]])
            areas = np.outer(np.diff(rows), np.diff(columns))
            union = areas + (box[2] - box[0]) * (box[3] - box[1]) - shared
            best[number] = max(best[number], (shared / union).max())
    return best


def _shared(parts: NDArray[np.floating], part: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 (n,): what each of some parts of an axis, (n, 2) first and end, shares with another."""
    ends = np.minimum(parts[:, 1], part[1], dtype=np.float64)
    return np.maximum(ends - np.maximum(parts[:, 0], part[0], dtype=np.float64), 0)


def drawn(
    shape: Template, levels: Sequence[Level], descriptor: Descriptor, padding: int, count: int,
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], Boxes]:
    """Random windows, distinct, all equally likely: int64 (at most count, 3) level, row and column, and their boxes.

    row, column : from -padding
    """
    sides = counts(shape, levels, descriptor, padding)
    ends = np.cumsum(sides.prod(axis=1))
    total = int(ends[-1]) if len(ends) else 0
    numbers = np.sort(random.choice(total, min(count, total), replace=False, shuffle=False))
    level = np.searchsorted(ends, numbers, side="right")
    within = numbers - np.where(level > 0, ends[level - 1], 0)
    row, column = within // sides[level, 1] - padding, within % sides[level, 1] - padding
    windows = [
        boxes(shape, levels[place], row[level == place], column[level == place], descriptor.cell, descriptor.first)
        for place in np.unique(level).tolist()
    ]
    at = np.stack([level, row, column], axis=1).astype(np.int64)
    return at, np.concatenate([np.zeros((0, 4), np.float32), *windows])
