import json

import numpy as np
import pandas as pd
import pytest

from lib.proposals.recall import Recall, best_overlaps, few
from lib.storage import tables
from lib.storage.by_image import ByImage


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def test_best_overlap_by_hand():
    """Objects of 10 x 10; boxes: half of the first (1/2), the first itself (1), a third of the second (1/3)."""
    objects = boxes([0, 0, 10, 10], [20, 0, 30, 10])
    ranked = boxes([0, 0, 10, 5], [25, 0, 35, 10], [0, 0, 10, 10])
    found = best_overlaps(ranked, objects, first=(1, 2, 5))
    np.testing.assert_allclose(found, [[1 / 2, 0], [1 / 2, 1 / 3], [1, 1 / 3], [1, 1 / 3]])


def test_figures_by_hand():
    recall = Recall(first=(1, 2))
    recall.add(boxes([0, 0, 10, 5], [0, 0, 10, 8]), boxes([0, 0, 10, 10], [50, 50, 60, 60]), ["cat", "dog"])
    recall.add(boxes([0, 0, 4, 6]), boxes([0, 0, 4, 4]), ["cat"])
    found = recall.metrics()
    best = [0.8, 0, 16 / 24]
    assert found["abo"] == pytest.approx(np.mean(best))
    assert found["mabo"] == pytest.approx((np.mean([0.8, 16 / 24]) + 0) / 2)
    assert found["recall_50"] == pytest.approx(2 / 3)
    assert found["recall_70"] == pytest.approx(1 / 3)
    assert found["boxes_per_image"] == 1.5
    assert (found["images"], found["objects"]) == (2, 3)
    assert found["per_class"]["dog"] == {"recall_50": 0, "recall_70": 0, "abo": 0, "objects": 1}
    rows = recall.against_boxes()
    assert [row["boxes"] for row in rows] == [1, 2]
    assert rows[0]["abo"] == pytest.approx(np.mean([0.5, 0, 16 / 24]))
    assert rows[0]["recall_50"] == pytest.approx(2 / 3)
    assert rows[1]["abo"] == found["abo"]
    curve = recall.against_iou([0.5, 0.8, 0.81, 1])
    assert [row["recall"] for row in curve] == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert json.dumps([found, rows, curve, recall.against_iou()], allow_nan=False)


def test_overlap_of_exactly_the_threshold_counts():
    recall = Recall(first=())
    recall.add(boxes([0, 0, 10, 5]), boxes([0, 0, 10, 10]), ["a"])
    assert recall.metrics()["recall_50"] == 1


def test_difficult_objects_are_left_out_unless_asked_for():
    for difficult, expected in ((False, 1), (True, 0.5)):
        recall = Recall(difficult=difficult)
        recall.add(boxes([0, 0, 9, 9]), boxes([0, 0, 9, 9], [20, 20, 30, 30]), ["a", "a"], [False, True])
        assert recall.metrics()["abo"] == expected
        assert recall.metrics()["objects"] == 1 + difficult


def test_nothing_counted_is_none():
    recall = Recall(first=(10,))
    found = recall.metrics()
    assert (found["recall_50"], found["abo"], found["mabo"], found["boxes_per_image"]) == (None,) * 4
    recall.add(boxes(), boxes(), [])
    assert recall.metrics()["boxes_per_image"] == 0
    assert recall.metrics()["recall_70"] is None
    recall.add(boxes(), boxes([0, 0, 5, 5]), ["a"])
    assert recall.metrics()["recall_50"] == 0
    assert recall.against_boxes() == [{"boxes": 10, "recall_50": 0, "recall_70": 0, "abo": 0}]


def test_curves_agree_with_a_loop_over_prefixes():
    random = np.random.default_rng(0)
    corner = random.integers(0, 80, (60, 2))
    ranked = np.concatenate([corner, corner + random.integers(1, 30, (60, 2))], 1).astype(np.float32)
    objects = ranked[random.permutation(60)[:9]] + random.integers(-2, 3, (9, 4)).astype(np.float32) * 0.5
    recall = Recall(first=(1, 3, 10, 59, 60, 100))
    recall.add(ranked, objects, ["a"] * 9)
    for row in recall.against_boxes():
        alone = Recall(first=())
        alone.add(ranked[: row["boxes"]], objects, ["a"] * 9)
        assert row["abo"] == pytest.approx(alone.metrics()["abo"])
        assert row["recall_70"] == alone.metrics()["recall_70"]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="ascending"):
        Recall(first=(10, 5))
    with pytest.raises(ValueError, match="2 objects, 1 classes"):
        Recall().add(boxes(), boxes([0, 0, 1, 1], [0, 0, 2, 2]), ["a"])


def test_images_with_few_boxes_are_named(tmp_path):
    """Case 26: 49 boxes are few, 50 are not, and an image without a row has none."""
    counts = {"a": 49, "b": 50, "c": 1}
    rows = [(name, 0, 0, 4, 4, 0) for name, count in counts.items() for _ in range(count)]
    tables.write(tmp_path / "p.parquet", pd.DataFrame(rows, columns=tables.PROPOSALS.names), tables.PROPOSALS)
    table = ByImage(tmp_path / "p.parquet", tables.PROPOSALS)
    assert few(table, ["a", "b", "c", "d"]) == "note: fewer than 50 boxes in 3 images: a (49), c (1), d (0)"
    assert few(table, ["a", "c", "d"], shown=1) == "note: fewer than 50 boxes in 3 images: a (49) and 2 more"
    assert few(table, ["b"]) == ""
    recall = Recall()
    for name in counts:
        recall.add(tables.boxes(table[name]), boxes(), [])
    assert recall.metrics()["images_below_50"] == 2
