"""Boxes checked against their image: inside it, over its border, outside it, or too small."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lib.boxes import boxes
from lib.datasets.records import Item, Record
from lib.datasets.settings import DataSettings
from lib.datasets.voc_xml import Origin
from lib.stage.errors import Fault

Fitted = tuple[Record, Item, boxes.Boxes]
"""An object that is kept: its image's record, what the annotation says, float32 (4,) inside the image."""

_REMEDY = "Fix the box, or set data.faults: lenient"
_SMALL = "box under min_box_size"
# Two boxes are slips of a hand in a set of any size, and one in a hundred in a large one: BCCD has 2 in 4,888.
# More are another unit, another tool's rounding, or objects that somebody wants to find.
_SLIPS, _SLIP_SHARE = 2, 0.01


def fit(
    record: Record,
    width: int,
    height: int,
    settings: DataSettings,
    format: str,
    faults: list[Fault],
    notes: list[Fault],
) -> list[Fitted]:
    """The record's objects, clipped to the image; what is left out or clipped goes to `faults` and `notes`."""
    if not record.items:
        return []
    corners = np.array([item.box for item in record.items], np.float32)
    inside = boxes.clip(corners, width, height)
    lowest = corners.min(axis=1)
    empty = _any(corners[:, 2:] <= corners[:, :2])
    beyond = _any(corners[:, 2:] > (width, height))
    outside = _any(boxes.area(inside)[:, None] == 0)
    small = _any(inside[:, 2:] - inside[:, :2] < settings.min_box_size)
    # A corner of 0 counted from 1 is the most common slip; the report mentions it once for the data set.
    from_zero = ~beyond & (lowest >= -1) & (format == "voc" and settings.box_origin == 1)
    fitted: list[Fitted] = []
    for row, item in enumerate(record.items):
        where = item.where
        problem = f"the box is {text(item.box)}, the image {width}x{height}"
        if empty[row]:
            notes.append(Fault(_SMALL, where, f"the box {text(item.box)} has no area"))
            continue
        if outside[row]:
            faults.append(Fault("box outside the image", where, problem, "a box in the image", _REMEDY))
            continue
        if lowest[row] < 0 and from_zero[row]:
            notes.append(Fault("corner 0 under box_origin 1", where, "is clipped to the border"))
        elif lowest[row] < 0 or beyond[row]:
            faults.append(Fault("box over the border", where, problem, "a box in the image", _REMEDY))
        if small[row]:
            problem = f"the box is {text(inside[row])}, min_box_size is {settings.min_box_size:g}"
            notes.append(Fault(_SMALL, where, problem))
            continue
        fitted.append((record, item, inside[row]))
    return fitted


def small_objects(notes: Iterable[Fault], objects: int) -> list[Fault]:
    """The fault of a data set that would lose more than slips to `min_box_size`: over 2 boxes and over 1 in 100.

    notes   : of the whole data set, those of `fit` among them
    objects : number of annotated objects
    """
    small = [note for note in notes if note.kind == _SMALL]
    if len(small) <= max(_SLIPS, _SLIP_SHARE * objects):
        return []
    problem = f"{small[0].problem}, and {len(small)} of {objects} objects ({len(small) / objects:.1%}) are as small"
    allowed = f"at most {_SLIPS}, or {_SLIP_SHARE:.0%}"
    remedy = "Set data.min_box_size lower to keep them, or data.faults: lenient to leave them out"
    return [Fault("many boxes under min_box_size", small[0].where, problem, allowed, remedy)]


class Extremes:
    """How near the annotations of a data set come to the borders of their images."""

    def __init__(self) -> None:
        self.low, self.high = (np.inf, np.inf), (-np.inf, -np.inf)

    def see(self, items: Iterable[Item], width: int, height: int) -> None:
        """Takes the objects of one image into account."""
        for item in items:
            x1, y1, x2, y2 = item.box
            self.low = min(self.low[0], x1), min(self.low[1], y1)
            self.high = max(self.high[0], x2 - width), max(self.high[1], y2 - height)

    def as_written(self, origin: Origin) -> dict[str, float]:
        """Smallest corner, and largest corner minus the image's side, in the files' own counting."""
        start, end = (0, 0) if origin == "half-open" else (origin, origin - 1)
        return {
            "min xmin": self.low[0] + start,
            "min ymin": self.low[1] + start,
            "max xmax - width": self.high[0] + end,
            "max ymax - height": self.high[1] + end,
        }


def _any(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool (R,): whether a row holds a true flag."""
    return np.asarray(flags.any(axis=1))


def text(box: Iterable[float]) -> str:
    """Four numbers as messages show them."""
    return "[" + ", ".join(f"{side:g}" for side in box) + "]"
