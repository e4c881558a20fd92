"""Which object each box belongs to: the rules of RPN, Fast R-CNN, SSD and RetinaNet in one function.

| method     | positive     | negative | best | strict |
|------------|--------------|----------|------|--------|
| RPN        | 0.7          | 0.3      | ties | no     |
| Fast R-CNN | 0.5          | 0.5      | none | no     |
| SSD        | 0.5          | 0.5      | one  | paper: yes, authors' code: no |
| RetinaNet  | 0.5          | 0.4      | none | no     |

As the papers say, with the authors' differences: RPN's paper has > 0.7, its codes >=; RetinaNet's code gives an object
its best anchor where that one is ignored, torchvision's always; SSD's code joins pairs above 1e-6 alone, and an image
without objects has no negatives there.

R boxes, K objects of one image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes, iou

IGNORED, NEGATIVE = -1, 0
POSITIVE = 1
PAIRS = 2**22  # of a table of IoUs: that of 242,991 anchors and 500 objects would fill a gigabyte, several times
Best = Literal["none", "ties", "one"]


@dataclass(frozen=True)
class Assignment:
    """label   : int8 (R,) of POSITIVE, NEGATIVE, IGNORED
    object  : int64 (R,) row of the object that the box belongs to, whatever its label: that of the largest IoU, ties go
              to the first; 0 without objects, where no row exists
    overlap : float64 (R,) IoU with that object, in [0, 1]; 0 without objects
    """

    label: NDArray[np.int8]
    object: NDArray[np.int64]
    overlap: NDArray[np.float64]


def assign(
    boxes: Boxes, objects: Boxes, positive: float, negative: float, best: Best, strict: bool = False
) -> Assignment:
    """The object and the label of each box.

    boxes    : float32 (R, 4) x1 y1 x2 y2 in pixels, half-open;  objects : float32 (K, 4) in the same pixels
    positive : IoU threshold from which a box is positive, in (0, 1]
    negative : IoU threshold below which it is negative; between the two it is ignored. Positive wins
    best     : which boxes are positive even below the threshold. none: none; ties: every box with an object's largest
               IoU; one: one box for each object, which then belongs to it and not to its nearest object (SSD)
    strict   : an IoU equal to a threshold counts as below it

    R and K may be 0; without objects all boxes are negative. An object that no box touches has no best box: else every
    box that overlaps nothing would be its best (a bug of most public implementations).

    With `one` the pair of largest IoU among the boxes and objects still free is matched first, until no free pair
    overlaps; ties go to the first box, then to the first object. An object whose favourite box is taken gets another.
    """
    if not len(objects):
        no_object = np.zeros(len(boxes), np.int64)
        return Assignment(np.full(len(boxes), NEGATIVE, np.int8), no_object, np.zeros(len(boxes)))
    nearest, overlap = np.zeros(len(boxes), np.int64), np.full(len(boxes), -1.0)
    favourite = np.zeros(len(boxes), bool)  # of some object, ties among them
    best_free: dict[int, tuple[int, float]] = {}
    for first, pairs in _tables(boxes, objects):
        rows, values = _nearest(pairs)
        nearer = values > overlap  # so ties go to the first object, in whichever table it is
        nearest[nearer], overlap[nearer] = first + rows[nearer], values[nearer]
        if best == "ties":
            largest = pairs.max(axis=0, initial=0)
            favourite |= ((pairs == largest) & (largest > 0)).any(axis=1)
        elif best == "one" and len(boxes):
            rows = pairs.argmax(axis=0)
            best_free |= {first + owner: (int(row), float(pairs[row, owner])) for owner, row in enumerate(rows)}
    labels = np.full(len(boxes), IGNORED, np.int8)
    labels[overlap <= negative if strict else overlap < negative] = NEGATIVE
    labels[overlap > positive if strict else overlap >= positive] = POSITIVE
    labels[favourite] = POSITIVE
    for row, (owner, value) in _match_one_to_one(boxes, objects, best_free).items():
        labels[row], nearest[row], overlap[row] = POSITIVE, owner, value
    return Assignment(labels, nearest, overlap)


def best_overlaps(boxes: Boxes, objects: Boxes) -> NDArray[np.float64]:
    """float64 (K,): the IoU of each object with the box that overlaps it most, 0 without boxes."""
    largest = [pairs.max(axis=0, initial=0) for _, pairs in _tables(boxes, objects)]
    return np.concatenate([np.zeros(0), *largest])


def nearest(boxes: Boxes, objects: Boxes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The object that each box overlaps most and the IoU with it; ties go to the first object.

    boxes   : float32 (R, 4), R may be 0;  objects : float32 (K, 4), K at least 1
    returns : int64 (R,) rows of `objects`; float64 (R,) in [0, 1]
    """
    return _nearest(iou(boxes, objects))


def _tables(boxes: Boxes, objects: Boxes) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The IoU of every pair, some objects at a time: the first of them, and float64 (R, objects)."""
    step = max(PAIRS // max(len(boxes), 1), 1)
    for first in range(0, len(objects), step):
        yield first, iou(boxes, objects[first : first + step])


def _nearest(pairs: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows = pairs.argmax(axis=1)
    return rows, pairs[np.arange(len(pairs)), rows]


def _match_one_to_one(
    boxes: Boxes, objects: Boxes, best_free: dict[int, tuple[int, float]]
) -> dict[int, tuple[int, float]]:
    """Box -> its object and their IoU, no box and no object twice; pairs without overlap are left out.

    best_free : object -> the box that it overlaps most, and the IoU. It is searched for again only when another object
                took that box
    """
    matched: dict[int, tuple[int, float]] = {}
    while best_free:
        owner = min(best_free, key=lambda owner: (-best_free[owner][1], best_free[owner][0], owner))
        row, value = best_free.pop(owner)
        if not value > 0:
            break
        matched[row] = owner, value
        for other in [other for other, (favourite, _) in best_free.items() if favourite == row]:
            column = iou(boxes, objects[other : other + 1])[:, 0]
            column[list(matched)] = -1
            free = int(column.argmax())
            best_free[other] = free, float(column[free])
    return matched
