"""Refused tables: every fault at once, each with the value and its place."""

import numpy as np
import pandas as pd
import pytest

from lib.evaluation.inputs import Inputs
from lib.stage.errors import InputError
from tests.evaluation.eval_tables import detections_table, images_table, objects_table

BOX = (10, 10, 30, 30)
IMAGES = images_table("a.jpg", "b.jpg")
OBJECTS = objects_table(("a.jpg", "cat", BOX))


def refuse(detections, images=IMAGES, objects=OBJECTS, classes=("cat", "dog")):
    with pytest.raises(InputError) as caught:
        Inputs.of(images, objects, detections, list(classes))
    return caught.value


def test_all_faults_are_reported_at_once():
    error = refuse(
        detections_table(
            ("a.jpg", "cat", BOX, np.nan),
            ("a.jpg", "cta", BOX, 0.5),
            ("c.jpg", "cat", BOX, 0.5),
            ("b.jpg", "cat", (30, 10, 30, 30), 0.5),
            ("b.jpg", "cat", (30, 10, 20, 30), 0.5),
            ("b.jpg", "cat", (0, 10, np.inf, 30), 0.5),
        )
    )
    text = str(error)
    assert len(error.faults) == 5
    for part in (
        "column score, row 0",
        "column x2, row 5",
        "class 'cta' (1 rows) is not in the class list",
        "Did you mean cat?",
        "image 'c.jpg' (1 rows) is not in the split",
        "row 3 (image b.jpg): box 30 10 30 30 has no area (2 such rows)",
    ):
        assert part in text


def test_missing_column_and_wrong_type():
    error = refuse(pd.DataFrame({"image_id": ["a.jpg"], "label": ["cat"], "score": ["high"]}))
    missing = {fault.problem for fault in error.faults if fault.kind == "missing column"}
    assert {f"there is no column {name}" for name in ("class", "x1", "y1", "x2", "y2")} == missing
    error = refuse(detections_table(("a.jpg", "cat", BOX, "high")))
    assert [fault.kind for fault in error.faults] == ["wrong type"]
    assert "column score" in str(error)


def test_object_of_an_unknown_class_in_this_split_only():
    elsewhere = objects_table(("other.jpg", "cow", BOX), ("a.jpg", "cat", BOX))
    assert len(Inputs.of(IMAGES, elsewhere, detections_table(), ["cat"]).objects) == 1
    error = refuse(detections_table(), objects=objects_table(("a.jpg", "cow", BOX)))
    assert "objects: class 'cow' (1 rows)" in str(error)


def test_repeated_image_and_class():
    error = refuse(detections_table(), images=images_table("a.jpg", "a.jpg"), classes=("cat", "cat"))
    assert "'a.jpg' stands 2 times" in str(error)
    assert "'cat' stands 2 times" in str(error)
