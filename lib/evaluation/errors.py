"""What goes wrong: the kinds of false positives of Hoiem et al. (ECCV 2012; R-CNN paper, figure 5), and missed objects.

The kind of a wrong detection is the first that fits: Loc, it overlaps an object of its class (duplicates included);
Sim, the object of another class that it overlaps most is of a similar class; Oth, that object is of a class that is
not similar; BG, it overlaps nothing. "Overlaps" is an IoU of at least `background` (0.1). Right is what the VOC
protocol calls right (`matching`), so that these counts and the averages are of the same detections; the authors' tool
would also let a detection take its second-best object. D detections, R objects, C classes, in the order of Inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.boxes.boxes import iou
from lib.evaluation import average_precision
from lib.evaluation.inputs import Inputs
from lib.evaluation.matching import IGNORED, RIGHT, WRONG, Matches, match

CORRECT = 0
IGNORE = 1
LOC = 2
SIM = 3
OTH = 4
BG = 5
NAMES = ("correct", "ignored", "Loc", "Sim", "Oth", "BG")
WRONG_KINDS = (LOC, SIM, OTH, BG)
FOUND = 0
LOOSE = 1
CONFUSED = 2
UNSEEN = 3
FATES = ("found", "loose", "confused", "unseen")
Row = dict[str, str | int | float | None]


@dataclass(frozen=True)
class Errors:
    """What became of every detection and of every object.

    kind      : int8 (D,) CORRECT, IGNORE (on a difficult object or in a crowd region), LOC, SIM, OTH or BG
    duplicate : bool (D,) wrong only because a better detection has taken its object; part of LOC
    other     : int64 (D,) object of another class with the largest IoU, -1 if none reaches `background`
    fate      : int8 (R,) of an object to be found: FOUND; else LOOSE, a detection of its class overlaps it; else
                CONFUSED, one of another class matches it; else UNSEEN. -1 where it need not be found
    """

    inputs: Inputs
    matches: Matches
    background: float
    kind: NDArray[np.int8]
    duplicate: NDArray[np.bool_]
    other: NDArray[np.int64]
    fate: NDArray[np.int8]


def similar_classes(classes: Sequence[str], groups: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    """bool (C, C): whether two different classes are in one group. Names that are no class are ignored."""
    member = np.array([[name in group for name in classes] for group in groups], bool).reshape(-1, len(classes))
    together = member.T.astype(np.int64) @ member.astype(np.int64) > 0
    return together & ~np.eye(len(classes), dtype=bool)


def classify(
    inputs: Inputs, groups: Sequence[Sequence[str]] = (), iou_threshold: float = 0.5, background: float = 0.1
) -> Errors:
    """The kind of every detection and the fate of every object.

    groups        : sets of similar classes (Hoiem: animals and person, vehicles, furniture, aeroplane and bird)
    iou_threshold : least IoU of a right detection (0.5)
    background    : least IoU at which a detection overlaps an object (0.1), in (0, iou_threshold]
    raises        : ValueError for thresholds out of order
    """
    if not 0 < background <= iou_threshold:
        raise ValueError(f"background {background} must lie in (0, {iou_threshold}], the IoU of a match")
    matches, similar = match(inputs, iou_threshold), similar_classes(inputs.classes, groups)
    detections, objects = inputs.detections, inputs.objects
    other = _others(inputs, background)
    # The kind of a detection that overlaps no object of its own class.
    without_own = np.full(len(detections), BG, np.int8)
    has_other = other >= 0
    is_similar = similar[detections.label[has_other], objects.label[other[has_other]]]
    without_own[has_other] = np.where(is_similar, SIM, OTH)
    kind = np.where(matches.overlap >= background, np.int8(LOC), without_own)
    kind[matches.outcome == RIGHT] = CORRECT
    kind[matches.outcome == IGNORED] = IGNORE
    duplicate = (kind == LOC) & (matches.overlap >= iou_threshold)
    fate = _fates(inputs, matches, iou_threshold, background)
    return Errors(inputs, matches, background, kind, duplicate, other, fate)


def _others(inputs: Inputs, background: float) -> NDArray[np.int64]:
    """The object of another class in the image with the largest IoU, the first on ties; -1 below `background`."""
    objects, detections = inputs.objects, inputs.detections
    best = np.full(len(detections), -1, np.int64)
    for dets, objs in _images(inputs):
        objs = objs[~objects.crowd[objs]]
        if len(objs) and len(dets):
            overlaps = iou(detections.boxes[dets], objects.boxes[objs])
            overlaps[detections.label[dets][:, None] == objects.label[objs][None]] = 0
            first = overlaps.argmax(axis=1)
            best[dets] = np.where(overlaps[np.arange(len(dets)), first] >= background, objs[first], -1)
    return best


def _fates(inputs: Inputs, matches: Matches, threshold: float, background: float) -> NDArray[np.int8]:
    objects, detections = inputs.objects, inputs.detections
    fate = np.full(len(objects), UNSEEN, np.int8)
    for dets, objs in _images(inputs):
        if len(dets) and len(objs):
            overlaps = iou(detections.boxes[dets], objects.boxes[objs])
            own = detections.label[dets][:, None] == objects.label[objs][None]
            loose = ((overlaps >= background) & own).any(axis=0)
            confused = ((overlaps >= threshold) & ~own).any(axis=0)
            fate[objs] = np.where(loose, LOOSE, np.where(confused, CONFUSED, UNSEEN))
    fate[matches.best[matches.outcome == RIGHT]] = FOUND
    fate[~objects.counted] = -1
    return fate


def _images(inputs: Inputs) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Detections and objects of every image, as indices in ascending order."""
    starts = np.arange(len(inputs.images))
    parts = []
    for images in (inputs.detections.image, inputs.objects.image):
        order = np.argsort(images, kind="stable").astype(np.int64)
        parts.append(np.split(order, np.searchsorted(images[order], starts[1:])) if len(starts) else [])
    return list(zip(*parts, strict=True))


