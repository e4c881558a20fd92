"""The settings of the evaluation and of the report."""

from typing import Literal

from pydantic import Field

from lib.stage.params import Seed, Settings

Levels = Literal["exact", "numpy"]
Measure = Literal["voc07_map", "voc10_map"]


class Evaluate(Settings):
    """Block `evaluate`.

    iou            : least IoU of a match in the VOC protocol (devkit: 0.5, reached is enough)
    levels         : recalls of the 11-point average; exact: i / 10; numpy: i * 0.1, as in published Python code, which
                     a recall of exactly 0.3, 0.6 or 0.7 does not reach
    max_detections : best detections per image and class in the COCO protocol (100)
    curve_points   : most points of a precision-recall curve
    background     : IoU below which a detection does not overlap an object (Hoiem et al.: 0.1)
    similar        : groups of classes that are easily confused; names that are no class are ignored
    top            : numbers of best-scored false positives per class (R-CNN, figure 5: 25, 100, 400, 1600, 6400)
    """

    iou: float = Field(gt=0, le=1, default=0.5)
    levels: Levels = "exact"
    max_detections: int = Field(ge=1, default=100)
    curve_points: int = Field(ge=24, default=200)
    background: float = Field(gt=0, le=1, default=0.1)
    similar: list[list[str]] = Field(default=[])
    top: list[int] = Field(min_length=1, default=[25, 100, 400, 1600, 6400])


class Report(Settings):
    """Block `report`.

    images, boxes : test images on the page, spread over the split, and best detections of a method in each
    side          : longer side of an image on the page, pixels
    measure       : average that is compared;  level : share of the resamples inside an interval
    resamples     : sets of test images sampled with replacement;  seed : of the sampling
    seeds         : with which `stages.experiments` repeats each row; a single one: the row as it is
    """

    images: int = Field(ge=0)
    boxes: int = Field(ge=1)
    side: int = Field(ge=32)
    measure: Measure
    level: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=1)
    seed: Seed
    seeds: list[Seed] = Field(min_length=1)
