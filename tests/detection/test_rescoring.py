import numpy as np
import pandas as pd
import pytest

from lib.detection.rescoring import Rescore, rescored
from lib.storage import tables

SETTINGS = Rescore(overlap=0.5, weight=1.0)


def table(*rows):
    """Rows of class, box, score, of one image."""
    made = pd.DataFrame([("i", name, *box, score) for name, box, score in rows], columns=tables.DETECTIONS.names)
    return made.astype({name: np.float32 for name in tables.DETECTIONS.names if name not in ("image_id", "class")})


def scores(detections, others, **changes):
    return rescored(detections, others, SETTINGS.model_copy(update=changes))["score"].tolist()


BOX, NEAR = (0, 0, 100, 100), (0, 0, 100, 80)  # IoU 0.8


def test_by_hand():
    """0.5 gains 0.9 · 0.8 of the 0.5 that it lacks."""
    made = scores(table(("a", BOX, 0.5)), table(("a", NEAR, 0.9)))
    assert made == pytest.approx([0.5 + 0.5 * 0.72])
    assert scores(table(("a", BOX, 0.5)), table(("a", NEAR, 0.9)), weight=0.5) == pytest.approx([0.68])
    assert scores(table(("a", BOX, 0.5)), table(("a", NEAR, 0.9)), weight=0.0) == [0.5]


def test_nothing_confirms():
    """Another class, an IoU below the minimum, no detection at all: the score stays."""
    detections = table(("a", BOX, 0.5))
    for others in (table(("b", BOX, 0.9)), table(("a", (0, 0, 100, 49), 0.9)), table()):
        assert scores(detections, others) == [0.5]
    assert scores(detections, table(("a", (0, 0, 100, 50), 0.9))) == pytest.approx([0.5 + 0.5 * 0.45])
    assert scores(detections, table(("a", NEAR, 0.9)), overlap=0.81) == [0.5]


def test_the_best_of_several_counts_and_scores_stay_below_1():
    """A probability of the other detector may be above 1 (YOLO's outputs are linear)."""
    others = table(("a", NEAR, 0.2), ("a", BOX, 0.6), ("a", NEAR, 0.7))
    assert scores(table(("a", BOX, 0.5)), others) == pytest.approx([0.5 + 0.5 * 0.6])
    assert scores(table(("a", BOX, 0.5)), table(("a", BOX, 1.4))) == [1.0]


def test_the_order_follows_and_ties_keep_theirs():
    detections = table(("a", BOX, 0.9), ("b", BOX, 0.6), ("a", (200, 0, 300, 100), 0.6))
    made = rescored(detections, table(("a", (200, 0, 300, 100), 0.95)), SETTINGS)
    assert made["class"].tolist() == ["a", "a", "b"]
    assert made["score"].tolist() == pytest.approx([0.98, 0.9, 0.6])
    assert made["x1"].tolist() == [200, 0, 0]
    unchanged = rescored(detections, table(), SETTINGS)
    pd.testing.assert_frame_equal(unchanged, detections.astype({"score": np.float32}))


def test_the_table_itself_is_left_alone():
    """Scores of float64 would be a view of the table's column: written through, or read-only."""
    detections = table(("a", BOX, 0.5)).astype({"score": np.float64})
    kept = detections.copy()
    for _ in range(2):
        assert scores(detections, table(("a", NEAR, 0.9))) == pytest.approx([0.86])
    pd.testing.assert_frame_equal(detections, kept)


def slow_twin(detections, others, settings):
    made = []
    for row in detections.itertuples():
        gain = 0.0
        for other in others.itertuples():
            width = min(row.x2, other.x2) - max(row.x1, other.x1)
            height = min(row.y2, other.y2) - max(row.y1, other.y1)
            shared = max(width, 0) * max(height, 0)
            areas = [(box.x2 - box.x1) * (box.y2 - box.y1) for box in (row, other)]
            overlap = shared / (sum(areas) - shared)
            if row[2] == other[2] and overlap >= settings.overlap:
                gain = max(gain, settings.weight * min(max(other.score, 0), 1) * overlap)
        made.append(row.score + (1 - row.score) * gain)
    return sorted(made, reverse=True)


def test_equals_the_slow_twin():
    random = np.random.default_rng(0)

    def drawn(count):
        corners = random.integers(0, 40, (count, 2))
        boxes = np.hstack([corners, corners + random.integers(15, 60, (count, 2))])
        return table(*((str(random.integers(2)), box, float(random.random())) for box in boxes.tolist()))

    changed = 0
    for _ in range(10):
        detections, others, settings = drawn(12), drawn(9), Rescore(overlap=0.4, weight=0.8)
        made = rescored(detections, others, settings)
        assert made["score"].tolist() == pytest.approx(slow_twin(detections, others, settings), abs=1e-6)
        changed += (np.sort(made["score"]) != np.sort(detections["score"].astype(np.float32))).sum()
    assert changed > 20
