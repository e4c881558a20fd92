"""Precision-recall curves and the table of classes, as rows for DVC plots (a JSON list of flat objects).

A curve here is the ceiling of the measured one: at each recall the best precision at that recall or a higher
one, which is what both VOC averages integrate. It is a staircase, so its outer corners determine it.
"""

from collections.abc import Sequence

import numpy as np

from lib.evaluation.average_precision import LEVELS, ClassResult, Curve, mean
from lib.evaluation.settings import Levels

Row = dict[str, str | int | float | None]


def corners(recall: Curve, precision: Curve) -> tuple[Curve, Curve]:
    """The outer corners of the staircase: rising recalls, falling precisions. Empty if nothing was found.

    Both VOC averages of the corners equal those of the curve.
    """
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    last = np.append(np.diff(ceiling) < 0, True) if len(ceiling) else np.empty(0, bool)
    outer = last & (recall > 0)
    recall, ceiling = recall[outer], ceiling[outer]
    recall, first = np.unique(recall, return_index=True)  # wrong detections at the end repeat a recall
    return recall, ceiling[first]


def thin(recall: Curve, precision: Curve, points: int, levels: Levels = "exact") -> tuple[Curve, Curve]:
    """At most `points` of a curve's corners, all of them if there are no more; each stays where it is.

    The corners that answer VOC2007's eleven recalls are kept, so the eleven-point average is exact; the
    others are spread evenly over recall. A corner left out lowers the staircase to the next one on its right.

    points : at least 24
    levels : of the eleven recalls
    """
    if points < 24:
        raise ValueError(
            f"points is {points}; at least 24 are needed to keep the eleven recalls and both ends"
        )
    if len(recall) <= points:
        return recall, precision
    eleven = np.searchsorted(recall, LEVELS[levels])
    spread = np.searchsorted(recall, np.linspace(recall[0], recall[-1], points - 12))
    corner = np.unique(np.concatenate([eleven[eleven < len(recall)], spread]))
    return recall[corner], precision[corner]


def curve_rows(
    results: Sequence[ClassResult], points: int = 200, levels: Levels = "exact", all_classes: str = "all classes"
) -> list[Row]:
    """Rows {class, recall, precision} of every class that has objects, and of their mean.

    points      : most rows per class, at least 24;  levels : of the 11-point average, which the rows keep
    all_classes : name of the mean curve: the mean ceiling at recall 0, 0.01 ... 1
    """
    rows: list[Row] = []
    scored = [
        (result.name, *corners(result.recall, result.precision)) for result in results if result.objects
    ]
    for name, recall, precision in scored:
        rows += _rows(name, *thin(recall, precision, points, levels))
    if scored:
        recalls = np.arange(101) / 100
        ceilings = [_at(recall, precision, recalls) for _, recall, precision in scored]
        rows += _rows(all_classes, recalls, np.mean(ceilings, axis=0))
    return rows


def class_rows(results: Sequence[ClassResult], coco: dict[str, float | None]) -> list[Row]:
    """One row per class: objects, detections, recall, and the averages (None without objects).

    coco : class name to COCO's average
    """
    return [
        {
            "class": result.name,
            "objects": result.objects,
            "detections": result.detections,
            "ignored": result.ignored,
            "recall": float(result.recall.max(initial=0.0)) if result.objects else None,
            "voc07_ap": result.ap11,
            "voc10_ap": result.ap_area,
            "coco_ap": coco.get(result.name),
        }
        for result in results
    ]


def mean_row(rows: Sequence[Row], name: str = "all classes") -> Row:
    """The last line of the table: sums of counts, means of averages over the classes that have objects."""
    total: Row = {"class": name}
    for key in ("objects", "detections", "ignored"):
        total[key] = sum(int(row[key] or 0) for row in rows)
    for key in ("recall", "voc07_ap", "voc10_ap", "coco_ap"):
        total[key] = mean([None if row[key] is None else float(row[key] or 0) for row in rows])
    return total


def _at(recall: Curve, precision: Curve, recalls: Curve) -> Curve:
    """Height of a staircase at `recalls`; 0 beyond its end."""
    return np.append(precision, 0.0)[np.searchsorted(recall, recalls)]


def _rows(name: str, recall: Curve, precision: Curve) -> list[Row]:
    return [
        {"class": name, "recall": r, "precision": p}
        for r, p in zip(recall.tolist(), precision.tolist(), strict=True)
    ]
