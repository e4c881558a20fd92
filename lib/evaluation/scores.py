"""One method on one split, scored by both protocols: headline numbers, and the protocol behind them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lib.evaluation import average_precision, coco
from lib.evaluation.average_precision import ClassResult, mean
from lib.evaluation.coco import CocoResult
from lib.evaluation.inputs import Inputs
from lib.evaluation.settings import Levels


@dataclass(frozen=True)
class Scores:
    """One method on one split, scored by both protocols, with the settings that were used."""

    inputs: Inputs
    voc: list[ClassResult]
    coco: CocoResult
    iou_threshold: float
    max_detections: int
    strict: bool
    levels: Levels


def score(
    images: pd.DataFrame,
    objects: pd.DataFrame,
    detections: pd.DataFrame,
    classes: Sequence[str],
    iou_threshold: float = 0.5,
    max_detections: int = 100,
    strict: bool = False,
    levels: Levels = "exact",
) -> Scores:
    """Score detections against objects.

    images, objects, detections, classes : as in Inputs.of; raises InputError with every fault in them
    iou_threshold  : least IoU of a match in the VOC protocol
    max_detections : best detections per image and class in the COCO protocol
    strict         : VOC matches above the threshold only (see matching.match)
    levels         : recalls of the 11-point average (see average_precision.eleven_points)
    warns          : where the detections are empty; the averages are 0 then
    """
    inputs = Inputs.of(images, objects, detections, classes)
    return score_inputs(inputs, iou_threshold, max_detections, strict, levels)


def score_inputs(
    inputs: Inputs, iou_threshold: float = 0.5, max_detections: int = 100, strict: bool = False,
    levels: Levels = "exact",
) -> Scores:
    """`score` of tables that are already checked and ordered."""
    if not len(inputs.detections):
        warnings.warn("there are no detections, so every average is 0", stacklevel=2)
    voc = average_precision.evaluate(inputs, iou_threshold, strict, levels)
    coco_result = coco.evaluate(inputs, max_detections)
    return Scores(inputs, voc, coco_result, iou_threshold, max_detections, strict, levels)


def metrics(scores: Scores) -> dict[str, float | int | None]:
    """Headline numbers: averages in [0, 1], None without objects; images; objects to be found."""
    return {
        "voc07_map": mean([result.ap11 for result in scores.voc]),
        "voc10_map": mean([result.ap_area for result in scores.voc]),
        "coco_map": scores.coco.map,
        "coco_map50": scores.coco.map50,
        "coco_map75": scores.coco.map75,
        "coco_map_small": scores.coco.small,
        "coco_map_medium": scores.coco.medium,
        "coco_map_large": scores.coco.large,
        "images": len(scores.inputs.images),
        "objects": int(scores.inputs.objects.counted.sum()),
    }


def protocol(scores: Scores) -> list[str]:
    """How the numbers are computed, one statement a line."""
    objects, detections = scores.inputs.objects, scores.inputs.detections
    crowd, difficult = int(objects.crowd.sum()), int((objects.difficult & ~objects.crowd).sum())
    without_objects = [result for result in scores.voc if not result.objects]
    unscored = sum(result.detections for result in without_objects)
    return [
        f"Images: {len(scores.inputs.images)}. Objects to be found: {int(objects.counted.sum())}; "
        f"besides these, {difficult} difficult and {crowd} crowd regions. Detections: {len(detections)}.",
        f"VOC: match at IoU {'>' if scores.strict else '>='} {scores.iou_threshold:g} with the object of "
        "largest IoU, duplicates are wrong, any number of detections. voc07_map: 11 points"
        f"{'' if scores.levels == 'exact' else ', levels of ' + scores.levels}. voc10_map: area.",
        "COCO: mean over IoU 0.50, 0.55 ... 0.95 (matched at >=), 101 points, at most "
        f"{scores.max_detections} detections per image and class; sizes by box area (32 x 32, 96 x 96).",
        "Boxes: half-open pixels, width = x2 - x1; equal to the devkit's inclusive corners with + 1.",
        "Difficult objects: not to be found. VOC ignores every detection on them, COCO one detection each.",
        "Crowd regions: not to be found; a wrong detection that lies in one is ignored.",
        "Ties of score: by image, then by box, so the order of rows changes nothing. Scores are not rounded.",
        f"Means: over the {len(scores.voc) - len(without_objects)} of {len(scores.voc)} classes with objects to be "
        f"found; the others have {unscored} detections, which are not counted.",
    ]