def shares(errors: Errors, top: Sequence[int], all_classes: str = "all classes") -> list[Row]:
    """Shares of the kinds among the best-scored false positives (R-CNN paper, figure 5), class by class.

    top     : numbers of best-scored false positives per class; fewer where there are no more
    returns : rows {class, top, kind, count, share}; the share is of these false positives, None if there are none.
              `all_classes` sums the counts of the classes
    """
    is_wrong = np.isin(errors.kind, WRONG_KINDS)
    rows: list[Row] = []
    totals = {size: np.zeros(len(NAMES), np.int64) for size in top}
    for label, name in enumerate(errors.inputs.classes):
        kinds = errors.kind[is_wrong & (errors.inputs.detections.label == label)]  # by descending score
        for size in top:
            counts = np.bincount(kinds[:size], minlength=len(NAMES))
            totals[size] += counts
            rows += _shares(name, size, counts)
    return [*rows, *(row for size in top for row in _shares(all_classes, size, totals[size]))]


def _shares(name: str, size: int, counts: NDArray[np.int64]) -> list[Row]:
    total = int(counts[list(WRONG_KINDS)].sum())
    return [
        {"class": name, "top": size, "kind": NAMES[kind], "count": int(counts[kind]),
         "share": int(counts[kind]) / total if total else None}
        for kind in WRONG_KINDS
    ]


def effects(errors: Errors, all_classes: str = "all classes") -> list[Row]:
    """What the average would be without each kind of error, one kind at a time.

    returns : rows {class, kind, count, ap, ap_fixed, gain}, ap as VOC2010's area in [0, 1]; None without objects.
              Loc: every loose detection is right, duplicates are removed (the matching at `background`; Hoiem's "fix
              Loc"). Sim, Oth, BG: those detections are removed. missed: the objects that were not found need not be,
              `count` of them. The last rows are the means over the classes with objects

    Each kind is fixed alone, starting from the detections as they are, so the gains do not add up.
    """
    loose = match(errors.inputs, errors.background).outcome
    rows = [row for label in range(len(errors.inputs.classes)) for row in _effect(errors, loose, label)]
    for kind in _FIXED_KINDS:
        kind_rows = [row for row in rows if row["kind"] == kind]
        total: Row = {"class": all_classes, "kind": kind, "count": sum(int(row["count"] or 0) for row in kind_rows)}
        for key in ("ap", "ap_fixed", "gain"):
            total[key] = average_precision.mean([_number(row[key]) for row in kind_rows])
        rows.append(total)
    return rows


def _number(value: str | int | float | None) -> float | None:
    return None if value is None else float(value)


def _effect(errors: Errors, loose: NDArray[np.int8], label: int) -> list[Row]:
    """The rows of one class. loose : int8 (D,) outcomes of the matching at `background`"""
    detections, objects = errors.inputs.detections, errors.inputs.objects
    of_class = detections.label == label
    to_find = (objects.label == label) & objects.counted
    kind, npos = errors.kind[of_class], int(to_find.sum())
    missed = int((errors.fate[to_find] != FOUND).sum())
    outcome = errors.matches.outcome[of_class]
    without_duplicates = np.where(loose[of_class] == WRONG, IGNORED, loose[of_class])
    localised = np.where(errors.matches.overlap[of_class] < errors.background, outcome, without_duplicates)
    fixed: Mapping[str, tuple[NDArray[np.int8], int]] = {
        "Loc": (localised, npos),
        **{NAMES[k]: (np.where(kind == k, IGNORED, outcome), npos) for k in (SIM, OTH, BG)},
        "missed": (outcome, npos - missed),
    }
    before = _area(outcome, npos)
    rows: list[Row] = []
    for name, (fixed_outcome, fixed_npos) in fixed.items():
        after = _area(fixed_outcome, fixed_npos) if fixed_npos else before
        gain = after - before if after is not None and before is not None else None
        count = missed if name == "missed" else int((kind == NAMES.index(name)).sum())
        rows.append({"class": errors.inputs.classes[label], "kind": name, "count": count, "ap": before,
                     "ap_fixed": after, "gain": gain})
    return rows


_FIXED_KINDS = ("Loc", "Sim", "Oth", "BG", "missed")


def _area(outcome: NDArray[np.int8], npos: int) -> float | None:
    if not npos:
        return None
    right = outcome[outcome != IGNORED] == RIGHT
    return average_precision.area_under(*average_precision.precision_recall(right, npos))


def missed_rows(errors: Errors, all_classes: str = "all classes") -> list[Row]:
    """Rows {class, objects, found, loose, confused, unseen}: what became of the objects to be found."""
    rows: list[Row] = []
    for label, name in enumerate(errors.inputs.classes):
        counts = _fate_counts(errors.fate[errors.inputs.objects.label == label])
        rows.append({"class": name, "objects": int(counts.sum()), **dict(zip(FATES, counts.tolist(), strict=True))})
    total = _fate_counts(errors.fate)
    rows.append({"class": all_classes, "objects": int(total.sum()), **dict(zip(FATES, total.tolist(), strict=True))})
    return rows


def _fate_counts(fate: NDArray[np.int8]) -> NDArray[np.int64]:
    """int64 (4,): how many objects have each fate; those that need not be found are left out."""
    return np.bincount(fate[fate >= 0], minlength=len(FATES))
