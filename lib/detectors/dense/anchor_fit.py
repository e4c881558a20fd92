"""How well the anchors of all levels fit the objects of the training images, before anything is learnt from them.

`lib.training.anchor_fit` is that of a region proposal network, whose anchors count where they lie inside the image.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lib.boxes.assign import best_overlaps
from lib.boxes.boxes import Boxes
from lib.training.anchor_fit import LOW, AnchorFit, class_rows


def fit(
    images: Iterable[tuple[str, Boxes, Boxes, NDArray[np.int64]]], names: Sequence[str], positive: float, where: str
) -> AnchorFit:
    """The fit of anchors that are all used, whether they lie inside their image or not.

    images   : id, anchors (A, 4), objects (K, 4) and their labels of each;  names : of the classes
    positive : IoU threshold of positives;  where : the params of the anchors, for the cautions
    """
    best, label = [np.zeros(0)], [np.zeros(0, np.int64)]
    below, shapes, known = [], [], np.zeros((0, 4), np.float32)  # what no anchor reaches: names, corners
    for image_id, anchors, objects, labels in images:
        known = anchors
        overlaps = best_overlaps(anchors, objects)
        best.append(overlaps)
        label.append(labels)
        for row in np.flatnonzero(overlaps < positive):
            corners = objects[row].round().astype(int).tolist()
            below.append(f"{names[labels[row]]} {corners} of {image_id}, at {overlaps[row]:.2f}")
            shapes.append(objects[row])
    of_all = np.concatenate(best)
    classes = class_rows(of_all, np.concatenate(label), names, positive)
    cautions = [
        f"objects of {row['class']} overlap their best anchor by {row['best_iou']:.2f} on average. Add sizes or ratios "
        f"of theirs to {where}."
        for row in classes if row["best_iou"] < LOW
    ]
    if below:
        cautions.append(
            f"{len(below)} of {len(of_all)} objects reach the IoU {positive:g} with no anchor, first {below[0]}. They "
            f"measure {_shape(np.array(shapes))}, the anchors {_shape(known)}: add what is missing to {where}."
        )
    return AnchorFit(classes, cautions, [])


def _shape(boxes: Boxes) -> str:
    """From which to which size they reach, and how long they are."""
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    size, longest = np.sqrt(sides.prod(axis=1)), (sides.max(axis=1) / sides.min(axis=1)).max()
    return f"{size.min():.0f} to {size.max():.0f} pixels (square root of the area) and at most {longest:.1f} : 1"
