"""Statistical significance: how far a mean average precision, or the difference of two, moves with the test images.

The paired bootstrap (Efron and Tibshirani 1993): the test images are resampled with replacement, the same resamples
for both methods, and the averages computed anew. Images are resampled and not objects, since the objects of an image
are not independent. An image sampled twice counts like two images, so the value of a resample is exactly the average of
the enlarged tables.

B resamples, I images, D detections, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.evaluation.average_precision import LEVELS
from lib.evaluation.inputs import Inputs
from lib.evaluation.matching import IGNORED, RIGHT, match
from lib.evaluation.settings import Levels, Measure

Weights = NDArray[np.int64]
_CELLS = 4_000_000  # numbers held at once: a class's detections times some of the resamples


@dataclass(frozen=True)
class Interval:
    """value : on the images as they are;  low, high : percentiles of the resamples;  None where there are no objects
    above : share of the resamples above 0, for a difference
    """

    value: float | None
    low: float | None
    high: float | None
    above: float | None


def sample(images: int, resamples: int, seed: int) -> Weights:
    """int64 (B, I): how often each image was sampled; each row sums to I."""
    generator = np.random.default_rng(seed)
    return np.asarray(generator.multinomial(images, np.full(images, 1 / images), size=resamples), np.int64)


def means(
    inputs: Inputs, weights: Weights, iou_threshold: float = 0.5, measure: Measure = "voc10_map",
    levels: Levels = "exact",
) -> NDArray[np.float64]:
    """float64 (B,): the mean average precision where image i counts `weights[:, i]` times; NaN without objects.

    A class without objects in a resample is left out of its mean, as it would be of a test set's.
    """
    outcome = match(inputs, iou_threshold).outcome
    detections, objects = inputs.detections, inputs.objects
    averages = np.full((len(inputs.classes), len(weights)), np.nan)
    for label in range(len(inputs.classes)):
        object_images = objects.image[(objects.label == label) & objects.counted]
        scored = (detections.label == label) & (outcome != IGNORED)
        image, right = detections.image[scored], outcome[scored] == RIGHT
        step = max(1, _CELLS // max(1, len(image)))
        for start in range(0, len(weights), step):
            part = weights[start : start + step]
            counts = part[:, object_images].sum(axis=1)
            averages[label, start : start + step] = _averages(part, image, right, counts, measure, levels)
    present = ~np.isnan(averages)
    count = present.sum(axis=0)
    total = np.where(present, averages, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _averages(
    weights: Weights, image: NDArray[np.int64], right: NDArray[np.bool_], objects: NDArray[np.int64], measure: Measure,
    levels: Levels,
) -> NDArray[np.float64]:
    """One class in every resample; NaN where it has no objects.

    The copies of a right detection follow each other and only raise precision, so the ceiling over all of them is that
    at the last copy: one number for each row of the table is enough.
    """
    copies = weights[:, image]
    right_so_far, rank = np.cumsum(copies * right, axis=1), np.cumsum(copies, axis=1)
    precision = right_so_far / np.maximum(rank, 1)
    ceiling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right_so_far / np.maximum(objects, 1)[:, None]
    if measure == "voc10_map":
        value = (np.diff(recall, axis=1, prepend=0.0) * ceiling).sum(axis=1)
    else:
        ends = np.hstack([ceiling, np.zeros((len(weights), 1))])
        points = [(recall < level).sum(axis=1) for level in LEVELS[levels]]
        value = np.mean([ends[np.arange(len(weights)), point] for point in points], axis=0)
    return np.where(objects > 0, value, np.nan)


def interval(resampled: NDArray[np.float64], value: float | None, level: float = 0.95) -> Interval:
    """The percentile interval of resampled values; those that are NaN are left out.

    level : share of the resamples inside the interval, in (0, 1)
    """
    known = resampled[~np.isnan(resampled)]
    if value is None or not len(known):
        return Interval(value, None, None, None)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), float((known > 0).mean()))


@dataclass(frozen=True)
class Pair:
    """Method `first` minus method `second`; `significant` where the interval excludes 0."""

    first: str
    second: str
    difference: Interval

    @property
    def significant(self) -> bool:
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and not low <= 0 <= high


def compare(
    methods: dict[str, Inputs], resamples: int, seed: int, level: float = 0.95, iou_threshold: float = 0.5,
    measure: Measure = "voc10_map", levels: Levels = "exact",
) -> tuple[dict[str, Interval], list[Pair]]:
    """The interval of every method and of the difference of every two of them, from the same resamples.

    methods : name -> inputs; all must have the same images, or ValueError
    """
    images = {tuple(inputs.images) for inputs in methods.values()}
    if len(images) > 1:
        raise ValueError("the methods were run on different images, so their resamples cannot be paired")
    if not methods:
        return {}, []
    count = len(next(iter(images)))
    weights = np.vstack([np.ones((1, count), np.int64), sample(count, resamples, seed)])
    values = {name: means(inputs, weights, iou_threshold, measure, levels) for name, inputs in methods.items()}
    alone = {name: _interval(value, level) for name, value in values.items()}
    names: Sequence[str] = list(methods)
    pairs = [
        Pair(first, second, _interval(values[first] - values[second], level))
        for position, first in enumerate(names)
        for second in names[position + 1 :]
    ]
    return alone, pairs


def _interval(values: NDArray[np.float64], level: float) -> Interval:
    """The first value is that of the images as they are."""
    return interval(values[1:], None if np.isnan(values[0]) else float(values[0]), level)
