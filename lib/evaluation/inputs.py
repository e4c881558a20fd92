"""The tables of one split as arrays in one fixed order, which every evaluator reads.

The order depends on the content of the rows and not on their position, so shuffling a table changes no metric,
with ties of score or of overlap either.

R objects, D detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes, area
from lib.evaluation.check import faults
from lib.stage.errors import Fault, InputError
from lib.storage import tables
from lib.storage.tables import boxes as boxes_of


@dataclass(frozen=True)
class Objects:
    """Annotated objects, ordered by class, image and number in the annotation.

    image     : int64 (R,) index into Inputs.images
    label     : int64 (R,) index into Inputs.classes
    boxes     : float32 (R, 4) x1 y1 x2 y2, half-open pixels; every one has an area
    difficult : bool (R,) finding it earns nothing, missing it costs nothing
    crowd     : bool (R,) a region with many objects that are not annotated one by one
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    boxes: Boxes
    difficult: NDArray[np.bool_]
    crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.image)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """bool (R,): the objects that a detector has to find."""
        return ~(self.difficult | self.crowd)


@dataclass(frozen=True)
class Detections:
    """Detections, ordered by class, then score (highest first), then image_id, then box.

    image, label, boxes : as in Objects, (D,), (D,), (D, 4)
    scores              : float64 (D,) at the precision of the table, never rounded
    row                 : int64 (D,) position of the detection in the table, from 0
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    boxes: Boxes
    scores: NDArray[np.float64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.image)

    def in_table_order(self, values: NDArray) -> NDArray:
        """(D, ...) values of these detections, in the order of the rows of the table."""
        ordered = np.empty_like(values)
        ordered[self.row] = values
        return ordered


@dataclass(frozen=True)
class Inputs:
    """One split's images (sorted), the classes to score, its objects and the detections on it."""

    images: list[str]
    classes: list[str]
    objects: Objects
    detections: Detections

    @classmethod
    def of(
        cls, images: pd.DataFrame, objects: pd.DataFrame, detections: pd.DataFrame, classes: Sequence[str]
    ) -> "Inputs":
        """Check and order the tables.

        images     : one row per image of the split to score (column image_id), those without objects too; with width
                     and height every box must be inside
        objects    : may hold other splits as well; an object without area cannot be found, so it is left out
        detections : only images of the split
        raises     : InputError with every fault (see check.faults)
        """
        if problems := faults(images, objects, detections, classes):
            raise InputError(problems)
        ids = sorted(images["image_id"].astype(object))
        return cls(ids, list(classes), _objects(objects, ids, classes), _detections(detections, ids, classes))


def read(detections: Path, objects: Path, splits: Sequence[str]) -> Inputs:
    """A table of detections, and the images and objects of some splits; images.parquet and classes.json, as `prepare`
    writes them, stand beside the table of objects. Raises InputError with the faults of all of them."""
    problems: list[Fault] = []
    frames: list[pd.DataFrame] = []
    sources = (
        (objects.with_name("images.parquet"), tables.IMAGES), (objects, tables.OBJECTS),
        (detections, tables.DETECTIONS),
    )
    for path, schema in sources:
        try:
            frames.append(tables.read(path, schema))
        except InputError as error:
            problems += error.faults
    try:
        names = tables.read_names(objects.with_name("classes.json"))
    except InputError as error:
        problems += error.faults
    if problems:
        raise InputError(problems)
    image_table, object_table, detection_table = frames
    in_splits = image_table[image_table["split"].isin(splits)]
    if in_splits.empty:
        there = ", ".join(sorted(set(image_table["split"]))) or "a table with images"
        problem = f"holds no image of the split {', '.join(splits)}"
        raise InputError([Fault("no images", str(sources[0][0]), problem, there, "Choose a split with images")])
    return Inputs.of(in_splits, object_table, detection_table, names)


def _objects(table: pd.DataFrame, ids: list[str], classes: Sequence[str]) -> Objects:
    table = table[table["image_id"].isin(ids)]
    table = table[area(boxes_of(table)) > 0]
    image, label = _codes(table["image_id"], ids), _codes(table["class"], classes)
    boxes = boxes_of(table)
    number = table["object"].to_numpy(np.int64)
    order = np.lexsort((*boxes.T[::-1], number, image, label))
    flags = (table[name].to_numpy(bool)[order] for name in ("difficult", "crowd"))
    return Objects(image[order], label[order], boxes[order], *flags)


def _detections(table: pd.DataFrame, ids: list[str], classes: Sequence[str]) -> Detections:
    image, label = _codes(table["image_id"], ids), _codes(table["class"], classes)
    boxes = boxes_of(table)
    scores = table["score"].to_numpy(np.float64)
    order = np.lexsort((*boxes.T[::-1], image, -scores, label)).astype(np.int64)
    return Detections(image[order], label[order], boxes[order], scores[order], order)


def _codes(names: pd.Series, known: Sequence[str]) -> NDArray[np.int64]:
    return np.asarray(pd.Index(list(known), dtype=object).get_indexer(names.astype(object)), np.int64)
