"""Boxes that no image holds are refused with image, row and count, whichever way they miss it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.stage.errors import InputError
from lib.storage import bounds, tables

IMAGES = pd.DataFrame({"image_id": ["a.jpg", "b.jpg"], "width": [100, 40], "height": [80, 60]})
GOOD = (0, 0, 40, 60)


def table(*rows):
    frame = pd.DataFrame([(image_id, *box) for image_id, box in rows], columns=["image_id", *tables.BOX])
    return frame.astype(dict.fromkeys(tables.BOX, np.float32))


def kinds(*boxes, images=IMAGES, lines=False, image_id="b.jpg"):
    frame = table(("a.jpg", GOOD), *((image_id, box) for box in boxes))
    return [fault.kind for fault in bounds.faults([frame], images, "t", lines)]


@pytest.mark.parametrize(
    "box",
    [(50, 0, 60, 10), (-20, 0, -5, 10), (0, -9, 10, -2), (0, 61, 10, 70), (0, 0, 41, 60), (-1, 0, 40, 60),
     (0, 0, 40, 61), (0, -1, 40, 60), (39.9, 59.9, 40.02, 60)],
    ids=["right", "left", "above", "below", "a pixel right", "a pixel left", "a pixel below", "a pixel above", "0.02"],
)
def test_a_box_beyond_its_image(box):
    assert kinds(box) == ["box leaves its image"]
    assert kinds(box, images=IMAGES[["image_id"]]) == []  # no sizes, no judgement
    assert kinds(box, image_id="other.jpg") == []


@pytest.mark.parametrize("box", [GOOD, (0, 0, 40.001, 60), (-0.001, 0, 1, 1), (39.5, 59.5, 40, 60)])
def test_a_box_inside_but_for_rounding(box):
    assert kinds(box) == []


def test_boxes_without_area():
    for box in ((5, 5, 5, 9), (5, 5, 9, 5), (7, 7, 7, 7)):
        assert kinds(box) == ["box has no area"]
        assert kinds(box, lines=True) == []
    for box in ((9, 5, 5, 9), (5, 9, 9, 5)):
        assert kinds(box) == ["box has no area"]
        assert kinds(box, lines=True) == ["box is inverted"]
    assert kinds((np.nan, 0, 5, 5), (0, 0, np.inf, 5)) == []  # the fault of a value, not of a box


def test_the_first_row_and_the_number_of_all_over_pieces():
    pieces = [table(("a.jpg", GOOD), ("a.jpg", GOOD)), table(("c.jpg", (0, 0, 999, 9)), ("b.jpg", (0, 0, 99, 9)))]
    fault, = bounds.faults([*pieces, pieces[1]], IMAGES, "t.parquet")
    assert str(fault) == (
        "t.parquet, row 3 (image b.jpg): box 0 0 99 9 leaves its image, 40x60 (2 such rows). Allowed: 0 <= x1, x2 <= "
        "width, 0 <= y1, y2 <= height. Cut the boxes to their images, or scale them if they belong to another size of "
        "the images."
    )
    assert bounds.faults([table()], IMAGES, "t") == []
    assert bounds.faults([table(("a.jpg", GOOD))], IMAGES[:0], "t") == []


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["a.jpg", "b.jpg", "c.jpg"]), st.lists(st.integers(-2, 102), min_size=4,
                                                                                 max_size=4)), max_size=6))
def test_equals_the_rules_written_out(rows):
    sizes = {"a.jpg": (100, 80), "b.jpg": (40, 60)}
    known = [(sizes[image_id], box) for image_id, box in rows if image_id in sizes]
    flat = sum(x2 <= x1 or y2 <= y1 for _, (x1, y1, x2, y2) in known)
    beyond = sum(min(x1, y1) < 0 or x2 > width or y2 > height for (width, height), (x1, y1, x2, y2) in known)
    expected = {"box has no area": flat, "box leaves its image": beyond}
    problems = {fault.kind: fault.problem for fault in bounds.faults([table(*rows)], IMAGES, "t")}
    counts = {kind: int(problem.split("(")[1].split()[0]) for kind, problem in problems.items()}
    assert counts == {kind: count for kind, count in expected.items() if count}


def test_a_table_of_proposals_of_any_length(tmp_path):
    path = tmp_path / "p.parquet"
    with tables.Writer(path, tables.PROPOSALS) as writer:
        for image_id, box in (("a.jpg", GOOD), ("b.jpg", GOOD), ("b.jpg", (0, 0, 5, 61))):
            writer.append(table((image_id, box)).assign(score=np.float32(1)))
    with pytest.raises(InputError, match=r"p.parquet, row 2 \(image b.jpg\): box 0 0 5 61 leaves its image, 40x60"):
        bounds.check(path, IMAGES)
    bounds.check(path, IMAGES[:1])
    frame = table(("a.jpg", GOOD), ("b.jpg", (0, 0, np.nan, 9))).assign(score=1.0)
    frame.set_index("image_id").to_parquet(path)
    with pytest.raises(InputError, match="row group 0, column x2, row 1"):
        bounds.check(path, IMAGES)
