"""How well the anchors of all levels fit the objects of the training images, before anything is learnt from them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.boxes.assign import best_overlaps
from lib.boxes.boxes import Boxes

LOW = 0.5  # mean best IoU of a class below which it is said


@dataclass(frozen=True)
class AnchorFit:
    """classes  : rows of class, objects, mean best IoU, and shares of the objects: with an anchor at or above the IoU
                  threshold of positives (`reached`), with no anchor that overlaps them (`untouched`)
    cautions : warnings, each with a remedy
    """

    classes: list[dict[str, Any]]
    cautions: list[str]


def fit(
    images: Iterable[tuple[str, Boxes, Boxes, NDArray[np.int64]]], names: Sequence[str], positive: float, where: str
) -> AnchorFit:
    """The fit of anchors that are all used, whether they lie inside their image or not.

    images   : id, anchors (A, 4), objects (K, 4) and their labels of each;  names : of the classes
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
    classes = [_class_row(name, np.array(values), positive) for name, values in best.items() if values]
    remedy, cautions = f"Add scales or ratios of their size to {where}.", []
    for of_class in classes:
        name, mean = of_class["class"], of_class["best_iou"]
        if mean < LOW:
            cautions.append(f"objects of {name} overlap their best anchor by {mean:.2f} on average. {remedy}")
    if short:
        total = sum(map(len, best.values()))
        cautions.append(f"{len(short)} of {total} objects reach the IoU {positive:g} with no anchor, first {short[0]}. "
                        f"{remedy}")
    return AnchorFit(classes, cautions)


def _class_row(name: str, best: NDArray[np.float64], positive: float) -> dict[str, Any]:
    shares = {"reached": float((best >= positive).mean()), "untouched": float((best == 0).mean())}
    return {"class": name, "objects": len(best), "best_iou": float(best.mean()), **shares}
