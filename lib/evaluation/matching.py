"""Which detections are right: the matching rule of the PASCAL VOC devkit (VOCevaldet).

A detection looks only at the object of its class and image that it overlaps most. If that overlap reaches the
threshold and the object is difficult, the detection is ignored, as often as that happens; otherwise the first
one in order of score is right and every later one is wrong. The second-best object is never considered.

VOC has no crowd regions. Here they take no part in the search for the best object; a detection that would be
wrong is ignored when a crowd region of its class covers at least the threshold's share of it (COCO's measure
for crowds).

D detections, R objects, in the order of Inputs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.boxes.assign import nearest
from lib.boxes.boxes import Boxes, area
from lib.evaluation.inputs import Inputs

RIGHT, IGNORED, WRONG = 1, 0, -1


@dataclass(frozen=True)
class Matches:
    """outcome : int8 (D,) RIGHT, IGNORED or WRONG
    best    : int64 (D,) the object of its class and image with the largest IoU, crowds aside; -1 if none
    overlap : float64 (D,) the IoU with it; 0 if none
    """

    outcome: NDArray[np.int8]
    best: NDArray[np.int64]
    overlap: NDArray[np.float64]


def match(inputs: Inputs, iou_threshold: float = 0.5, strict: bool = False) -> Matches:
    """Match every detection to an object, or to none.

    iou_threshold : least IoU of a match, in (0, 1]
    strict        : match above the threshold only, as py-faster-rcnn's evaluator does; the devkit takes ">="
    """
    objects, detections = inputs.objects, inputs.detections
    best = np.full(len(detections), -1, np.int64)
    overlap, covered = np.zeros(len(detections)), np.zeros(len(detections))
    for dets, objs in _groups(inputs):
        ordinary, crowd = objs[~objects.crowd[objs]], objs[objects.crowd[objs]]
        boxes = detections.boxes[dets]
        if len(ordinary):
            first, overlap[dets] = nearest(boxes, objects.boxes[ordinary])  # the lowest object number on ties
            best[dets] = ordinary[first]
        if len(crowd):
            covered[dets] = _coverage(boxes, objects.boxes[crowd]).max(axis=1)

    hit = (best >= 0) & ((overlap > iou_threshold) if strict else (overlap >= iou_threshold))
    forgiven = hit & objects.difficult[best] if len(objects) else hit
    outcome = np.full(len(detections), WRONG, np.int8)
    claims = np.flatnonzero(hit & ~forgiven)
    outcome[claims[np.unique(best[claims], return_index=True)[1]]] = (
        RIGHT  # the highest score takes the object
    )
    in_crowd = (covered > iou_threshold) if strict else (covered >= iou_threshold)
    outcome[forgiven | ((outcome == WRONG) & in_crowd)] = IGNORED
    return Matches(outcome, best, overlap)


def _groups(inputs: Inputs) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(detections, objects) of every class and image that has both, as indices; objects ascending."""
    many = max(len(inputs.images), 1)
    wanted = inputs.detections.label * many + inputs.detections.image
    given = (
        inputs.objects.label * many + inputs.objects.image
    )  # ascending: objects are ordered by class and image
    order = np.argsort(wanted, kind="stable")
    keys = np.intersect1d(wanted, given)
    dets = zip(*(np.searchsorted(wanted[order], keys, side) for side in ("left", "right")), strict=True)
    objs = zip(*(np.searchsorted(given, keys, side) for side in ("left", "right")), strict=True)
    return [(order[a:b], np.arange(c, d)) for (a, b), (c, d) in zip(dets, objs, strict=True)]


def _coverage(boxes: Boxes, regions: Boxes) -> NDArray[np.float64]:
    """float64 (boxes, regions): the share of each box that lies in each region."""
    a, b = boxes.astype(np.float64)[:, None], regions.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.asarray(np.maximum(sides, 0).prod(axis=2) / area(boxes)[:, None])
