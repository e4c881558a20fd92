"""Statistical significance: how far a mean average precision, or the difference of two, moves with the test images.

The paired bootstrap (Efron and Tibshirani 1993): the test images are resampled with replacement, the same resamples
for both methods, and the averages computed anew. Images are resampled and not objects, since the objects of an image
are not independent. An image sampled twice counts like two images, so the value of a resample is exactly the average of
the enlarged tables.

Where a method was trained with several seeds, the seeds are drawn too, and its figure is the mean of the runs: see
`hierarchical`.

B resamples, I images, D detections, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.evaluation.average_precision import LEVELS
from lib.evaluation.settings import Levels, Measure
from lib.report import hierarchical
from lib.report.outcomes import Outcomes, common_images

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
    outcomes: Outcomes, weights: Weights, measure: Measure = "voc10_map", levels: Levels = "exact"
) -> NDArray[np.float64]:
    """float64 (B,): the mean average precision where image i counts `weights[:, i]` times; NaN without objects.

    A class without objects in a resample is left out of its mean, as it would be of a test set's.
    """
    averages = np.full((len(outcomes.classes), len(weights)), np.nan)
    for label, (name, detections) in enumerate(outcomes.classes.items()):
        step = max(1, _CELLS // max(1, len(detections.image)))
        for start in range(0, len(weights), step):
            part = weights[start : start + step]
            counts = part[:, outcomes.objects[name]].sum(axis=1)
            averages[label, start : start + step] = _averages(
                part, detections.image, detections.right, counts, measure, levels
            )
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
    """Method `first` minus method `second`; `significant` where the interval excludes 0; runs : of each, by seed."""

    first: str
    second: str
    difference: Interval
    runs: int = 1

    @property
    def significant(self) -> bool:
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and not low <= 0 <= high


Runs = Mapping[int, Outcomes]  # by seed


def compare(
    methods: Mapping[str, Outcomes], resamples: int, seed: int, level: float = 0.95, measure: Measure = "voc10_map",
    levels: Levels = "exact", repeated: Mapping[str, Runs] | None = None,
) -> tuple[dict[str, Interval], list[Pair]]:
    """The interval of every method and of the difference of every two of them, from the same resamples.

    methods  : name -> the run at hand; all must have the same images, or ValueError
    repeated : name -> runs with several seeds. The interval of a method that has `hierarchical.LEAST` is that of their
               mean, over seeds and images; so is that of a pair whose methods share as many seeds, seed by seed. All
               others are of the runs at hand, over images alone.
    """
    if not methods:
        return {}, []
    several = {name: runs for name, runs in (repeated or {}).items() if len(runs) >= hierarchical.LEAST}
    count = common_images([*methods.values(), *(run for runs in several.values() for run in runs.values())])
    weights = np.vstack([np.ones((1, count), np.int64), sample(count, resamples, seed)])

    def values(outcomes: Outcomes) -> NDArray[np.float64]:
        return means(outcomes, weights, measure, levels)

    here = {name: values(outcomes)[None] for name, outcomes in methods.items()}
    of_seeds = {name: {seed: values(run) for seed, run in runs.items()} for name, runs in several.items()}
    alone = {
        name: _interval(np.stack([*of_seeds[name].values()]) if name in of_seeds else here[name], level, seed)
        for name in methods
    }
    pairs: list[Pair] = []
    names: Sequence[str] = list(methods)
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            shared = sorted(of_seeds.get(first, {}).keys() & of_seeds.get(second, {}).keys())
            if len(shared) >= hierarchical.LEAST:
                difference = np.stack([of_seeds[first][key] - of_seeds[second][key] for key in shared])
            else:
                difference = here[first] - here[second]
            pairs.append(Pair(first, second, _interval(difference, level, seed), len(difference)))
    return alone, pairs


def _interval(values: NDArray[np.float64], level: float, seed: int) -> Interval:
    """values : float64 (n, 1 + B), a row for each run; the first column is that of the images as they are"""
    observed, resampled = values[:, 0], values[:, 1:][:, ~np.isnan(values[:, 1:]).any(axis=0)]
    value = None if np.isnan(observed).any() else float(observed.mean())
    if value is None or len(observed) == 1 or resampled.shape[1] < 2:
        return interval(resampled.mean(axis=0), value, level)
    return interval(hierarchical.draws(observed, resampled, np.random.default_rng(seed)), value, level)
