"""Statistical significance: how far a mean average precision, or the difference of two, moves with the test images.

The paired bootstrap (Efron and Tibshirani 1993): the test images are resampled with replacement, the same resamples
for both methods, and the averages computed anew. Images are resampled and not objects, since the objects of an image
are not independent. An image sampled twice counts like two images, so the value of a resample is exactly the average of
the enlarged tables.

Where a method was trained with several seeds, the seeds are drawn too, and its figure is the mean of the runs: see
`hierarchical`.

B resamples, I images, D detections, C classes, L levels of recall.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.compiled import kernel
from lib.evaluation.average_precision import LEVELS
from lib.evaluation.settings import Levels, Measure
from lib.report import hierarchical
from lib.report.outcomes import Outcomes, common_images

Weights = NDArray[np.int64]


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
    wanted = np.empty(0) if measure == "voc10_map" else np.asarray(LEVELS[levels])
    for label, (name, detections) in enumerate(outcomes.classes.items()):
        counts = weights[:, outcomes.objects[name]].sum(axis=1)
        averages[label] = _averages(weights, detections.image, detections.right, counts, wanted)
    present = ~np.isnan(averages)
    count = present.sum(axis=0)
    total = np.where(present, averages, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@kernel
def _averages(weights, image, right, objects, levels):  # type: ignore[no-untyped-def]
    """One class in every resample; NaN where it has no objects.

    image   : int64 (D,), right : bool (D,)  of the detections, the best first
    objects : int64 (B,)  of the class in each resample
    levels  : float64 (L,)  of recall, ascending, over which precision is averaged; empty: area under the curve

    Both averages are a sum over the steps of the curve: its ceiling at a detection, times the recall that it adds or
    the number of levels that lie in this step. The copies of a right detection follow each other and only raise
    precision, so the ceiling over all of them is that at the last copy: one step for each detection is enough. From
    the last detection to the first the ceiling is a running maximum.
    """
    values = np.full(len(weights), np.nan)
    for row in range(len(weights)):
        if objects[row] == 0:
            continue
        hits, rank = 0, 0
        for place in range(len(image)):
            copies = weights[row, image[place]]
            rank += copies
            if right[place]:
                hits += copies
        total, ceiling, level = 0.0, 0.0, len(levels)
        while level > 0 and levels[level - 1] > hits / objects[row]:
            level -= 1
        for place in range(len(image) - 1, -1, -1):
            ceiling = max(ceiling, hits / max(rank, 1))
            copies = weights[row, image[place]]
            rank -= copies
            added = copies if right[place] else 0
            hits -= added
            if len(levels) == 0:
                total += ceiling * added / objects[row]
            while level > 0 and (place == 0 or levels[level - 1] > hits / objects[row]):
                total += ceiling / len(levels)
                level -= 1
        values[row] = total
    return values


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
