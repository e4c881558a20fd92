"""Average precision of COCO, computed by faster-coco-eval from the same inputs as VOC's.

COCO averages precision at 101 recalls, over IoU 0.50, 0.55 ... 0.95; a detection may take its second-best
object, and only the best `max_detections` of an image and class count. Sizes are box areas: small below 32 x
32 pixels, large above 96 x 96.

Crowd regions keep COCO's rule (iscrowd: they ignore any number of detections, by the covered share of the
detection). COCO has no difficult objects, and its evaluator overwrites an `ignore` field. But it ignores an
object whose area lies outside the range that is scored: the object need not be found, and a detection that
matches it by ordinary IoU counts neither as right nor as wrong. A difficult object is therefore handed over with
an area outside every range. It differs from VOC in one point: it excuses a single detection, as every ignored
object of COCO does, and a second one on it is wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.evaluation.average_precision import mean
from lib.evaluation.inputs import Detections, Inputs, Objects

_OUTSIDE_EVERY_RANGE = -1.0


@dataclass(frozen=True)
class CocoResult:
    """COCO's averages, each in [0, 1], or None where no object has to be found.

    map, map50, map75    : over IoU 0.50:0.95, at 0.50, at 0.75
    small, medium, large : over IoU 0.50:0.95, objects of that size
    classes              : class name to its average over IoU 0.50:0.95
    """

    map: float | None = None
    map50: float | None = None
    map75: float | None = None
    small: float | None = None
    medium: float | None = None
    large: float | None = None
    classes: dict[str, float | None] = field(default_factory=dict)


def evaluate(inputs: Inputs, max_detections: int = 100) -> CocoResult:
    """Score all classes.

    max_detections : best detections of each image and class that count
    returns        : 0.0 where there are objects but no detections; never -1, never NaN
    """
    if not inputs.objects.counted.any():
        return CocoResult(classes=dict.fromkeys(inputs.classes))

    precision, labels, thresholds = _precision(inputs, max_detections)
    of_size = {name: precision[..., labels.index(name)] for name in ("all", "small", "medium", "large")}
    all_sizes = of_size["all"]
    return CocoResult(
        map=_average(all_sizes),
        map50=_average(all_sizes[np.isclose(thresholds, 0.5)]),
        map75=_average(all_sizes[np.isclose(thresholds, 0.75)]),
        small=_average(of_size["small"]),
        medium=_average(of_size["medium"]),
        large=_average(of_size["large"]),
        classes={name: _average(all_sizes[..., [k]]) for k, name in enumerate(inputs.classes)},
    )


def _precision(
    inputs: Inputs, max_detections: int
) -> tuple[NDArray[np.float64], list[str], NDArray[np.float64]]:
    """Precision (thresholds, recalls, classes, sizes), -1 where there is nothing to find; sizes; thresholds."""
    from faster_coco_eval import COCO, COCOeval_faster  # on use: it takes a second to import

    common = {
        "images": [{"id": number} for number in range(1, len(inputs.images) + 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(inputs.classes, 1)],
    }
    truth = COCO({**common, "annotations": list(truth_rows(inputs.objects))})
    detected = COCO({**common, "annotations": list(detection_rows(inputs.detections))})
    evaluator = COCOeval_faster(truth, detected, "bbox")
    evaluator.params.maxDets = [max_detections]
    evaluator.evaluate()
    evaluator.accumulate()
    precision = np.asarray(evaluator.eval["precision"])[..., -1]
    return precision, list(evaluator.params.areaRngLbl), np.asarray(evaluator.params.iouThrs)


def _average(precision: NDArray[np.float64]) -> float | None:
    """Mean over the classes (third axis) that have objects; None if none has."""
    return mean(
        [
            None if (ap := precision[:, :, k]).max(initial=-1) < 0 else float(ap.mean())
            for k in range(precision.shape[2])
        ]
    )


def _rows(rows: Objects | Detections) -> Iterator[dict[str, Any]]:
    boxes = rows.boxes.astype(np.float64)
    corner, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    bbox = np.hstack([corner, sides]).tolist()
    area = sides.prod(axis=1).tolist()
    # Numbers start at 1, since COCO's evaluator reads object 0 as "no object".
    for number, (image, label) in enumerate(zip(rows.image.tolist(), rows.label.tolist(), strict=True)):
        yield {
            "id": number + 1,
            "image_id": image + 1,
            "category_id": label + 1,
            "bbox": bbox[number],
            "area": area[number],
            "iscrowd": 0,
        }


def truth_rows(objects: Objects) -> Iterator[dict[str, Any]]:
    """COCO annotations of the objects; numbers of images, classes and objects start at 1."""
    for row, difficult, crowd in zip(_rows(objects), objects.difficult, objects.crowd, strict=True):
        row["iscrowd"] = int(crowd)
        if difficult and not crowd:
            row["area"] = _OUTSIDE_EVERY_RANGE
        yield row


def detection_rows(detections: Detections) -> Iterator[dict[str, Any]]:
    """COCO annotations of the detections, with `score`; numbers as in `truth_rows`."""
    for row, score in zip(_rows(detections), detections.scores.tolist(), strict=True):
        yield {**row, "score": score}
