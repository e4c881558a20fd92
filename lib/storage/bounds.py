"""Boxes without area or not in their images, in tables that others have written: refused, none is repaired.

A crop of nothing ends in an error of OpenCV; boxes of another size of the images end in a wrong average, without any.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lib.stage.errors import Fault, InputError
from lib.storage import tables

ROUNDING = 0.01  # pixels that the arithmetic of others may add at an image's border
_BOXES = pa.schema([tables.PROPOSALS.field(name) for name in ("image_id", *tables.BOX)])
_RULES = {
    "has no area": ("x1 < x2 and y1 < y2 (half-open pixels)", "Drop such rows where the table is written"),
    "is inverted": ("x1 <= x2 and y1 <= y2", "Write corners, x1 y1 x2 y2, not x y width height"),
    "leaves its image": (
        "0 <= x1, x2 <= width, 0 <= y1, y2 <= height",
        "Cut the boxes to their images, or scale them if they belong to another size of the images",
    ),
}


def faults(pieces: Iterable[pd.DataFrame], images: pd.DataFrame, where: str, lines: bool = False) -> list[Fault]:
    """At most one fault of each kind: its first row, counted from 0 over all pieces, and the number of such rows.

    pieces : image_id and a box in each row. Rows of images that are not in `images`, and boxes with a corner that is
             not finite, are passed over: they are faults of other kinds
    images : image_id; boxes must be inside where it has width and height, in pixels, too
    lines  : boxes of width or height 0 are allowed, inverted ones are not
    """
    images = images.drop_duplicates("image_id")
    keys = pd.Index(images["image_id"].astype(object))
    sizes = images.reindex(columns=["width", "height"]).to_numpy(float)  # NaN where there are none: nothing leaves it
    counts: Counter[str] = Counter()
    examples: dict[str, Fault] = {}
    rows_before = 0
    for frame in pieces:
        names = frame["image_id"].astype("category").cat  # each is looked up once
        boxes, place = tables.boxes(frame), keys.get_indexer(names.categories.astype(object))[names.codes]
        judged = np.flatnonzero(np.isfinite(boxes).all(axis=1) & (place >= 0))
        for problem, mask in _problems(boxes[judged], sizes[place[judged]], lines).items():
            rows = judged[mask]
            counts[problem] += len(rows)
            if len(rows) and problem not in examples:
                row = int(rows[0])
                box = " ".join(f"{value:g}" for value in boxes[row])
                size = "{:g}x{:g}".format(*sizes[place[row]])
                text = f"box {box} {problem}{f', {size}' * (problem == 'leaves its image')}"
                image_id = frame["image_id"].iloc[row]
                examples[problem] = Fault(
                    f"box {problem}", f"{where}, row {rows_before + row} (image {image_id})", text, *_RULES[problem]
                )
        rows_before += len(frame)
    return [
        replace(fault, problem=f"{fault.problem} ({counts[problem]} such rows)") for problem, fault in examples.items()
    ]


def check(path: Path, images: pd.DataFrame) -> None:
    """Raises InputError for boxes of a table of proposals without area or not in their images.

    images : as in `faults`. The table is read in pieces, so it may be of any length.
    """
    if problems := faults(_pieces(path), images, str(path)):
        raise InputError(problems)


def _problems(boxes: NDArray[np.float32], sizes: NDArray[np.float64], lines: bool) -> dict[str, NDArray[np.bool_]]:
    """Of finite boxes (R, 4) in images of `sizes` (R, 2)."""
    (x1, y1, x2, y2), (width, height) = boxes.T, sizes.T
    flat = {"is inverted": (x2 < x1) | (y2 < y1)} if lines else {"has no area": (x2 <= x1) | (y2 <= y1)}
    beyond = (np.minimum(x1, y1) < -ROUNDING) | (x2 > width + ROUNDING) | (y2 > height + ROUNDING)
    return {**flat, "leaves its image": beyond & ~np.isnan(width)}


def _pieces(path: Path) -> Iterator[pd.DataFrame]:
    file = tables.open_parquet(path)
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, columns=_BOXES.names)
        rows = tables.to_arrow(rows, _BOXES, f"{path}, row group {group}")
        yield rows.to_pandas(categories=["image_id"])
