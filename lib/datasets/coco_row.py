"""One row of COCO's lists: its place, an id, an image's size, or an annotation's object."""

import math
from typing import Any, Literal

from lib.datasets.records import Item
from lib.datasets.walk import is_text
from lib.stage.errors import Fault

LISTS = {"images": "image", "annotations": "annotation", "categories": "category"}
"""The lists of a file, and the word for one of their rows."""

_LENIENT = "Fix the file or set data.faults: lenient"


def place(rows: Literal["images", "annotations", "categories"], index: int, row: dict[str, Any], image: object) -> str:
    """The row as messages name it: annotation 7 (a.png), or annotations[4] (a.png) where it has no id.

    index : of the row in its list
    image : name of its image; anything that is no name is left out
    """
    label = f"{rows}[{index}]" if row.get("id") is None else f"{LISTS[rows]} {row['id']!r}"
    if not isinstance(image, str) or not image:
        return label
    return f"{label} ({image if is_text(image) else ascii(image)})"


def size(row: dict[str, Any]) -> tuple[int, int] | None:
    """(width, height) of an image; None where it is missing or 0."""
    width, height = row.get("width"), row.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def key_of(row: dict[str, Any], name: str) -> int | str | None:
    """An id; None where it is missing or neither a whole number nor text."""
    value = row.get(name)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def item(
    row: dict[str, Any], number: int, where: str, categories: dict[int | str | None, str], faults: list[Fault]
) -> Item | None:
    """The object, or None and a fault. A missing iscrowd is 0; area and segmentation are not used."""
    box, crowd = row.get("bbox"), row.get("iscrowd", 0)
    shown = f"bbox is {box!r}"

    def fault(kind: str, problem: str, allowed: str, remedy: str = _LENIENT) -> None:
        faults.append(Fault(kind, where, problem, allowed, remedy))

    name = categories.get(key_of(row, "category_id"))
    if name is None:
        problem = f"category_id {row.get('category_id')!r} is not declared"
        fault("undeclared category", problem, f"{dict(list(categories.items())[:20])}")
    elif not isinstance(box, list) or len(box) != 4:
        fault("object without box", shown, "[x, y, width, height]")
    elif not all(isinstance(side, int | float) and not isinstance(side, bool) for side in box):
        fault("not a number", shown, "four numbers")
    elif not all(map(_finite, box)):
        fault("non-finite number", shown, "finite numbers", "Fix the file")
    elif min(box[2:]) < 0:
        fault("inverted box", shown, "width and height of 0 or more")
    else:
        if crowd not in (0, 1, None):
            fault("not a flag", f"iscrowd is {crowd!r}", "0 or 1")
        x, y, width, height = box
        return Item(number, name, (x, y, x + width, y + height), (x, y, width, height), where, crowd=crowd == 1)
    return None


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer of hundreds of digits
        return False
