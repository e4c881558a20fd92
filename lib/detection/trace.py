"""One image's way through a detector, box by box: its regions, their scores, the moved boxes, and what NMS removed.

It repeats what `Candidates` does with the first image of a set, and keeps what that throws away; a test holds that
both end with the same detections. R regions, C classes, K candidates (a region under one class).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes, clip, iou
from lib.boxes.nms import nms, nms_per_class
from lib.boxes.selection import Scored, Selection
from lib.detection.shortlist import Shortlist

KEPT, UNUSED, SURPLUS = -1, -2, -3


@dataclass(frozen=True)
class Trace:
    """regions, scores : float32 (R, 4) and (R, C), minus infinity for "no score"
    rows, labels    : int64 (K,) region and class of each candidate, by descending score
    boxes           : float32 (K, 4) moved and clipped
    remover         : int64 (K,) the candidate that suppressed it; KEPT: a detection; UNUSED: a box without area;
                      SURPLUS: survived NMS, but `most` others of the image, of whatever class, come before it
    counts          : how many regions under a class were left after each step, in order
    level           : int64 (R,) of the map that each region comes from, None where there is one map
    """

    regions: Boxes
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: Boxes
    remover: NDArray[np.int64]
    counts: dict[str, int]
    level: NDArray[np.int64] | None = None


def trace(scored: Scored, size: tuple[int, int], selection: Selection) -> Trace:
    """What becomes of every region of one image.

    scored : what the detector returned;  size : width and height;  selection : as for the set, of one image
    """
    regions, scores = scored.boxes, scored.scores
    floor = -np.inf if selection.floor is None else selection.floor
    shortlist = Shortlist(scores.shape[1], selection.per_image, selection.per_set, floor)
    rows_of, counts = [], {"scored": 0, "nms before": 0, "best of the image": 0}
    for label in range(scores.shape[1]):
        rows = np.flatnonzero(np.isfinite(scores[:, label]))
        counts["scored"] += len(rows)
        if selection.nms_before is not None:
            alone = np.zeros(len(rows), np.int64)
            rows = rows[nms_per_class(regions[rows], scores[rows, label], alone, selection.nms_before)]
        counts["nms before"] += len(rows)
        rows = rows[shortlist.keep(label, scores[rows, label])]
        rows = rows[shortlist.survives(label, scores[rows, label])]
        counts["best of the image"] += len(rows)
        rows_of.append(rows)
    labels = np.repeat(np.arange(len(rows_of)), [len(rows) for rows in rows_of])
    rows = np.concatenate([np.empty(0, np.int64), *rows_of])
    boxes = clip(scored.refine(rows, labels, regions[rows]), *size)
    order = np.argsort(-scores[rows, labels], kind="stable")
    rows, labels, boxes = rows[order], labels[order], boxes[order]
    remover = np.full(len(rows), UNUSED, np.int64)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        remover[mine] = _removers(boxes[mine], scores[rows[mine], label], selection.nms, mine)
    survivors = np.flatnonzero(remover == KEPT)
    counts["nms"] = len(survivors)
    if selection.nms_before is None:
        del counts["nms before"]
    if selection.most is not None:
        remover[survivors[selection.most :]] = SURPLUS
        counts["best of all classes"] = min(len(survivors), selection.most)
    return Trace(regions, scores, rows, labels, boxes, remover, counts, scored.level)


def _removers(
    boxes: Boxes, scores: NDArray[np.floating], threshold: float, names: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Who suppressed each box of one class, by `names`: the first kept one, in order of score, that overlaps it too much."""
    kept = nms(boxes, scores, threshold)
    remover = np.full(len(boxes), UNUSED, np.int64)
    remover[kept] = KEPT
    solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    gone = np.flatnonzero((remover == UNUSED) & solid)
    if len(gone):
        above = iou(boxes[gone], boxes[kept]) > np.float32(threshold)
        # Where the two ways to round an IoU disagree at the threshold, the box of largest overlap is named.
        first = np.where(above.any(axis=1), above.argmax(axis=1), iou(boxes[gone], boxes[kept]).argmax(axis=1))
        remover[gone] = names[kept[first]]
    return remover


def describe(found: Trace, classes: list[str], most: int) -> dict[str, object]:
    """The trace as plain values for a page: the `most` best detections, each with what led to it and what it removed."""
    kept = np.flatnonzero(found.remover == KEPT)[:most]
    return {
        "classes": classes,
        "counts": {"regions": len(found.regions), **found.counts},
        "regions": [_corners(box) for box in found.regions],
        "detections": [_detection(found, int(one), classes) for one in kept],
    }


def _detection(found: Trace, one: int, classes: list[str]) -> dict[str, object]:
    row, label = found.rows[one], found.labels[one]
    scores = found.scores[row]
    removed = np.flatnonzero(found.remover == one)
    overlaps = iou(found.boxes[removed], found.boxes[[one]])[:, 0]
    level = {} if found.level is None else {"level": int(found.level[row])}
    return {
        "class": classes[label],
        "score": float(scores[label]),
        "region": int(row),
        **level,
        "before": _corners(found.regions[row]),
        "box": _corners(found.boxes[one]),
        "moved_iou": round(float(iou(found.regions[[row]], found.boxes[[one]])[0, 0]), 3),
        "scores": [float(value) if np.isfinite(value) else None for value in scores],
        "removed": [
            {"box": _corners(found.boxes[other]), "region": int(found.rows[other]), "iou": round(float(overlap), 3),
             "score": float(found.scores[found.rows[other], found.labels[other]])}
            for other, overlap in zip(removed, overlaps, strict=True)
        ],
    }


def _corners(box: Boxes) -> list[float]:
    return [round(float(value), 1) for value in box]
