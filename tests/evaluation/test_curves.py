"""Curves for plots say the same as the measured ones."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.evaluation.average_precision import (
    ClassResult,
    area_under,
    eleven_points,
    evaluate,
    precision_recall,
)
from lib.evaluation.curves import class_rows, corners, curve_rows, mean_row, thin
from lib.evaluation.inputs import Inputs
from tests.evaluation.eval_tables import random_tables


def result_of(name, flags, objects):
    recall, precision = precision_recall(np.array(flags, bool), objects)
    ap11, area = eleven_points(recall, precision), area_under(recall, precision)
    return ClassResult(name, objects, len(flags), 0, ap11, area, recall, precision)


def test_corners_by_hand():
    # Recalls .2 .2 .4 .6 .6 .6 .8 .8, precisions 1 1/2 2/3 3/4 3/5 1/2 4/7 1/2.
    result = result_of("k", [1, 0, 1, 1, 0, 0, 1, 0], 5)
    recall, precision = corners(result.recall, result.precision)
    assert recall == pytest.approx([0.2, 0.6, 0.8])
    assert precision == pytest.approx([1, 3 / 4, 4 / 7])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), max_size=60), st.integers(0, 20))
def test_corners_keep_both_averages(flags, missed):
    objects = max(sum(flags) + missed, 1)
    recall, precision = precision_recall(np.array(flags, bool), objects)
    few = corners(recall, precision)
    assert eleven_points(*few) == pytest.approx(eleven_points(recall, precision), abs=1e-12)
    assert area_under(*few) == pytest.approx(area_under(recall, precision), abs=1e-12)
    assert (np.diff(few[0]) > 0).all()
    assert (np.diff(few[1]) < 0).all()


@pytest.mark.parametrize("levels", ["exact", "numpy"])
@pytest.mark.parametrize("points", [24, 50, 200])
def test_thinned_curve_lies_on_the_curve_and_keeps_eleven_points(points, levels):
    # Behind each right detection more wrong ones, so nearly each is a corner, those at recalls of .3, .6 and .7 too.
    flags = np.concatenate([[True, *[False] * (number // 50)] for number in range(970)])
    whole = corners(*precision_recall(flags, 1000))
    few = thin(*whole, points, levels)
    assert len(whole[0]) > 200 >= len(few[0])
    assert len(few[0]) <= points
    assert set(zip(*(side.tolist() for side in few), strict=True)) <= set(
        zip(*(side.tolist() for side in whole), strict=True)
    )
    assert eleven_points(*few, levels) == eleven_points(*whole, levels)
    assert (few[0][0], few[0][-1]) == (whole[0][0], whole[0][-1])
    assert 0 <= area_under(*whole) - area_under(*few) <= 1 / (points - 13)


def test_a_short_curve_is_not_thinned():
    recall, precision = np.array([0.1, 0.7]), np.array([1.0, 0.5])
    assert thin(recall, precision, 24)[0] is recall
    with pytest.raises(ValueError, match="at least 24"):
        thin(recall, precision, 23)


def test_rows_and_the_mean_curve():
    results = [result_of("a", [1, 1], 2), result_of("b", [0, 1], 2), result_of("c", [], 3)]
    nothing = ClassResult("d", 0, 5, 0, None, None, np.empty(0), np.empty(0))
    rows = curve_rows([*results, nothing])
    json.dumps(rows, allow_nan=False)
    by_class = {name: [r for r in rows if r["class"] == name] for name in ("a", "b", "c", "d", "all classes")}
    assert by_class["a"] == [{"class": "a", "recall": 1.0, "precision": 1.0}]
    assert by_class["b"] == [{"class": "b", "recall": 0.5, "precision": 0.5}]
    assert by_class["c"] == by_class["d"] == []
    mean = {row["recall"]: row["precision"] for row in by_class["all classes"]}
    assert len(mean) == 101
    # Up to recall 1/2 the three ceilings are 1, 1/2, 0; beyond it 1, 0, 0.
    assert (mean[0.0], mean[0.5], mean[0.51], mean[1.0]) == pytest.approx((0.5, 0.5, 1 / 3, 1 / 3))
    assert curve_rows([nothing]) == []


def test_mean_of_the_mean_curve_is_coco_like_average_of_ceilings():
    images, objects, detections = random_tables(3, images=20)
    results = evaluate(Inputs.of(images, objects, detections, ["a", "b", "c"]))
    rows = [row["precision"] for row in curve_rows(results) if row["class"] == "all classes"]
    levels = np.arange(101) / 100
    expected = [np.mean([r.precision[r.recall >= t].max(initial=0) for r in results]) for t in levels]
    assert rows == pytest.approx(expected)


def test_class_table():
    results = [
        result_of("a", [1, 0], 2),
        result_of("b", [], 2),
        ClassResult("c", 0, 5, 1, None, None, np.empty(0), np.empty(0)),
    ]
    rows = class_rows(results, {"a": 0.25, "b": 0.0, "c": None})
    assert rows[0] == {
        "class": "a",
        "objects": 2,
        "detections": 2,
        "ignored": 0,
        "recall": 0.5,
        "voc07_ap": 6 / 11,
        "voc10_ap": 0.5,
        "coco_ap": 0.25,
    }
    assert (rows[1]["recall"], rows[1]["voc07_ap"]) == (0.0, 0.0)
    assert [rows[2][key] for key in ("recall", "voc07_ap", "voc10_ap", "coco_ap")] == [None] * 4
    total = mean_row(rows)
    assert (total["objects"], total["detections"], total["ignored"]) == (4, 7, 1)
    assert (total["recall"], total["voc10_ap"], total["coco_ap"]) == (0.25, 0.25, 0.125)
    json.dumps([*rows, total], allow_nan=False)
