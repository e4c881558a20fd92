"""How well anchors fit the objects of the training images, before anything is learnt from them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.boxes.assign import best_overlaps
from lib.boxes.boxes import Boxes

LOW = 0.5  # mean best IoU of a class below which its caution is given


@dataclass(frozen=True)
class AnchorFit:
    """classes  : rows of class, objects, mean best IoU, and shares of the objects: with an anchor at or above the IoU
                  threshold of positives (`reached`), with no anchor that overlaps them (`untouched`)
    cautions : warnings, each with a remedy;  unused : ids of images in which no anchor lies inside
    """

    classes: list[dict[str, Any]]
    cautions: list[str]
    unused: list[str]


def class_rows(best: Mapping[str, Sequence[float]], positive: float) -> list[dict[str, Any]]:
    """The rows of `AnchorFit.classes`. best : best IoU of each object, by class;  positive : IoU threshold"""
    return [_class_row(name, np.array(values), positive) for name, values in best.items() if values]


def _class_row(name: str, best: NDArray[np.float64], positive: float) -> dict[str, Any]:
    shares = {"reached": float((best >= positive).mean()), "untouched": float((best == 0).mean())}
    return {"class": name, "objects": len(best), "best_iou": float(best.mean()), **shares}


def class_cautions(classes: Sequence[Mapping[str, Any]], where: str) -> list[str]:
    """A caution for each class that the anchors fit badly. where : the params of the anchors"""
    return [
        f"objects of {row['class']} overlap their best anchor by {row['best_iou']:.2f} on average. "
        f"Add scales or ratios of their size to {where}."
        for row in classes if row["best_iou"] < LOW
    ]


def fit(
    images: Iterable[tuple[str, Boxes, Boxes, NDArray[np.int64]]], names: Sequence[str], positive: float, where: str
) -> AnchorFit:
    """The fit of anchors that are all used, whether they lie inside their image or not.

    images : id, anchors (A, 4), objects (K, 4) and their labels of each;  names : of the classes
    positive : IoU threshold of positives;  where : the params of the anchors, for the cautions
    """
    best: dict[str, list[float]] = {name: [] for name in names}
    short: list[str] = []
    for image_id, anchors, objects, labels in images:
        overlaps = best_overlaps(anchors, objects)
        for label, overlap in zip(labels, overlaps, strict=True):
            best[names[label]].append(float(overlap))
        for row in np.flatnonzero(overlaps < positive):
            corners = objects[row].round().astype(int).tolist()
            short.append(f"{names[labels[row]]} {corners} of {image_id}, at {overlaps[row]:.2f}")
    classes, total = class_rows(best, positive), sum(map(len, best.values()))
    cautions = class_cautions(classes, where)
    if short:
        cautions.append(f"{len(short)} of {total} objects reach the IoU {positive:g} with no anchor, first {short[0]}. "
                        f"Add scales or ratios of their size to {where}.")
    return AnchorFit(classes, cautions, [])
