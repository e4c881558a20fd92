"""The bootstrap against examples small enough to list every resample, and against tables with copied images."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from lib.evaluation.average_precision import evaluate, mean
from lib.evaluation.inputs import Inputs
from lib.report import bootstrap
from lib.report.outcomes import Outcomes
from tests.evaluation.eval_tables import detections_table, images_table, objects_table, random_tables

BOX, AWAY = (0, 0, 10, 10), (50, 50, 60, 60)


def one_class(*rights):
    """Images 0, 1, 2 ... with one object each; the method finds it (True), is wrong (False) or says nothing (None)."""
    ids = [str(n) for n in range(len(rights))]
    rows = [
        (str(n), "k", BOX if right else AWAY, 0.9 - 0.1 * n) for n, right in enumerate(rights) if right is not None
    ]
    inputs = Inputs.of(images_table(*ids), objects_table(*[(i, "k", BOX) for i in ids]), detections_table(*rows), ["k"])
    return Outcomes.of(inputs)


def all_resamples(images):
    """Every one of the images ** images equally likely samples, as weights."""
    return np.array([np.bincount(sample, minlength=images) for sample in product(range(images), repeat=images)])


def test_two_images_worked_by_hand():
    # Image 0 is found, image 1 is an error below it. Samples 00, 01, 10, 11: recall 1, 1/2, 1/2, 0, all at precision 1.
    weights = all_resamples(2)
    assert bootstrap.means(one_class(True, False), weights).tolist() == [1, 0.5, 0.5, 0]
    # The error first: precision 1/2 where both are sampled, so 1/2 * 1/2.
    assert bootstrap.means(one_class(False, True), weights).tolist() == [0, 0.25, 0.25, 1]
    # Their paired differences: 1, 1/4, 1/4, -1.
    difference = bootstrap.means(one_class(True, False), weights) - bootstrap.means(one_class(False, True), weights)
    interval = bootstrap.interval(difference, 0.25, level=0.5)
    # Sorted -1, 1/4, 1/4, 1 at quantiles 0, 1/3, 2/3, 1; 0.25 lies at 3/4 of the first step, 0.75 at 1/4 of the last.
    assert (interval.low, interval.high) == (pytest.approx(-1 + 0.75 * 1.25), pytest.approx(0.25 + 0.25 * 0.75))
    assert interval.above == 0.75


def test_the_sampled_resamples_have_the_exact_distribution():
    # Three images: the mean over all 27 samples and over many random ones agree.
    inputs = one_class(True, False, True)
    exact = bootstrap.means(inputs, all_resamples(3))
    sampled = bootstrap.means(inputs, bootstrap.sample(3, 20000, seed=1))
    assert sampled.mean() == pytest.approx(exact.mean(), abs=0.01)
    assert set(np.round(sampled, 9)) == set(np.round(exact, 9))
    for quantile in (0.25, 0.5, 0.75):
        expected = np.quantile(exact, quantile, method="inverted_cdf")
        assert np.quantile(sampled, quantile) == pytest.approx(expected, abs=0.01)


def copied(images, objects, detections, weights):
    """The tables in which image i really stands weights[i] times, under new names."""
    ids = sorted(images["image_id"])
    parts = [(i, f"{i}+{c}") for i, w in zip(ids, weights, strict=True) for c in range(w)]

    def rows(table):
        renamed = [table[table["image_id"] == old].assign(image_id=new) for old, new in parts]
        return pd.concat([table.iloc[:0], *renamed], ignore_index=True)

    return images_table(*[new for _, new in parts]), rows(objects), rows(detections)


@pytest.mark.parametrize(
    ("measure", "levels"), [("voc07_map", "exact"), ("voc07_map", "numpy"), ("voc10_map", "exact")]
)
def test_weights_equal_copied_images(measure, levels):
    images, objects, detections = random_tables(4, images=8)
    rng = np.random.default_rng(0)
    detections["score"] = rng.permutation(len(detections)) / len(detections)  # no ties: their order is by name of image
    inputs = Inputs.of(images, objects, detections, ["a", "b", "c"])
    weights = bootstrap.sample(8, 12, seed=2)
    values = bootstrap.means(Outcomes.of(inputs), weights, measure=measure, levels=levels)
    for row, value in zip(weights, values, strict=True):
        results = evaluate(Inputs.of(*copied(images, objects, detections, row), ["a", "b", "c"]), levels=levels)
        expected = mean([result.ap11 if measure == "voc07_map" else result.ap_area for result in results])
        assert value == pytest.approx(expected)


def test_once_each_is_the_evaluators_figure():
    images, objects, detections = random_tables(9, images=25)
    inputs = Inputs.of(images, objects, detections, ["a", "b", "c"])
    alone, pairs = bootstrap.compare({"x": Outcomes.of(inputs), "y": Outcomes.of(inputs)}, resamples=50, seed=0)
    assert alone["x"].value == pytest.approx(mean([result.ap_area for result in evaluate(inputs)]))
    assert alone["x"].low < alone["x"].value < alone["x"].high
    # A method against itself: no difference in any resample, which unpaired resamples would not give.
    assert (pairs[0].difference.value, pairs[0].difference.low, pairs[0].difference.high) == (0, 0, 0)
    assert not pairs[0].significant


def test_a_clear_difference_is_significant_and_signed():
    good, bad = one_class(*[True] * 12), one_class(*[True] * 4, *[None] * 8)
    alone, (pair,) = bootstrap.compare({"bad": bad, "good": good}, resamples=300, seed=0)
    assert (pair.first, pair.second, pair.significant) == ("bad", "good", True)
    assert pair.difference.value == pytest.approx(-8 / 12)
    assert pair.difference.low <= pair.difference.value <= pair.difference.high < 0
    assert pair.difference.above == 0


def test_the_same_seed_gives_the_same_interval():
    images, objects, detections = random_tables(9, images=25)
    inputs = Outcomes.of(Inputs.of(images, objects, detections, ["a", "b", "c"]))
    weights = bootstrap.sample(25, 40, 7)
    assert (weights.sum(axis=1) == 25).all()
    whole = bootstrap.means(inputs, weights)
    assert np.array_equal(bootstrap.means(inputs, bootstrap.sample(25, 40, 7)), whole)
    assert not np.allclose(bootstrap.means(inputs, bootstrap.sample(25, 40, 8)), whole)


def test_no_objects_no_claim():
    inputs = Inputs.of(images_table("a", "b"), objects_table(), detections_table(("a", "k", BOX, 0.5)), ["k"])
    alone, _ = bootstrap.compare({"x": Outcomes.of(inputs)}, resamples=5, seed=0)
    assert alone["x"] == bootstrap.Interval(None, None, None, None)
    assert bootstrap.compare({}, 5, 0) == ({}, [])


def test_different_images_cannot_be_paired():
    with pytest.raises(ValueError, match="different images"):
        bootstrap.compare({"a": one_class(True), "b": one_class(True, True)}, 5, 0)


def test_levels_of_the_eleven_points():
    inputs = one_class(*[True] * 3, *[None] * 7)
    for levels, reached in (("exact", 4), ("numpy", 3)):
        alone, _ = bootstrap.compare({"a": inputs}, resamples=5, seed=0, measure="voc07_map", levels=levels)
        assert alone["a"].value == pytest.approx(reached / 11)


def noisy(seed, found=0.7, images=40):
    """A run whose mistakes fall on other images than another seed's."""
    return one_class(*(np.random.default_rng(seed).random(images) < found))


