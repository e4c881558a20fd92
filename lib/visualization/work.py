"""The settings of `visualize`, its pieces, and the figures made of them.

A piece is one image's part, plain values that a killed run finds again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.boxes.boxes import Boxes, iou
from lib.detectors.target import Explainer
from lib.images.image_set import ImageSet
from lib.stage.params import Settings
from lib.storage.by_image import ByImage
from lib.visualization import units as of_units
from lib.visualization.attribution import CENTRE, KINDS, attribute
from lib.visualization.fields import FieldsOf
from lib.visualization.placing import Heat, to_image

JUDGED = ("points", "energy", "empty", "deletion", "insertion", "head", "half", "all")


class UnitSettings(Settings):
    """Which units of the last pooled map are shown, and with what.

    count     : units, the most selective of each class in turn (paper: 20)
    images    : of the training split to choose them on, and of the test split to show them on, spread over it
    proposals : of an image, its first
    top       : regions shown of a unit (paper: 16, 24)
    nms       : IoU from which a better region of the image removes one (authors: 0.1)
    """

    count: int = Field(ge=1)
    images: int = Field(ge=1)
    proposals: int = Field(ge=1)
    top: int = Field(ge=1)
    nms: float = Field(ge=0, le=1)


class Visualize(Settings):
    """Block `visualize`.

    images    : test images whose detections are explained, spread over the split
    boxes     : the best detections of each
    occlusion : windows side by side along a box and its surroundings
    steps     : of the deletion and the insertion curve
    units     : see `UnitSettings`
    """

    images: int = Field(ge=1)
    boxes: int = Field(ge=1)
    occlusion: int = Field(ge=1)
    steps: int = Field(ge=2)
    units: UnitSettings


def explain(
    explainer: Explainer, fields_of: FieldsOf, image_set: ImageSet, image_id: str, box: NDArray[np.float32],
    label: int, settings: Visualize, seed: int,
) -> tuple[dict[str, Any], dict[str, Heat]]:
    """A piece: the maps of a detection, judged; and the maps, by kind, float32 on the pixels of the image.

    box : float32 (4,) of the detection;  label : its class, from 0
    """
    image = image_set.image(image_id)
    height, width = image.shape[:2]
    target = explainer(image, box, label)
    objects, classes = image_set.objects(image_id)
    number = matched(box, label, objects, classes)
    truth = box if number is None else objects[number]
    cells = fields_of(target.network, target.grid, (target.inputs.shape[2], target.inputs.shape[3]))
    made = attribute(target, cells, (width, height), truth, settings.occlusion, settings.steps, seed)
    score = target(target.network, target.inputs).item()
    piece = {
        "class": image_set.classes[label], "box": box.tolist(), "explained": score,
        "right": number is not None, "object": None if number is None else truth.tolist(), "numbers": made.numbers,
    }
    return piece, {kind: to_image(made.heats[kind], target.window, width, height) for kind in KINDS}


def choose_units(
    explainer: Explainer, image_set: ImageSet, ids: Sequence[str], proposals: ByImage, settings: UnitSettings
) -> list[tuple[int, int]]:
    """Pairs of a class and a unit, from regions of training images: their objects, then their proposals."""
    selectivity = None
    for image_id in ids:
        objects, classes = image_set.objects(image_id)
        regions = np.concatenate([objects, proposals.boxes(image_id)[: settings.proposals]])
        values = explainer.units(image_set.image(image_id), regions).pooled.detach().flatten(1).cpu().numpy()
        selectivity = selectivity or of_units.Selectivity(len(image_set.classes), values.shape[1])
        label = of_units.labels(regions, objects, classes, len(image_set.classes))
        selectivity.add(np.asarray(values, np.float32), label)
    return selectivity.best(settings.count) if selectivity else []


def ranked(
    explainer: Explainer, image_set: ImageSet, image_id: str, regions: Boxes, chosen: Sequence[tuple[int, int]],
    settings: UnitSettings,
) -> dict[str, Any]:
    """A piece: the regions of an image that excite each chosen unit most.

    returns : tops, of each unit rows [row, value, class of the region or -1]; largest, of each unit the largest value
              of any unit of its channel, by which R-CNN's pictures are scaled
    """
    made = explainer.units(image_set.image(image_id), regions)
    values = made.pooled.detach().cpu().numpy()
    cells, flat = values.shape[2] * values.shape[3], values.reshape(len(values), -1)
    label = of_units.labels(regions, *image_set.objects(image_id), len(image_set.classes))
    tops = [of_units.top_regions(regions, flat[:, unit], settings.nms, settings.top) for _, unit in chosen]
    return {
        "tops": [[[row, value, int(label[row])] for row, value in top] for top in tops],
        "largest": [float(values[:, unit // cells].max()) for _, unit in chosen],
    }


def fields_in_image(
    explainer: Explainer, fields_of: FieldsOf, image_set: ImageSet, image_id: str, regions: Boxes,
    wanted: Sequence[tuple[int, int]],
) -> list[NDArray[np.float32]]:
    """float32 (4,) in pixels of the image: what each wanted pair of a region's row and a unit hangs on."""
    rows = sorted({row for row, _ in wanted})
    made = explainer.units(image_set.image(image_id), regions[rows])
    cells = fields_of(made.network, made.maps, made.sides)
    size = image_set.size(image_id)
    return [of_units.seen(made, cells, rows.index(row), unit, size) for row, unit in wanted]


def merged(pieces: Mapping[str, Mapping[str, Any]], unit: int, most: int) -> tuple[list[tuple[str, Any]], float]:
    """The best regions of a unit over all images as (image_id, row of a piece), and its channel's largest value.

    pieces : by image id;  unit : position among the chosen ones
    """
    rows = [(image_id, row) for image_id, piece in pieces.items() for row in piece["tops"][unit]]
    best = sorted(rows, key=lambda pair: -pair[1][1])[:most]
    return best, max((piece["largest"][unit] for piece in pieces.values()), default=0.0)


def summary(explained: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a method: by kind of map the mean of each number over the boxes that it is known of.

    explained : pieces with `numbers`, of `attribution.Attribution`, for each explained box; `right`: whether it is of
                an object: `points` and `energy` are of these alone
    returns   : boxes, right; kind -> pointing, energy, empty, deletion, insertion, and the rank correlations with maps
                of random networks; None where there is nothing to report
    """
    right = [piece for piece in explained if piece["right"]]
    figures: dict[str, Any] = {"boxes": len(explained), "right": len(right)}
    for kind in (*KINDS, CENTRE):
        figures[kind] = {}
        for name in JUDGED:
            pieces = right if name in ("points", "energy") else explained
            values = [piece["numbers"][kind].get(name) for piece in pieces]
            known = [float(value) for value in values if value is not None]
            figures[kind]["pointing" if name == "points" else name] = float(np.mean(known)) if known else None
    return figures


def matched(box: NDArray[np.float32], label: int, objects: Boxes, classes: NDArray[np.int64]) -> int | None:
    """The object that a detection found, the one of its class that it overlaps most, by an IoU of at least 0.5."""
    overlaps = np.where(classes == label, iou(box[None], objects)[0], 0)
    best = int(overlaps.argmax()) if len(overlaps) else 0
    return best if len(overlaps) and overlaps[best] >= of_units.ON_OBJECT else None
