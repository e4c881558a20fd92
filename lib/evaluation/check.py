"""What must hold in the tables before anything is scored. Every fault is found; none is repaired here.

A NaN score ranks last in one evaluator and first in another, a box without area matches nothing, a detection
in an image outside the split is lost or stops the evaluator: each changes a metric silently, so each is refused.
"""

from collections.abc import Iterable, Sequence

import pandas as pd
import pyarrow as pa

from lib.stage.errors import Fault, InputError
from lib.stage.params import suggestion
from lib.storage import bounds
from lib.storage.tables import DETECTIONS, IMAGES, OBJECTS, to_arrow

_IMAGE_IDS = pa.schema([IMAGES.field("image_id")])
_UNREADABLE = ("missing column", "repeated column", "wrong type")


def faults(
    images: pd.DataFrame, objects: pd.DataFrame, detections: pd.DataFrame, classes: Sequence[str]
) -> list[Fault]:
    """Everything that keeps these tables from being scored; empty if nothing does.

    images     : one row per image of the split to score: image_id; boxes must be inside where it has width and height
    objects    : tables.OBJECTS; may hold images of other splits
    detections : tables.DETECTIONS; only images of the split
    classes    : the names to score, each once
    """
    schema_faults = [
        *_repeats(classes, "classes"),
        *_schema(images, _IMAGE_IDS, "images"),
        *_schema(objects, OBJECTS, "objects"),
        *_schema(detections, DETECTIONS, "detections"),
    ]
    if any(fault.kind in _UNREADABLE for fault in schema_faults):
        return schema_faults  # the columns cannot be read, so nothing can be said about their values
    split_objects = objects[objects["image_id"].isin(images["image_id"])]
    return [
        *schema_faults,
        *_repeats(images["image_id"], "images"),
        *_unknown_images(detections, images["image_id"]),
        *_unknown_classes(detections, classes, "detections"),
        *_unknown_classes(split_objects, classes, "objects"),
        *bounds.faults([objects], images, "objects", lines=True),
        *bounds.faults([detections], images, "detections"),
    ]


def _schema(table: pd.DataFrame, schema: pa.Schema, name: str) -> list[Fault]:
    try:
        to_arrow(table, schema, name)
    except InputError as error:
        return error.faults
    return []


def _repeats(names: Iterable[str], where: str) -> list[Fault]:
    counts = pd.Series(list(names), dtype=object).value_counts(sort=False)
    return [
        Fault("repeated name", where, f"{name!r} stands {count} times", "each name once", "Remove the others")
        for name, count in counts[counts > 1].items()
    ]


def _unknown_images(detections: pd.DataFrame, ids: pd.Series) -> list[Fault]:
    unknown = detections.loc[~detections["image_id"].isin(ids), "image_id"].value_counts(sort=False)
    example = f", such as {ids.iloc[0]!r}" if len(ids) else ""
    return [
        Fault(
            "unknown image",
            "detections",
            f"image {name!r} ({count} rows) is not in the split that is scored",
            f"the {len(ids)} images of the split{example}",
            "Detect on this split, or score the split that was detected",
        )
        for name, count in unknown[unknown > 0].items()
    ]


def _unknown_classes(table: pd.DataFrame, classes: Sequence[str], where: str) -> list[Fault]:
    unknown = table.loc[~table["class"].isin(list(classes)), "class"].value_counts(sort=False)
    return [
        Fault(
            "unknown class",
            where,
            f"class {name!r} ({count} rows) is not in the class list",
            ", ".join(classes),
            suggestion(str(name), list(classes)) or "Rename it, or add it to the class list",
        )
        for name, count in unknown[unknown > 0].items()
    ]

