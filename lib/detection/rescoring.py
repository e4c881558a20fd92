"""One detector's detections with a higher score where another confirms them (YOLO paper §4.3).

The paper gives no formula: a box gains by the other's probability and by the overlap. Here a detection of score s that
another of its class, of score p, overlaps by IoU o gains the share w · p · o of what it lacks to 1; the largest gain
counts. Scores stay from 0 to 1, a detection that nothing confirms keeps its score, and none is added or moved.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from lib.boxes.boxes import Boxes, iou
from lib.stage.params import Settings
from lib.storage import tables


class Rescore(Settings):
    """Block `fast_yolo.rescore`.

    overlap : least IoU with a detection of the other;  weight : w
    """

    overlap: float = Field(gt=0, le=1)
    weight: float = Field(ge=0, le=1)


def gains(boxes: Boxes, others: Boxes, scores: NDArray[np.floating], settings: Rescore) -> NDArray[np.float64]:
    """float64 (K,), from 0 to 1: the share of what each box lacks to 1 that it gains.

    boxes : float32 (K, 4) of one class in one image;  others, scores : float32 (L, 4), (L,) of the other detector
    """
    overlaps = iou(boxes, others).astype(np.float64)
    confirmed = np.where(overlaps >= settings.overlap, overlaps * np.clip(scores, 0, 1), 0)
    return settings.weight * confirmed.max(axis=1, initial=0)


def rescored(detections: pd.DataFrame, others: pd.DataFrame, settings: Rescore) -> pd.DataFrame:
    """The detections of one image, the best first; ties keep their order.

    detections, others : of `tables.DETECTIONS`;  scores of `detections` : from 0 to 1
    """
    scores = detections["score"].to_numpy(np.float64, copy=True)
    classes, of_others = detections["class"].to_numpy(), others["class"].to_numpy()
    for name in np.unique(classes):
        rows, confirming = np.flatnonzero(classes == name), others[of_others == name]
        gained = gains(tables.boxes(detections.iloc[rows]), tables.boxes(confirming),
                       confirming["score"].to_numpy(), settings)
        scores[rows] += (1 - scores[rows]) * gained
    order = np.argsort(-scores, kind="stable")
    return detections.assign(score=scores.astype(np.float32)).iloc[order]
