"""What the units of the last pooled map respond to (R-CNN §3.1): the regions that excite one most, taken as a detector.

R regions of an image, L classes, C channels of g x g units, U = C g g units in the order of a flattened (C, g, g).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes, class_overlaps, clip
from lib.boxes.nms import nms
from lib.detectors.target import Units
from lib.visualization.fields import Fields

BACKGROUND = -1
ON_OBJECT = 0.5  # IoU from which a region is one of the object's class


def labels(regions: Boxes, objects: Boxes, classes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """int64 (R,): the class of the object that each region overlaps most, or BACKGROUND below an IoU of 0.5.

    objects, classes : float32 (K, 4), int64 (K,);  count : L
    """
    overlaps = class_overlaps(regions, objects, classes, count)
    return np.where(overlaps.max(axis=1) >= ON_OBJECT, overlaps.argmax(axis=1), BACKGROUND)


class Selectivity:
    """Which units tell a class from all else, from the regions of image after image.

    classes : L;  units : U
    """

    def __init__(self, classes: int, units: int) -> None:
        self._counts = np.zeros(classes + 1, np.int64)
        self._sums = np.zeros((classes + 1, units))
        self._squares = np.zeros(units)

    def add(self, values: NDArray[np.float32], label: NDArray[np.int64]) -> None:
        """values : (R, U);  label : (R,) as of `labels`"""
        for number in np.unique(label):
            of_label = values[label == number].astype(np.float64)
            self._counts[number] += len(of_label)
            self._sums[number] += of_label.sum(0)
            self._squares += (of_label**2).sum(0)

    def scores(self) -> NDArray[np.float64]:
        """float64 (L, U): mean on regions of the class less the mean on all others, in standard deviations of all.

        0 for a unit that never changes and for a class without regions.
        """
        total = max(self._counts.sum(), 1)
        mean = self._sums.sum(0) / total
        deviation = np.sqrt(np.maximum(self._squares / total - mean**2, 0))
        counts, sums = self._counts[:-1, None], self._sums[:-1]
        rest = (self._sums.sum(0) - sums) / np.maximum(total - counts, 1)
        known = (deviation > 1e-12 * np.abs(mean).max(initial=1)) & (counts > 0)
        return np.where(known, (sums / np.maximum(counts, 1) - rest) / np.where(deviation > 0, deviation, 1), 0.0)

    def best(self, count: int) -> list[tuple[int, int]]:
        """`count` pairs of a class and a unit, class after class in turn, each the best left; no unit twice."""
        scores, chosen = self.scores(), list[tuple[int, int]]()
        used = np.zeros(scores.shape[1], bool)
        for turn in range(min(count, scores.shape[1])):
            label = turn % len(scores)
            unit = int(np.where(used, -np.inf, scores[label]).argmax())
            used[unit] = True
            chosen.append((label, unit))
        return sorted(chosen)


def top_regions(
    boxes: Boxes, values: NDArray[np.float32], threshold: float, most: int
) -> list[tuple[int, float]]:
    """The regions of an image that excite a unit most, the best first, without near-duplicates of a better one.

    boxes : float32 (R, 4);  values : float32 (R,);  threshold : IoU of NMS (R-CNN: 0.1);  most : of the result
    returns : row and value of each
    """
    kept = nms(boxes, values, threshold)[:most]
    return [(int(row), float(values[row])) for row in kept]


def seen(units: Units, fields: Fields, row: int, unit: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """float32 (4,) the part of the image that a unit's value of a region hangs on: the receptive fields of its cells.

    With a pooling of maxima one cell, wherever in the region it is.  fields : of the cells;  size : of the image
    """
    value = units.pooled[row].flatten()[unit]
    (slopes,) = torch.autograd.grad(value, units.cells, retain_graph=True)
    number = int(units.input_of[row])
    cells = torch.nonzero(slopes[number].abs().sum(0)).cpu().numpy()
    if len(cells) == 0:  # a unit that the region leaves empty
        cells = np.zeros((1, 2), int)
    first, last = fields.box(*cells.min(0)), fields.box(*cells.max(0))
    low, high = units.windows[number, :2], units.windows[number, 2:]
    step = (high - low) / np.array([fields.sides[1], fields.sides[0]], np.float32)
    corners = np.concatenate([low + first[:2] * step, low + last[2:] * step])
    return clip(corners[None].astype(np.float32), *size)[0]


def purity(tops: Sequence[Sequence[int]], classes: Sequence[int]) -> float | None:
    """Fraction of the units' top regions that are on an object of the unit's class, 0 .. 1; None without regions.

    tops : of each unit the `labels` of its regions;  classes : of each unit
    """
    right = [label == own for unit, own in zip(tops, classes, strict=True) for label in unit]
    return sum(right) / len(right) if right else None
