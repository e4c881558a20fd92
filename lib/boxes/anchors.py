"""Grids of anchors: the same few reference boxes at every cell of one map (RPN) or of several (SSD, RetinaNet).

L levels, A anchors at a cell of a level, H W cells of its map, N anchors in all. Boxes are float32 x1 y1 x2 y2 in
pixels of the resized image, 0-based, half-open.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes

Sizes = Sequence[tuple[int, int]]  # height and width of each level's map, in cells


@dataclass(frozen=True)
class Level:
    """The anchors of one map.

    stride : pixels of the resized image from a cell to the next (SSD's last maps: 100, 300)
    first  : float32 (A, 4), those of the cell in the upper left corner, in the order of the network's channels; they
             may lie across the border
    """

    stride: float
    first: Boxes

    def on_map(self, height: int, width: int) -> Boxes:
        """float32 (H·W·A, 4) of a map of this size: its rows outermost, the anchors of a cell innermost."""
        y, x = np.mgrid[:height, :width].astype(np.float32) * np.float32(self.stride)
        shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
        return np.asarray((shifts + self.first).reshape(-1, 4), np.float32)


class AnchorGrid:
    """The anchors of all levels, level after level. Threads may share one.

    The last few grids are cached by the maps' sizes, since most images of a set have the same few sizes.
    """

    cached_grids = 16

    def __init__(self, levels: Sequence[Level]) -> None:
        self.levels = tuple(levels)
        self._grids: OrderedDict[tuple[tuple[int, int], ...], Boxes] = OrderedDict()
        self._lock = Lock()

    @property
    def per_cell(self) -> tuple[int, ...]:
        """Anchors at a cell of each level."""
        return tuple(len(level.first) for level in self.levels)

    def sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """Height and width of each level's map of a resized image, where the network rounds up: ceil(side / stride)."""
        return [(int(-(-height // level.stride)), int(-(-width // level.stride))) for level in self.levels]

    def __call__(self, sizes: Sizes) -> Boxes:
        """float32 (N, 4), read-only.

        sizes : of each level's map, as the network gives them or `sizes` counts them; a map may have 0 cells

        Raises ValueError unless there are as many sizes as levels.
        """
        key = self._checked(sizes)
        with self._lock:
            if key not in self._grids:
                maps = [level.on_map(*size) for level, size in zip(self.levels, key, strict=True)]
                anchors = np.concatenate(maps) if len(maps) > 1 else maps[0]
                anchors.flags.writeable = False
                self._grids[key] = anchors
                if len(self._grids) > self.cached_grids:
                    self._grids.popitem(last=False)
            self._grids.move_to_end(key)
            return self._grids[key]

    def of_image(self, width: int, height: int) -> Boxes:
        """float32 (N, 4) for a resized image of this size, see `sizes`; read-only."""
        return self(self.sizes(width, height))

    def counts(self, sizes: Sizes) -> list[int]:
        """Anchors of each level: the lengths to split outputs by that are stored level after level."""
        checked = self._checked(sizes)
        return [height * width * count for (height, width), count in zip(checked, self.per_cell, strict=True)]

    def level_of(self, sizes: Sizes) -> NDArray[np.int64]:
        """int64 (N,): the level of each anchor, from 0."""
        return np.repeat(np.arange(len(self.levels)), self.counts(sizes))

    def _checked(self, sizes: Sizes) -> tuple[tuple[int, int], ...]:
        if len(sizes) != len(self.levels):
            raise ValueError(f"{len(sizes)} maps for {len(self.levels)} levels of anchors")
        return tuple((int(height), int(width)) for height, width in sizes)


def inside(anchors: Boxes, width: float, height: float) -> NDArray[np.int64]:
    """int64 (I,): rows of the anchors that lie wholly inside the image, ascending.

    RPN trains only these (Faster R-CNN §3.3).
    """
    return np.flatnonzero(
        (anchors[:, 0] >= 0) & (anchors[:, 1] >= 0) & (anchors[:, 2] <= width) & (anchors[:, 3] <= height)
    )
