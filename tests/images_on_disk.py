"""A few images of coloured squares with their tables, as the stages see them."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.images.decode import content_of
from lib.images.image_set import ImageSet
from lib.storage import tables

SIZE = (160, 120)


def write(root: Path, objects: list[list[tuple[int, int, int, int]]], test: int = 0) -> None:
    """One image for each list of objects, of classes cat and dog in turn; `root/tables` and `root/images`.

    test : so many of the last images are the split test, the others the split train
    """
    (root / "images").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    images, rows = [], []
    for number, boxes in enumerate(objects):
        pixels = random.integers(60, 120, (SIZE[1], SIZE[0], 3), np.uint8)
        split = "train" if number < len(objects) - test else "test"
        image_id = f"images/{split}{number}.png"
        for position, (x1, y1, x2, y2) in enumerate(boxes):
            pixels[y1:y2, x1:x2] = (230, 40, 40) if position % 2 else (40, 40, 230)
            rows.append((image_id, position, ["cat", "dog"][position % 2], x1, y1, x2, y2, False, False, False))
        cv2.imwrite(str(root / image_id), pixels)
        images.append((image_id, split, *SIZE, False, content_of((root / image_id).read_bytes())))
    tables.write(root / "tables/images.parquet", pd.DataFrame(images, columns=tables.IMAGES.names), tables.IMAGES)
    tables.write(root / "tables/objects.parquet", pd.DataFrame(rows, columns=tables.OBJECTS.names), tables.OBJECTS)
    tables.write_json(root / "tables/classes.json", ["cat", "dog"])


def image_set(root: Path, objects: list[list[tuple[int, int, int, int]]]) -> ImageSet:
    """`write`, and what reads it."""
    write(root, objects)
    return ImageSet(str(root), root / "tables", ["train"])
