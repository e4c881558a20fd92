"""Anchors: the reference boxes of the region proposal network (Faster R-CNN paper §3.1.1; generate_anchors.py).

A anchors at a cell, H W cells of the map. Boxes are float32 x1 y1 x2 y2 in pixels of the resized image, 0-based, half-open.
"""

import math
from collections import OrderedDict
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.boxes.boxes import Boxes
from lib.stage.params import Settings


class Anchors(Settings):
    """Block `faster.anchors`.

    scales : sides of the square anchors, pixels of the resized image (paper: 128, 256, 512; COCO: 64 too)
    ratios : height / width (paper: 0.5, 1, 2)
    base   : side at which width and height are rounded to whole pixels before they are scaled (authors: 16)
    centre : of the first cell's anchors, pixels (authors: the point 7.5 between inclusive corners, 8 here)
    """

    scales: list[float] = Field(min_length=1)
    ratios: list[float] = Field(min_length=1)
    base: float = Field(gt=0)
    centre: float

    @property
    def count(self) -> int:
        """Anchors at a cell."""
        return len(self.scales) * len(self.ratios)


def at_first_cell(settings: Anchors) -> Boxes:
    """float32 (A, 4): the anchors of the cell in the upper left corner, ratio by ratio, scales in their order in each.

    Rounding comes before scaling, halves to even, as in the authors' code: ratio 0.5 is 23 x 12, not 22.6 x 11.3.
    """
    boxes = []
    for ratio in settings.ratios:
        width = round(math.sqrt(settings.base**2 / ratio))
        height = round(width * ratio)
        for scale in settings.scales:
            half = np.array([width, height]) * (scale / settings.base / 2)
            boxes.append([*(settings.centre - half), *(settings.centre + half)])
    return np.array(boxes, np.float32)


def on_map(first: Boxes, height: int, width: int, stride: int) -> Boxes:
    """The anchors of a whole map.

    first   : float32 (A, 4) from `at_first_cell`;  stride : pixels between cells
    returns : float32 (H·W·A, 4), rows of the map outermost, anchors of a cell innermost
    """
    y, x = np.mgrid[:height, :width].astype(np.float32) * np.float32(stride)
    shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return np.asarray((shifts + first).reshape(-1, 4), np.float32)


def inside(anchors: Boxes, width: float, height: float) -> NDArray[np.int64]:
    """int64 (I,): which anchors lie wholly inside the image, ascending. Only these are trained (paper §3.1.2)."""
    return np.flatnonzero(
        (anchors[:, 0] >= 0) & (anchors[:, 1] >= 0) & (anchors[:, 2] <= width) & (anchors[:, 3] <= height)
    )


class AnchorMaps:
    """`on_map` by map size; the last few are kept, since most images of a set have the same few sizes.

    Threads may share one.
    """

    kept = 16

    def __init__(self, settings: Anchors, stride: int) -> None:
        self.settings, self.stride = settings, stride
        self._first = at_first_cell(settings)
        self._maps: OrderedDict[tuple[int, int], Boxes] = OrderedDict()
        self._lock = Lock()

    def __call__(self, height: int, width: int) -> Boxes:
        """float32 (H·W·A, 4), not to be written to."""
        with self._lock:
            if (height, width) not in self._maps:
                anchors = on_map(self._first, height, width, self.stride)
                anchors.flags.writeable = False
                self._maps[height, width] = anchors
                if len(self._maps) > self.kept:
                    self._maps.popitem(last=False)
            self._maps.move_to_end((height, width))
            return self._maps[height, width]

    def of_image(self, width: int, height: int) -> Boxes:
        """The anchors for a resized image of this size: its map has ceil(side / stride) cells a side."""
        return self(-(-height // self.stride), -(-width // self.stride))
