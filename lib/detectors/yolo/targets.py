"""Which cell answers for an object (Redmon et al. 2016, §2; Darknet's data.c): the one that its centre lies in.

K objects of an image, P of them that have a cell to themselves, S cells along a side of the grid.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes
from lib.images.image_set import ImageSet


class CellObjects(NamedTuple):
    """The objects of an image, at most one of a cell.

    cell   : int64 (P,) in row · S + column, ascending
    labels : int64 (P,) from 0
    boxes  : float32 (P, 4), the centre from the cell's corner, in cells; width and height in sides of the image
    """

    cell: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]


def centres(boxes: Boxes, size: tuple[int, int], cells: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The cell of each box, int64 (K,), and what it is in that cell, float32 (K, 4), see `CellObjects`.

    boxes : float32 (K, 4) inside an image of `size` (width, height)
    """
    shares = np.asarray(boxes, np.float64) / np.tile(size, 2)
    centre = (shares[:, :2] + shares[:, 2:]) / 2 * cells
    place = np.floor(centre).astype(np.int64).clip(max=cells - 1)  # a centre on the right border would be beyond
    coded = np.hstack([centre - place, shares[:, 2:] - shares[:, :2]]).astype(np.float32)
    return place[:, 1] * cells + place[:, 0], coded


def of_cells(
    boxes: Boxes, labels: NDArray[np.int64], size: tuple[int, int], cells: int, least: float,
    random: np.random.Generator,
) -> CellObjects:
    """One object for each cell that has any: of several the first in an order that is drawn, the others are dropped.

    boxes : float32 (K, 4) inside an image of `size`;  labels : int64 (K,)
    least : objects of a smaller width or height, in sides of the image, are left out
    """
    cell, coded = centres(boxes, size, cells)
    order = random.permutation(len(boxes))
    order = order[(coded[order, 2:] >= least).all(axis=1)]
    occupied, first = np.unique(cell[order], return_index=True)
    rows = order[first]
    return CellObjects(occupied, labels[rows], coded[rows])


def cautions(image_set: ImageSet, cells: int, least: float, method: str) -> list[str]:
    """What of the objects cannot be learnt, counted on the images as they are: a limit of the method, not a fault."""
    dropped: list[str] = []
    small: list[str] = []
    total = 0
    for image_id in image_set.ids:
        boxes, labels = image_set.objects(image_id)
        cell, coded = centres(boxes, image_set.size(image_id), cells)
        large = (coded[:, 2:] >= least).all(axis=1)
        small += _named(np.flatnonzero(~large), boxes, labels, image_set, image_id)
        rows = np.flatnonzero(large)
        alone = np.unique(cell[rows], return_index=True)[1]
        dropped += _named(np.delete(rows, alone), boxes, labels, image_set, image_id)
        total += len(boxes)
    said = []
    if dropped:
        said.append(f"{len(dropped)} of {total} objects have their centre in a cell where another has its own, first "
                    f"{dropped[0]}. A cell learns one of its objects at a time and finds one class. Raise "
                    f"{method}.grid.cells, {cells} now.")
    if small:
        said.append(f"{len(small)} of {total} objects are narrower or lower than {least:g} of the image and are left "
                    f"out, first {small[0]}. Lower {method}.train.least.")
    return said


def _named(
    rows: NDArray[np.int64], boxes: Boxes, labels: NDArray[np.int64], image_set: ImageSet, image_id: str
) -> Sequence[str]:
    return [f"{image_set.classes[labels[row]]} {boxes[row].round().astype(int).tolist()} of {image_id}" for row in rows]
