"""What a detector does with one image, box by box: its regions, their scores, the moved boxes, and what NMS removed.

It repeats what `Candidates` does with the first image of a set, and keeps what that drops; a test checks that both end
with the same detections. R regions, C classes, K candidates (a region under one class).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes, clip, iou
from lib.boxes.nms import nms, nms_per_class
from lib.boxes.selection import Parts, Scored, Selection
from lib.detection.shortlist import Shortlist

KEPT = -1
UNUSED = -2
SURPLUS = -3


@dataclass(frozen=True)
class Trace:
    """regions, scores : float32 (R, 4) and (R, C), minus infinity for "no score"
    rows, labels    : int64 (K,) region and class of each candidate, by descending score
    boxes           : float32 (K, 4) moved and clipped
    remover         : int64 (K,) the candidate that suppressed it; KEPT: a detection; UNUSED: a box without area;
                      SURPLUS: survived NMS, but `most` others of the image, of any class, score higher or come first
    counts          : how many regions under a class were left after each step, in order
    origin, parts   : see `Scored`
    """

    regions: Boxes
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: Boxes
    remover: NDArray[np.int64]
    counts: dict[str, int]
    origin: Mapping[str, NDArray[np.int64]]
    parts: Parts | None = None


def trace(scored: Scored, size: tuple[int, int], selection: Selection) -> Trace:
    """What happens to every region of one image.

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
            one_class = np.zeros(len(rows), np.int64)
            rows = rows[nms_per_class(regions[rows], scores[rows, label], one_class, selection.nms_before)]
        counts["nms before"] += len(rows)
        rows = rows[shortlist.keep(label, scores[rows, label])]
        rows = rows[shortlist.survives(label, scores[rows, label])]
        counts["best of the image"] += len(rows)
        rows_of.append(rows)
    labels = np.repeat(np.arange(len(rows_of)), [len(rows) for rows in rows_of])
    rows = np.concatenate([np.empty(0, np.int64), *rows_of])
    boxes = clip(scored.refine(rows, labels, regions[rows]), *size)
    order = np.argsort(-scores[rows, labels], kind="stable")
    rows, labels = rows[order], labels[order]
    boxes = boxes[order]
    remover = np.full(len(rows), UNUSED, np.int64)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        remover[of_class] = _removers(boxes[of_class], scores[rows[of_class], label], selection.nms, of_class)
    survivors = np.flatnonzero(remover == KEPT)
    counts["nms"] = len(survivors)
    if selection.nms_before is None:
        del counts["nms before"]
    if selection.most is not None:
        remover[survivors[selection.most :]] = SURPLUS
        counts["best of all classes"] = min(len(survivors), selection.most)
    return Trace(regions, scores, rows, labels, boxes, remover, counts, scored.origin, scored.parts)


def _removers(
    boxes: Boxes, scores: NDArray[np.floating], threshold: float, names: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Which box suppressed each box of one class: the first kept one, in order of score, that overlaps it too much.

    names : int64 (K,) what each box is called in the result
    """
    kept = nms(boxes, scores, threshold)
    remover = np.full(len(boxes), UNUSED, np.int64)
    remover[kept] = KEPT
    solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    removed = np.flatnonzero((remover == UNUSED) & solid)
    if len(removed):
        above = iou(boxes[removed], boxes[kept]) > np.float32(threshold)
        # `nms` and `iou` may round differently right at the threshold: then the box of largest overlap is named.
        first = np.where(above.any(axis=1), above.argmax(axis=1), iou(boxes[removed], boxes[kept]).argmax(axis=1))
        remover[removed] = names[kept[first]]
    return remover


def describe(traced: Trace, classes: list[str], most: int) -> dict[str, object]:
    """The trace as plain values for a page: the `most` best detections, each with its origin and what it removed."""
    detections = np.flatnonzero(traced.remover == KEPT)[:most]
    return {
        "classes": classes,
        "counts": {"regions": len(traced.regions), **traced.counts},
        "regions": [_corners(box) for box in traced.regions],
        "detections": [_detection(traced, int(candidate), classes) for candidate in detections],
    }


def _detection(traced: Trace, candidate: int, classes: list[str]) -> dict[str, object]:
    row, label = traced.rows[candidate], traced.labels[candidate]
    scores = traced.scores[row]
    removed = np.flatnonzero(traced.remover == candidate)
    overlaps = iou(traced.boxes[removed], traced.boxes[[candidate]])[:, 0]
    parts = {} if traced.parts is None else {"parts": np.round(traced.parts(int(row)), 4).astype(float).tolist()}
    return {
        "class": classes[label],
        "score": float(scores[label]),
        "region": int(row),
        **{name: int(values[row]) for name, values in traced.origin.items()},
        **parts,
        "before": _corners(traced.regions[row]),
        "box": _corners(traced.boxes[candidate]),
        "moved_iou": round(float(iou(traced.regions[[row]], traced.boxes[[candidate]])[0, 0]), 3),
        "scores": [float(value) if np.isfinite(value) else None for value in scores],
        "removed": [
            {"box": _corners(traced.boxes[other]), "region": int(traced.rows[other]), "iou": round(float(overlap), 3),
             "score": float(traced.scores[traced.rows[other], traced.labels[other]])}
            for other, overlap in zip(removed, overlaps, strict=True)
        ],
    }


def _corners(box: Boxes) -> list[float]:
    return [round(float(value), 1) for value in box]
