"""Which objects differ between two sets of detections on the same images, and pictures of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes, iou
from lib.evaluation.inputs import Inputs
from lib.evaluation.matching import RIGHT, match
from lib.report.drawing import BLUE, GREEN, GREY, RED, Image, draw

GAINED = "gained"
LOST = "lost"
MOVED = "moved"
_COLOURS = {GAINED: GREEN, LOST: RED, MOVED: BLUE}


@dataclass(frozen=True)
class Change:
    """One object: found by the second only (gained), by the first only (lost), or by both with other boxes (moved).

    box           : float32 (4,) of the object
    first, second : float32 (4,) of the detections that found it, None where none did
    overlap       : IoU of the two detections; None unless both are there
    """

    kind: str
    image_id: str
    name: str
    box: Boxes
    first: Boxes | None
    second: Boxes | None
    overlap: float | None

    def __str__(self) -> str:
        corners = " ".join(f"{value:.0f}" for value in self.box)
        moved = "" if self.overlap is None else f", IoU of the two boxes {self.overlap:.2f}"
        return f"{self.kind} {self.name} at {corners}{moved}"


def changes(first: Inputs, second: Inputs, iou_threshold: float = 0.5, moved_below: float = 0.9) -> list[Change]:
    """Every object to be found that changed, by image, then class and object.

    moved_below : IoU of the two right detections below which the object counts as moved
    raises      : ValueError where the two have not the same images and objects
    """
    same = first.images == second.images and first.classes == second.classes
    if not same or not np.array_equal(first.objects.boxes, second.objects.boxes):
        raise ValueError("the images, classes or objects are not the same, so their objects cannot be compared")
    before, after = _finders(first, iou_threshold), _finders(second, iou_threshold)
    changed: list[Change] = []
    objects = first.objects
    for row in np.lexsort((np.arange(len(objects)), objects.image)):
        old = first.detections.boxes[before[row]] if before[row] >= 0 else None
        new = second.detections.boxes[after[row]] if after[row] >= 0 else None
        overlap = None if old is None or new is None else float(iou(old[None], new[None])[0, 0])
        kind = _kind(old, new, overlap, moved_below)
        if kind and objects.counted[row]:
            name = first.classes[objects.label[row]]
            image_id = first.images[objects.image[row]]
            changed.append(Change(kind, image_id, name, objects.boxes[row], old, new, overlap))
    return changed


def _kind(old: Boxes | None, new: Boxes | None, overlap: float | None, moved_below: float) -> str | None:
    if old is None and new is None:
        return None
    if old is None:
        return GAINED
    if new is None:
        return LOST
    return MOVED if overlap is not None and overlap < moved_below else None


def _finders(inputs: Inputs, iou_threshold: float) -> NDArray[np.int64]:
    """int64 (R,): the right detection of each object, -1 where there is none."""
    matches = match(inputs, iou_threshold)
    finder = np.full(len(inputs.objects), -1, np.int64)
    right = np.flatnonzero(matches.outcome == RIGHT)
    finder[matches.best[right]] = right
    return finder


def records(changed: Sequence[Change]) -> list[dict[str, Any]]:
    """image_id, the name of its picture, and its changes, for each image in the order of `changed`."""
    groups = groupby(changed, lambda change: change.image_id)
    return [
        {"image_id": image_id, "picture": f"{number:04d}.png", "changes": list(group)}
        for number, (image_id, group) in enumerate(groups)
    ]


def picture(image: Image, changed: Sequence[Change]) -> Image:
    """The changed objects of one image in grey, with the boxes of the first on the left, of the second on the right.

    image   : uint8 (H, W, 3) RGB
    returns : uint8 (H, 2 W + gap, 3)
    """
    objects = np.array([change.box for change in changed], np.float32).reshape(-1, 4)
    views = []
    for side in ("first", "second"):
        detected = [change for change in changed if getattr(change, side) is not None]
        boxes = np.array([getattr(change, side) for change in detected], np.float32).reshape(-1, 4)
        labels = [f"{change.kind} {change.name}" for change in detected]
        colours = [_COLOURS[change.kind] for change in detected]
        views.append(draw(draw(image, objects, (), GREY), boxes, labels, colours))
    gap = np.full((image.shape[0], max(4, image.shape[1] // 80), 3), 255, np.uint8)
    return np.hstack([views[0], gap, views[1]])
