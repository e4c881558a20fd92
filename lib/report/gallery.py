"""The same test images under every method, as plain values for the report page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lib.evaluation.errors import FATES, NAMES, Errors


def describe(errors: Mapping[str, Errors], image_id: str, best: int) -> dict[str, Any]:
    """One image: its objects, and each method's best detections with the kind of each.

    errors  : method -> what became of its detections; all on the same images and objects
    best    : most detections of a method, the best-scored of all classes
    returns : objects, rows [x1, y1, x2, y2, class, flag], flag "", "difficult" or "crowd"; detections, method -> rows
              [x1, y1, x2, y2, class, score, kind, duplicate]; fates, method -> of each object, in errors.FATES or ""
    """
    first = next(iter(errors.values())).inputs
    image = first.images.index(image_id)
    rows = np.flatnonzero(first.objects.image == image)
    flags = [
        "crowd" if first.objects.crowd[row] else "difficult" if first.objects.difficult[row] else "" for row in rows
    ]
    objects = [
        [*_corners(first.objects.boxes[row]), first.classes[first.objects.label[row]], flag]
        for row, flag in zip(rows, flags, strict=True)
    ]
    return {
        "id": image_id,
        "objects": objects,
        "detections": {name: _detections(method_errors, image, best) for name, method_errors in errors.items()},
        "fates": {
            name: ["" if method_errors.fate[row] < 0 else FATES[method_errors.fate[row]] for row in rows]
            for name, method_errors in errors.items()
        },
    }


def _detections(errors: Errors, image: int, best: int) -> list[list[Any]]:
    detections = errors.inputs.detections
    rows = np.flatnonzero(detections.image == image)
    rows = rows[np.argsort(-detections.scores[rows], kind="stable")][:best]
    return [
        [*_corners(detections.boxes[row]), errors.inputs.classes[detections.label[row]],
         round(float(detections.scores[row]), 4), NAMES[errors.kind[row]], bool(errors.duplicate[row])]
        for row in rows
    ]


def _corners(box: Sequence[float]) -> list[float]:
    return [round(float(value), 1) for value in box]


def spread(images: Sequence[str], count: int) -> list[str]:
    """At most `count` of the images, spread evenly over their order, the first and the last among them."""
    if not images:
        return []
    positions = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
    return [images[position] for position in positions]
