"""Arithmetic on boxes. The one box convention of the project, and the one place that converts to it.

A box is float32 ``x1 y1 x2 y2`` in pixels of the decoded image, 0-based and half-open: its width is ``x2 - x1``.
On boxes converted by `from_voc`, half-open IoU equals the devkit's "+1" IoU on the original corners.

R boxes, S boxes of a second set.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float32]


def from_voc(corners: ArrayLike, origin: int = 1) -> Boxes:
    """VOC's inclusive corners to half-open boxes: ``[xmin-1, ymin-1, xmax, ymax]`` for origin 1.

    corners : (R, 4) xmin ymin xmax ymax, both end pixels included
    origin  : 1 (the devkit: the first pixel is 1) or 0 (the first pixel is 0)
    returns : float32 (R, 4)
    """
    boxes = np.asarray(corners, np.float64).reshape(-1, 4) - origin
    boxes[:, 2:] += 1
    return boxes.astype(np.float32)


def to_voc(boxes: Boxes) -> NDArray[np.float64]:
    """Half-open boxes to VOC's 1-based inclusive corners; the inverse of `from_voc` with origin 1."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 4).copy()
    corners[:, :2] += 1
    return corners


def area(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """float64 (R,): area in square pixels; 0 for a box with a side of zero or less."""
    sides = np.maximum(np.asarray(boxes, np.float64)[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def iou(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Intersection over union of every pair.

    first   : float32 (R, 4)
    second  : float32 (S, 4)
    returns : float64 (R, S) in [0, 1]; 0 where either box has no area. R and S may be 0.
    """
    a, b = np.asarray(first, np.float64).reshape(-1, 4), np.asarray(second, np.float64).reshape(-1, 4)
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    union = np.asarray(area(a)[:, None] + area(b)[None, :] - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)


def clip(boxes: Boxes, width: float, height: float) -> Boxes:
    """Boxes cut to the image ``[0, width] x [0, height]``; one wholly outside gets an area of 0."""
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(np.asarray(boxes, np.float32).reshape(-1, 4), np.float32(0), limits)


def flip(boxes: Boxes, width: float) -> Boxes:
    """Boxes in the image mirrored left to right: ``x1' = W - x2, x2' = W - x1``. Clip first."""
    flipped = np.asarray(boxes, np.float32).reshape(-1, 4).copy()
    flipped[:, 0], flipped[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return flipped


def class_overlaps(boxes: Boxes, objects: Boxes, labels: NDArray[np.integer], classes: int) -> NDArray[np.float32]:
    """Largest IoU of each box with the objects of each class, 0 where the image has none.

    boxes   : float32 (R, 4);  objects : float32 (S, 4);  labels : int (S,) class of each object, from 0
    returns : float32 (R, classes)
    """
    overlaps = np.zeros((len(boxes), classes), np.float32)
    pairs = iou(boxes, objects)
    for label in np.unique(labels):
        overlaps[:, label] = pairs[:, np.asarray(labels) == label].max(axis=1)
    return overlaps