def test_several_seeds_take_the_mean_of_the_runs_and_pairs_take_the_seeds_that_both_have():
    runs = {seed: noisy(seed) for seed in (3, 4, 5)}
    better = {seed: noisy(seed, 0.97) for seed in (3, 4, 5, 6)}
    few = {seed: noisy(seed + 50) for seed in (3, 4)}
    here = {"a": runs[3], "b": better[3], "c": few[3]}
    alone, pairs = bootstrap.compare(here, 400, 0, repeated={"a": runs, "b": better, "c": few})
    weights = np.ones((1, 40), np.int64)
    figure = {seed: float(bootstrap.means(run, weights)[0]) for seed, run in runs.items()}
    assert alone["a"].value == pytest.approx(np.mean(list(figure.values())))
    assert alone["c"].value == pytest.approx(float(bootstrap.means(few[3], weights)[0])), "two runs are too few"
    assert [(pair.first + pair.second, pair.runs) for pair in pairs] == [("ab", 3), ("ac", 1), ("bc", 1)]
    expected = np.mean([figure[seed] - float(bootstrap.means(better[seed], weights)[0]) for seed in (3, 4, 5)])
    assert pairs[0].difference.value == pytest.approx(expected)
    assert pairs[0].significant
    single = bootstrap.compare(here, 400, 0)[0]["a"]
    assert alone["a"].low < alone["a"].value < alone["a"].high
    assert (alone["a"].low, alone["a"].high) != (single.low, single.high)


def test_runs_that_do_not_differ_have_the_interval_of_one():
    run = noisy(1)
    alone, _ = bootstrap.compare({"a": run}, 300, 0, repeated={"a": dict.fromkeys((3, 4, 5), run)})
    single, _ = bootstrap.compare({"a": run}, 300, 0)
    assert (alone["a"].low, alone["a"].high) == (pytest.approx(single["a"].low), pytest.approx(single["a"].high))
