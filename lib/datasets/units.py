"""Boxes that are no pixels in the format's order: fractions of the image's size, or corners in COCO.

COCO's box is ``[x, y, width, height]`` and VOC's ``xmin ymin xmax ymax``, both in pixels. Programs that write
fractions of the width and the height, or COCO's boxes as two corners, give files that are read without an error:
fractions as objects of a pixel, corners as objects that are too large.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import pandas as pd

from lib.datasets.fit import text
from lib.datasets.records import Item
from lib.stage.errors import Fault

Slip = Literal["boxes in fractions", "boxes as corners"]

_SLACK = 0.01  # Fractions are rounded, and may reach so far beyond 0 and 1.
_TINY = 4  # In an image of so many pixels a side, a box within the first pixel may be meant.
_BEYOND = 0.1  # A box is drawn over the border by a few pixels, never by this share of the image's side.

_READ_AS: dict[Slip, tuple[str, str, str]] = {
    "boxes in fractions": (
        "fractions of the image's size",
        "pixels",
        "Multiply x by the image's width and y by its height, or set data.faults: lenient to leave these images out",
    ),
    "boxes as corners": (
        "corners [x1, y1, x2, y2]: so they lie inside the image, as [x, y, width, height] far beyond it",
        "[x, y, width, height]",
        "Write [x1, y1, x2 - x1, y2 - y1] in the whole file",
    ),
}


@dataclass
class Units:
    """Takes the images of a data set one by one, and tells at the end what is wrong with the boxes of all."""

    boxes: int = 0
    images: int = 0
    suspects: dict[Slip, list[list[Item]]] = field(default_factory=dict)

    def see(self, items: list[Item], width: int, height: int, format: str) -> bool:
        """Whether the boxes of one image can be pixels in the format's order; if not they are counted.

        width, height : of the decoded image, pixels
        format        : voc or coco; corners are suspected in coco alone
        """
        self.boxes += len(items)
        self.images += bool(items)
        fractions = [item for item in items if _is_fraction(item)] if min(width, height) > _TINY else []
        if fractions:
            self.suspects.setdefault("boxes in fractions", []).append(fractions)
        elif format == "coco" and _are_corners(items, width, height):
            self.suspects.setdefault("boxes as corners", []).append(items)
        else:
            return True
        return False

    def faults(self, places: int = 3) -> list[Fault]:
        """One fault for each slip, with the share of the boxes and the first `places`, an image each."""
        return [self._fault(slip, images, places) for slip, images in sorted(self.suspects.items())]

    def _fault(self, slip: Slip, images: list[list[Item]], places: int) -> Fault:
        looks, allowed, remedy = _READ_AS[slip]
        count = sum(map(len, images))
        first = images[0][0]
        problem = (
            f"the box is {text(first.written)}. {count} of {self.boxes} boxes ({count / self.boxes:.1%}), "
            f"in {len(images)} of {self.images} images with objects, look like {looks}"
        )
        others = ", ".join(items[0].where for items in islice(images, 1, places))
        return Fault(slip, first.where, problem + (f"; also {others}" if others else ""), allowed, remedy)


def per_cent(images: pd.DataFrame, objects: pd.DataFrame) -> Iterator[str]:
    """A caution where the boxes of a whole data set may be per cent of the image's size.

    Nothing is certain here: some camera's objects are always in one corner. So it is said of no fewer than 20 boxes,
    none of which reaches beyond 100, in images of at least 200 pixels a side.

    images  : columns of `tables.IMAGES`
    objects : columns of `tables.OBJECTS`
    """
    sides = images.loc[images["image_id"].isin(objects["image_id"]), ["width", "height"]].min()
    highest = objects[["x2", "y2"]].max().max()
    if len(objects) >= 20 and sides.min() >= 200 and highest <= 100:
        yield (
            f"No box reaches beyond {highest:g}, in images of at least {sides['width']}x{sides['height']}: "
            "are boxes written in per cent? They are read as pixels."
        )


def _is_fraction(item: Item) -> bool:
    """All four numbers within 0 and 1, not all of them whole: 0 0 1 1 can be a pixel."""
    within = all(-_SLACK <= number <= 1 + _SLACK for number in item.written)
    return within and any(number != int(number) for number in item.written)


def _are_corners(items: list[Item], width: int, height: int) -> bool:
    """Whether all boxes lie inside the image as corners, and one of them far beyond it as sides."""
    inside = all(
        -1 <= x < across <= width + 1 and -1 <= y < down <= height + 1
        for x, y, across, down in (item.written for item in items)
    )
    return inside and any(
        item.box[2] > width * (1 + _BEYOND) or item.box[3] > height * (1 + _BEYOND) for item in items
    )
