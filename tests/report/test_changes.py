"""Objects gained, lost and moved between two sets of detections, one of each."""

import numpy as np
import pytest

from lib.evaluation.inputs import Inputs
from lib.report import drawing
from lib.report.changes import GAINED, LOST, MOVED, changes, picture
from tests.evaluation.eval_tables import detections_table, images_table, objects_table

A, B, C, D = (0, 0, 100, 100), (200, 0, 300, 100), (0, 200, 100, 300), (200, 200, 300, 300)
OBJECTS = [("i", "k", A), ("i", "k", B), ("j", "k", C), ("j", "k", D), ("j", "k", (400, 0, 500, 100), "difficult")]


def make(*boxes, objects=OBJECTS, images=("i", "j")):
    where = {A: "i", B: "i"}
    rows = [(where.get(near, "j"), "k", box, 0.9) for near, box in boxes]
    return Inputs.of(images_table(*images), objects_table(*objects), detections_table(*rows), ["k"])


def test_gained_lost_moved_and_the_rest():
    shifted = (10, 200, 110, 300)  # IoU with C 90 / 110, that is 0.818
    hard = (400, 0, 500, 100)
    first = make((A, A), (C, C), (D, D), (hard, hard))
    second = make((B, B), (C, shifted), (D, (200.5, 200, 300, 300)))
    changed = changes(first, second)
    assert [(change.kind, change.image_id, change.box.tolist()) for change in changed] == [
        (LOST, "i", list(A)), (GAINED, "i", list(B)), (MOVED, "j", list(C))]
    assert changed[2].overlap == pytest.approx(90 / 110)
    assert str(changed[2]) == "moved k at 0 200 100 300, IoU of the two boxes 0.82"
    assert changed[0].second is None
    assert changed[1].first is None
    assert changes(first, second, moved_below=0.8)[-1].kind == GAINED  # 0.818 is not below


def test_nothing_changed():
    assert changes(make((A, A)), make((A, A))) == []


def test_other_data_are_refused():
    with pytest.raises(ValueError, match="not the same"):
        changes(make((A, A)), make((A, A), objects=OBJECTS[:-1]))
    with pytest.raises(ValueError, match="not the same"):
        changes(make((A, A)), make((A, A), images=("i", "j", "k")))


def test_picture_shows_each_side():
    image = np.zeros((310, 310, 3), np.uint8)
    drawn = picture(image, changes(make((A, A)), make((B, B)))[:2])
    assert drawn.shape == (310, 624, 3)
    assert (drawn[:, :310] == drawing.RED).all(axis=2).any()
    assert not (drawn[:, :310] == drawing.GREEN).all(axis=2).any()
    assert (drawn[:, 314:] == drawing.GREEN).all(axis=2).any()
    assert not (drawn[:, 314:] == drawing.RED).all(axis=2).any()
