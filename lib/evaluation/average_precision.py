"""Average precision of PASCAL VOC: VOC2007's eleven points and VOC2010's area, as the devkit defines them.

Sources: VOCevaldet of the VOC2007 devkit (11 points), xVOCap of the R-CNN code (area), voc_eval of the Python Faster
R-CNN code (its levels).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.evaluation.inputs import Inputs
from lib.evaluation.matching import IGNORED, RIGHT, match
from lib.evaluation.settings import Levels

Curve = NDArray[np.float64]
# float64 (11,): the recalls of the 11-point average. A recall of exactly 3/10, 6/10 or 7/10 reaches i / 10, but not
# numpy's i * 0.1, which is the next larger number there.
LEVELS: dict[Levels, Curve] = {"exact": np.arange(11) / 10, "numpy": np.arange(0.0, 1.1, 0.1)}


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


def evaluate(
    inputs: Inputs, iou_threshold: float = 0.5, strict: bool = False, levels: Levels = "exact"
) -> list[ClassResult]:
    """The result of every class, in the order of inputs.classes. Arguments as in matching.match and eleven_points."""
    outcome = match(inputs, iou_threshold, strict).outcome
    counts = np.bincount(inputs.objects.label[inputs.objects.counted], minlength=len(inputs.classes))
    ends = np.searchsorted(inputs.detections.label, np.arange(len(inputs.classes) + 1))
    return [
        _class_result(name, int(counts[label]), outcome[ends[label] : ends[label + 1]], levels)
        for label, name in enumerate(inputs.classes)
    ]


def _class_result(name: str, objects: int, outcome: NDArray[np.int8], levels: Levels) -> ClassResult:
    ignored = int((outcome == IGNORED).sum())
    if objects == 0:
        return ClassResult(name, 0, len(outcome), ignored, None, None, np.empty(0), np.empty(0))
    # Ignored ones are left out before dividing: in the devkit they repeat a point, or are 0/0 at the start.
    recall, precision = precision_recall(outcome[outcome != IGNORED] == RIGHT, objects)
    ap11, ap_area = eleven_points(recall, precision, levels), area_under(recall, precision)
    return ClassResult(name, objects, len(outcome), ignored, ap11, ap_area, recall, precision)


def precision_recall(right: NDArray[np.bool_], objects: int) -> tuple[Curve, Curve]:
    """Recall and precision after each detection.

    right   : bool (D,) in order of score
    objects : how many there are to find, at least 1
    returns : two float64 (D,)
    """
    right_so_far = np.cumsum(right, dtype=np.int64)
    return right_so_far / objects, right_so_far / np.arange(1, len(right) + 1)


def eleven_points(recall: Curve, precision: Curve, levels: Levels = "exact") -> float:
    """VOC2007: mean over t = 0, 0.1 ... 1 of the best precision at a recall of t or more (0 if none).

    levels : which floating-point numbers t are, a key of LEVELS; the two averages differ by at most 1/11
    """
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in LEVELS[levels]]))


def area_under(recall: Curve, precision: Curve) -> float:
    """VOC2010 and later: area under the curve, its precision made non-increasing, up to the last recall."""
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * ceiling))


def mean(values: Sequence[float | None]) -> float | None:
    """Mean over the classes that have a value; None if none has. A missing value is never a number here."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
