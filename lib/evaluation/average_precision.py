"""Average precision of PASCAL VOC: VOC2007's eleven points and VOC2010's area, as the devkit defines them.

Sources: VOCevaldet of the VOC2007 devkit (11 points), xVOCap of the R-CNN code (area).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.evaluation.inputs import Inputs
from lib.evaluation.matching import IGNORED, RIGHT, match

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class ClassResult:
    """The result of one class.

    name              : of the class
    objects           : those to be found (neither difficult nor crowd)
    detections        : all of them, the ignored ones included
    ignored           : those on difficult objects or in crowd regions, counted neither as right nor as wrong
    ap11, ap_area     : in [0, 1]; None without objects, since there is nothing to find (0 would lower a mean)
    recall, precision : float64 (detections - ignored,), after each detection in order of score;
                        empty without objects
    """

    name: str
    objects: int
    detections: int
    ignored: int
    ap11: float | None
    ap_area: float | None
    recall: Curve
    precision: Curve


def evaluate(inputs: Inputs, iou_threshold: float = 0.5, strict: bool = False) -> list[ClassResult]:
    """The result of every class, in the order of inputs.classes. Arguments as in matching.match."""
    outcome = match(inputs, iou_threshold, strict).outcome
    counts = np.bincount(inputs.objects.label[inputs.objects.counted], minlength=len(inputs.classes))
    ends = np.searchsorted(inputs.detections.label, np.arange(len(inputs.classes) + 1))
    return [
        _class_result(name, int(counts[label]), outcome[ends[label] : ends[label + 1]])
        for label, name in enumerate(inputs.classes)
    ]


def _class_result(name: str, objects: int, outcome: NDArray[np.int8]) -> ClassResult:
    ignored = int((outcome == IGNORED).sum())
    if objects == 0:
        return ClassResult(name, 0, len(outcome), ignored, None, None, np.empty(0), np.empty(0))
    # Ignored ones are left out before dividing: in the devkit they repeat a point, or are 0/0 at the start.
    recall, precision = precision_recall(outcome[outcome != IGNORED] == RIGHT, objects)
    ap11, ap_area = eleven_points(recall, precision), area_under(recall, precision)
    return ClassResult(name, objects, len(outcome), ignored, ap11, ap_area, recall, precision)


def precision_recall(right: NDArray[np.bool_], objects: int) -> tuple[Curve, Curve]:
    """Recall and precision after each detection.

    right   : bool (D,) in order of score
    objects : how many there are to find, at least 1
    returns : two float64 (D,)
    """
    right_so_far = np.cumsum(right, dtype=np.int64)
    return right_so_far / objects, right_so_far / np.arange(1, len(right) + 1)


def eleven_points(recall: Curve, precision: Curve) -> float:
    """VOC2007: mean over t = 0, 0.1 ... 1 of the best precision at a recall of t or more (0 if none)."""
    levels = np.arange(11) / 10  # i/10, not i*0.1: a recall of exactly 3/10 must reach the level 0.3
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in levels]))


def area_under(recall: Curve, precision: Curve) -> float:
    """VOC2010 and later: area under the curve, its precision made non-increasing, up to the last recall."""
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * ceiling))


def mean(values: Sequence[float | None]) -> float | None:
    """Mean over the classes that have a value; None if none has. A missing value is never a number here."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
