"""Matches beyond what the averages show: which object, which overlap, which outcome."""

import pytest

from lib.evaluation.inputs import Inputs
from lib.evaluation.matching import IGNORED, RIGHT, WRONG, match
from tests.evaluation.eval_tables import detections_table, images_table, objects_table


def test_outcome_object_and_overlap_of_each_detection():
    inputs = Inputs.of(
        images_table("i", "j"),
        objects_table(
            ("i", "k", (0, 0, 10, 10)), ("i", "k", (40, 0, 50, 10), "difficult"), ("j", "m", (0, 0, 9, 9))
        ),
        detections_table(
            ("i", "k", (0, 0, 10, 8), 0.2),
            ("i", "k", (0, 0, 10, 10), 0.9),
            ("i", "k", (40, 0, 50, 10), 0.8),
            ("i", "k", (45, 0, 60, 10), 0.7),
            ("j", "k", (0, 0, 9, 9), 0.6),
        ),
        ["k", "m"],
    )
    matches = match(inputs)
    order = inputs.detections.in_table_order
    assert order(matches.outcome).tolist() == [WRONG, RIGHT, IGNORED, WRONG, WRONG]
    assert order(matches.best).tolist() == [0, 0, 1, 1, -1]
    assert order(matches.overlap) == pytest.approx([0.8, 1, 1, 0.25, 0])
    lower = match(inputs, iou_threshold=0.25)
    assert order(lower.outcome).tolist() == [WRONG, RIGHT, IGNORED, IGNORED, WRONG]
    assert order(match(inputs, 0.25, strict=True).outcome).tolist() == [WRONG, RIGHT, IGNORED, WRONG, WRONG]


def test_equal_overlap_goes_to_the_lower_object_number():
    twins = [("i", "k", (0, 0, 10, 10), "difficult"), ("i", "k", (0, 0, 10, 10))]
    for objects, outcome in ((twins, IGNORED), (twins[::-1], RIGHT)):
        inputs = Inputs.of(
            images_table("i"),
            objects_table(*objects),
            detections_table(("i", "k", (0, 0, 10, 10), 0.9)),
            ["k"],
        )
        assert match(inputs).outcome.tolist() == [outcome]


def test_object_number_decides_and_not_the_place_of_its_row():
    objects = objects_table(("i", "k", (0, 0, 10, 10), "difficult"), ("i", "k", (0, 0, 10, 10)))
    detections = detections_table(("i", "k", (0, 0, 10, 10), 0.9))
    for rows in (objects, objects.iloc[::-1]):
        assert match(Inputs.of(images_table("i"), rows, detections, ["k"])).outcome.tolist() == [IGNORED]
