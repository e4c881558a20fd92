"""How well ranked boxes cover the annotated objects: recall and average best overlap, image by image.

An object's best overlap is the highest IoU that a box of its image has with it (Uijlings et al., IJCV 2013,
section 5.1). The class of that box does not matter: proposals have none.

R boxes, S objects of an image.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.boxes.boxes import Boxes, iou
from lib.images.image_set import ImageSet
from lib.storage.by_image import ByImage

FIRST = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 1000, 1500, 2000, 3000, 5000, 10000)
FEW = 50  # boxes; an image with fewer is named: it is nearly uniform, or the search failed on it
THRESHOLDS = tuple(percent / 100 for percent in range(50, 101))


def best_overlaps(boxes: Boxes, objects: Boxes, first: Sequence[int] = ()) -> NDArray[np.float64]:
    """Every object's best overlap with the first boxes.

    boxes   : float32 (R, 4) the best first; R may be 0
    objects : float32 (S, 4); S may be 0
    first   : ascending numbers of boxes; a number above R means all
    returns : float64 (len(first) + 1, S) in [0, 1]: a row for each of these numbers of first boxes, the last for all
    """
    overlap = iou(boxes, objects)
    rows: list[NDArray[np.float64]] = []
    best, done = np.zeros(overlap.shape[1]), 0
    for count in [*first, len(overlap)]:
        if count > done:
            best = np.maximum(best, overlap[done:count].max(0, initial=0))
            done = count
        rows.append(best)
    return np.stack(rows)


class Recall:
    """Gathers best overlaps over images; memory grows with the objects, not with the boxes.

    first     : ascending numbers of boxes per image at which the curve is taken
    difficult : count objects that are marked difficult (by default they are left out of every figure)
    """

    def __init__(self, first: Sequence[int] = FIRST, difficult: bool = False) -> None:
        if any(a >= b for a, b in pairwise((0, *first))):
            raise ValueError(f"first is {list(first)}. It takes ascending numbers of boxes from 1 on.")
        self.first, self.difficult = tuple(first), difficult
        self._overlaps: list[NDArray[np.float64]] = []
        self._classes: list[str] = []
        self._boxes: list[int] = []

    def add(
        self, boxes: Boxes, objects: Boxes, classes: Sequence[str], difficult: ArrayLike | None = None
    ) -> None:
        """One image: its boxes (float32 (R, 4), the best first), its objects (float32 (S, 4)), their S classes and
        which of them are difficult (bool (S,); None: none). R and S may be 0."""
        objects = np.asarray(objects, np.float32).reshape(-1, 4)
        marked = np.zeros(len(objects), bool) if difficult is None else np.asarray(difficult, bool)
        if not len(objects) == len(classes) == len(marked):
            raise ValueError(f"{len(objects)} objects, {len(classes)} classes and {len(marked)} marks of difficulty")
        counted = np.flatnonzero(~marked | self.difficult).tolist()
        self._overlaps.append(best_overlaps(boxes, objects[counted], self.first))
        self._classes += [classes[i] for i in counted]
        self._boxes.append(len(boxes))

    @classmethod
    def of(cls, image_set: ImageSet, table: ByImage) -> "Recall":
        """What a table of proposals covers of the objects of all images of `image_set`."""
        measured = cls()
        for image_id in image_set.ids:
            objects, labels = image_set.objects(image_id)
            measured.add(table.boxes(image_id), objects, [image_set.classes[label] for label in labels])
        return measured

    def files(self, name: str) -> dict[str, Any]:
        """What the stages write, by path: metrics, and the rows of the plots. name : of the table"""
        figures = self.metrics()
        classes = [{"class": label, **values} for label, values in figures.pop("per_class").items()]
        return {
            f"results/metrics/proposals/{name}.json": figures,
            f"results/plots/recall_classes/{name}.json": classes,
            f"results/plots/recall_iou/{name}.json": self.against_iou(),
            f"results/plots/recall_boxes/{name}.json": self.against_boxes(),
        }

    @property
    def overlaps(self) -> NDArray[np.float64]:
        """float64 (len(first) + 1, objects): see `best_overlaps`; objects in the order of adding."""
        return np.concatenate([np.zeros((len(self.first) + 1, 0)), *self._overlaps], axis=1)

    def metrics(self) -> dict[str, Any]:
        """The figures, None where nothing was counted.

        recall_50, recall_70 : share of the objects with a best overlap of at least 0.5 and 0.7
        abo             : mean best overlap of all objects
        mabo            : mean over the classes of their mean best overlap, the paper's figure
        boxes_per_image : mean number of boxes;  images_below_50 : images with fewer than 50 boxes
        images, objects : how many were counted
        per_class       : objects, recall_50, recall_70 and abo of each class, sorted by name
        """
        best, classes = self.overlaps[-1], np.array(self._classes)
        per_class = {str(name): _summary(best[classes == name]) for name in np.unique(classes)}
        return {
            **_summary(best),
            "mabo": float(np.mean([figures["abo"] for figures in per_class.values()])) if per_class else None,
            "boxes_per_image": float(np.mean(self._boxes)) if self._boxes else None,
            f"images_below_{FEW}": sum(count < FEW for count in self._boxes),
            "images": len(self._boxes),
            "per_class": per_class,
        }

    def against_iou(self, thresholds: Sequence[float] = THRESHOLDS) -> list[dict[str, Any]]:
        """Recall of all boxes at each threshold: rows of `iou` and `recall`."""
        best = self.overlaps[-1]
        return [{"iou": float(t), "recall": _share(best, t)} for t in thresholds]

    def against_boxes(self) -> list[dict[str, Any]]:
        """Rows of `boxes` (how many of every image are used, the best first), `recall_50`, `recall_70` and `abo`."""
        rows = []
        for count, best in zip(self.first, self.overlaps[:-1], strict=True):
            figures = _summary(best)
            rows.append({"boxes": count, **{name: figures[name] for name in ("recall_50", "recall_70", "abo")}})
        return rows


def _share(best: NDArray[np.float64], threshold: float) -> float | None:
    return float((best >= threshold).mean()) if best.size else None


def _summary(best: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "recall_50": _share(best, 0.5),
        "recall_70": _share(best, 0.7),
        "abo": float(best.mean()) if best.size else None,
        "objects": int(best.size),
    }


def few(table: ByImage, image_ids: Sequence[str], shown: int = 20) -> str:
    """A line that names the images with fewer than 50 boxes, at most `shown` of them; empty where there are none."""
    names = [f"{image_id} ({count})" for image_id in image_ids if (count := table.count(image_id)) < FEW]
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"note: fewer than {FEW} boxes in {len(names)} images: {', '.join(names[:shown])}{rest}" if names else ""
