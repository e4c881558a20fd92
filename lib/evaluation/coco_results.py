"""Detections and objects as COCO's two files, so that pycocotools, FiftyOne, TIDE and others can score them.

Boxes are x, y, width, height in pixels; numbers of images and classes start at 1, in the order of `Inputs`. COCO has no
difficult objects. They are written with an area of -1, outside every range of sizes, which makes COCO's evaluators
ignore them (see `coco`), and with `difficult` and `ignore` for programs that read these.
"""

from pathlib import Path
from typing import Any

from lib.evaluation.coco import detection_rows, truth_rows
from lib.evaluation.inputs import Inputs
from lib.storage import tables

_DETECTION = ("image_id", "category_id", "bbox", "score")


def truth(inputs: Inputs) -> dict[str, Any]:
    """A COCO data set as plain values: `images` (file_name is our image_id), `categories`, `annotations`."""
    images = [{"id": number, "file_name": name} for number, name in enumerate(inputs.images, 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(inputs.classes, 1)]
    annotations = [
        {**row, "difficult": int(difficult), "ignore": int(difficult)}
        for row, difficult in zip(truth_rows(inputs.objects), inputs.objects.difficult, strict=True)
    ]
    return {"images": images, "categories": categories, "annotations": annotations}


def results(inputs: Inputs) -> list[dict[str, Any]]:
    """COCO results as plain values: image_id, category_id, bbox, score; class by class, best score first."""
    return [{name: row[name] for name in _DETECTION} for row in detection_rows(inputs.detections)]


def write(folder: Path, inputs: Inputs, truth_name: str = "objects.json") -> None:
    """Both files: the ground truth, by that name, and `detections.json`."""
    tables.write_json(folder / truth_name, truth(inputs))
    tables.write_json(folder / "detections.json", results(inputs))
