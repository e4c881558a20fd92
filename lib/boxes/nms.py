"""Greedy non-maximum suppression (R-CNN authors' code), in a fixed order.

Boxes are visited by descending score, equal scores by ascending row (the original: the later row first); a box is
dropped if its IoU with one that was kept is **above** the threshold. R boxes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.boxes.boxes import Boxes
from lib.compiled import kernel
from lib.stage.errors import Fault, InputError

ROWS = 1024  # of `overlaps` at once: a table of all pairs of 12,000 boxes would fill a gigabyte


def nms(boxes: Boxes, scores: NDArray[np.floating], threshold: float) -> NDArray[np.int64]:
    """Rows that survive, best first.

    boxes     : float32 (R, 4)  x1 y1 x2 y2 in pixels, half-open
    scores    : float (R,)  higher is better
    threshold : largest IoU with a better box that is still allowed, in [0, 1]
    returns   : int64 (at most R,)  by descending score, then ascending row

    Boxes without area or with a non-finite corner never survive and suppress nobody. Non-finite scores raise
    InputError: NaN would sort first and suppress good boxes.
    """
    scores = np.asarray(scores)
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise InputError([_broken(int(row), float(scores[row])) for row in bad])
    corners = np.asarray(boxes, np.float32).reshape(-1, 4)
    valid = np.isfinite(corners).all(axis=1) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
    rows = np.flatnonzero(valid)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    kept = survivors(torch.from_numpy(corners[rows]), threshold)
    return rows[kept.numpy()].astype(np.int64)


def survivors(boxes: Tensor, threshold: float, most: int | None = None) -> Tensor:
    """Rows that survive among boxes that are sorted already, on a CPU.

    boxes     : float32 (R, 4)  the best first, of finite corners and with area; R may be 0
    threshold : as in `nms`;  most : only so many survivors, the first ones; None: all
    returns   : int64, ascending

    Stops at the last survivor that is wanted: torchvision's looks at all boxes, which the proposals of an image are
    thousands of. Its arithmetic, float32, and so its boxes.
    """
    # Unless 0.3 is rounded as the IoU is, 3/10 is above it.
    count = len(boxes) if most is None else min(most, len(boxes))
    return torch.from_numpy(_first_survivors(boxes.numpy(), np.float32(threshold), count))


@kernel
def _first_survivors(boxes, threshold, most):  # type: ignore[no-untyped-def]
    kept, corners = np.empty(most, np.int64), np.empty((most, 5), np.float32)
    count = 0
    for row in range(len(boxes)):
        if count == most:
            break
        x1, y1, x2, y2 = boxes[row]
        area = (x2 - x1) * (y2 - y1)
        alive = True
        for place in range(count):
            width = min(x2, corners[place, 2]) - max(x1, corners[place, 0])
            height = min(y2, corners[place, 3]) - max(y1, corners[place, 1])
            if width > 0 and height > 0:
                shared = width * height
                if shared / (corners[place, 4] + area - shared) > threshold:
                    alive = False
                    break
        if alive:
            kept[count] = row
            corners[count, 0], corners[count, 1], corners[count, 2], corners[count, 3] = x1, y1, x2, y2
            corners[count, 4] = area
            count += 1
    return kept[:count]


def overlaps(boxes: Tensor, threshold: float) -> Tensor:
    """The first half of NMS for boxes on a GPU, which the host need not wait for; `greedy` is the other.

    boxes   : float32 (R, 4);  threshold : as in `nms`
    returns : uint8 (R, ceil(R / 8)): bit j of row i says that the IoU of the two is above the threshold, in the order
              of bits and bytes of a little-endian number
    """
    limit = float(np.float32(threshold))
    corners = torch.nn.functional.pad(boxes, (0, 0, 0, -len(boxes) % 8))
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    places = torch.arange(8, dtype=torch.uint8, device=boxes.device)
    rows = []
    for first in range(0, len(boxes), ROWS):
        some = boxes[first : first + ROWS, None]
        sides = torch.minimum(some[..., 2:], corners[:, 2:]) - torch.maximum(some[..., :2], corners[:, :2])
        shared = sides.clamp(min=0).prod(dim=2)
        above = shared / (areas[first : first + len(some), None] + areas - shared) > limit
        rows.append((above.view(len(some), -1, 8).to(torch.uint8) << places).sum(dim=2, dtype=torch.uint8))
    return torch.cat(rows) if rows else boxes.new_zeros((0, 0), dtype=torch.uint8)


def greedy(bits: NDArray[np.uint8], count: int, most: int) -> NDArray[np.int64]:
    """What `survivors` returns of the first `count` boxes, from their `overlaps`."""
    kept: list[int] = []
    alive = (1 << count) - 1  # a bit for each box that nothing has suppressed yet
    while alive and len(kept) < most:
        row = (alive & -alive).bit_length() - 1
        kept.append(row)
        alive &= ~(int.from_bytes(bits[row].tobytes(), "little") | 1 << row)
    return np.array(kept, np.int64)


def _broken(row: int, score: float) -> Fault:
    return Fault(
        kind="non-finite score",
        where=f"score of row {row}",
        problem=f"it is {score}",
        allowed="finite numbers",
        remedy="The model diverged: train it again with a lower learning rate",
    )


def nms_per_class(
    boxes: Boxes, scores: NDArray[np.floating], labels: NDArray[np.integer], threshold: float
) -> NDArray[np.int64]:
    """`nms` within each class; boxes of different classes never touch each other.

    labels  : int (R,)  class of each box
    returns : int64  surviving rows, by descending score, then ascending row, over all classes
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    rows_of_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    kept = [rows[nms(boxes[rows], scores[rows], threshold)] for rows in rows_of_class]
    rows = np.sort(np.concatenate([np.empty(0, np.int64), *kept]))
    return rows[np.argsort(-scores[rows], kind="stable")]
