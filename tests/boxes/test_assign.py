"""Which object a box belongs to, against each paper's rule written out plainly, and the old formulas of its users."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.boxes import assign as module
from lib.boxes.assign import IGNORED, NEGATIVE, POSITIVE, assign, best_overlaps, nearest
from lib.boxes.boxes import iou

NONE = np.zeros((0, 4), np.float32)
SEEDS = st.integers(0, 10**6)


def slow_iou(a, b):
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high
    return wide * high / union


def slow_assign(boxes, objects, positive, negative, best, strict):
    """Box by box, as the papers word it: (label, object, overlap) of each."""
    table = [[slow_iou(box, thing) for thing in objects] for box in boxes]
    if not objects:
        return [(NEGATIVE, 0, 0.0)] * len(boxes)
    most = [max((row[k] for row in table), default=0) for k in range(len(objects))]
    rows = []
    for row in table:
        top = max(row)
        above = top > positive if strict else top >= positive
        below = top <= negative if strict else top < negative
        tied = best == "ties" and any(row[k] == most[k] > 0 for k in range(len(objects)))
        rows.append((POSITIVE if above or tied else NEGATIVE if below else IGNORED, row.index(top), top))
    free, owed = set(range(len(boxes))), set(range(len(objects)))
    while best == "one" and free and owed:
        overlap, row, k = max((table[row][k], -row, -k) for row in free for k in owed)
        if overlap == 0:
            break
        rows[-row] = (POSITIVE, -k, overlap)
        free.remove(-row)
        owed.remove(-k)
    return rows


def crowd(seed, boxes, objects):
    """Boxes on a coarse grid, so that overlaps tie and many are exactly at 1/2; some twice."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 6, (boxes + objects, 2)) * 4
    both = np.hstack([corners, corners + random.integers(1, 4, (boxes + objects, 2)) * 4]).astype(np.float32)
    return both[:boxes], both[boxes:]


@given(
    SEEDS, st.integers(0, 14), st.integers(0, 6), st.sampled_from([(0.7, 0.3), (0.5, 0.5), (0.5, 0.4), (0.25, 0.25)]),
    st.sampled_from(["none", "ties", "one"]), st.booleans(),
)
def test_equals_the_slow_twin(seed, count, objects, thresholds, best, strict):
    boxes, things = crowd(seed, count, objects)
    result = assign(boxes, things, *thresholds, best, strict)
    assert (result.label.dtype, result.object.dtype, result.overlap.dtype) == (np.int8, np.int64, np.float64)
    expected = slow_assign(boxes.astype(float).tolist(), things.astype(float).tolist(), *thresholds, best, strict)
    assert list(zip(result.label.tolist(), result.object.tolist(), result.overlap.tolist(), strict=True)) == expected


@given(
    SEEDS, st.integers(0, 14), st.integers(0, 6), st.sampled_from(["none", "ties", "one"]), st.integers(1, 60),
)
def test_some_objects_at_a_time_give_what_all_at_once_give(seed, count, objects, best, pairs):
    """Case 120: the table of all pairs of 242,991 anchors and 500 objects would fill the memory."""
    boxes, things = crowd(seed, count, objects)
    expected, overlaps = assign(boxes, things, 0.5, 0.4, best), best_overlaps(boxes, things)
    with mock.patch.object(module, "PAIRS", pairs), mock.patch.object(module, "iou", wraps=iou) as called:
        result = assign(boxes, things, 0.5, 0.4, best)
        np.testing.assert_array_equal(best_overlaps(boxes, things), overlaps)
    for values, others in zip(vars(result).values(), vars(expected).values(), strict=True):
        np.testing.assert_array_equal(values, others)
    assert all(len(boxes) * len(call.args[1]) <= max(pairs, len(boxes)) for call in called.call_args_list)
    np.testing.assert_array_equal(overlaps, iou(boxes, things).max(axis=0, initial=0))


def test_ssd_and_retinanet_differ_on_a_forced_anchor():
    """Case 118: IoU rows GT0 (.70, .45), GT1 (.10, .40): which object the second anchor belongs to."""
    table = np.array([[0.70, 0.10], [0.45, 0.40]])
    boxes, things = np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32)
    things[:, 0] = (0, 1)  # tells the columns apart

    def of_table(boxes, things):
        return table[:, things[:, 0].astype(int)]

    with mock.patch.object(module, "iou", of_table):
        ssd, retinanet = (assign(boxes, things, 0.5, low, best) for low, best in ((0.5, "one"), (0.4, "ties")))
    assert (ssd.label.tolist(), ssd.object.tolist()) == ([1, 1], [0, 1])
    assert (retinanet.label.tolist(), retinanet.object.tolist()) == ([1, 1], [0, 0])


def old_rpn(anchors, objects, positive, negative):
    """As `faster/targets.py` had it."""
    if not len(objects):
        return np.full(len(anchors), NEGATIVE, np.int8), np.zeros(len(anchors), np.int64)
    overlaps = iou(anchors, objects)
    best = overlaps.max(axis=1)
    labels = np.full(len(anchors), IGNORED, np.int8)
    labels[best < negative] = NEGATIVE
    most = overlaps.max(axis=0, initial=0)
    labels[((overlaps == most) & (most > 0)).any(axis=1)] = POSITIVE
    labels[best >= positive] = POSITIVE
    return labels, overlaps.argmax(axis=1)


@given(SEEDS, st.integers(0, 40), st.integers(0, 6), st.booleans())
def test_same_bytes_as_the_formulas_that_it_replaced(seed, count, objects, fine):
    boxes, things = crowd(seed, count, objects)
    if fine:
        random = np.random.default_rng(seed)
        boxes, things = (array + random.normal(0, 1, array.shape).astype(np.float32) for array in (boxes, things))
    result = assign(boxes, things, 0.7, 0.3, best="ties")
    for array, other in zip((result.label, result.object), old_rpn(boxes, things, 0.7, 0.3), strict=True):
        assert array.dtype == other.dtype
        assert array.tobytes() == other.tobytes()
    if not objects:
        return
    pairs = iou(boxes, things)  # fast/targets.py, linear/box_ridge.py, evaluation/matching.py
    best = pairs.argmax(axis=1)
    overlap = pairs[np.arange(len(boxes)), best]
    result = assign(boxes, things, 0.5, 0.5, best="none")
    assert result.object.tobytes() == best.tobytes()
    assert result.overlap.tobytes() == overlap.tobytes()
    np.testing.assert_array_equal(result.label == POSITIVE, overlap >= 0.5)
    strict = assign(boxes, things, 0.5, 0.5, best="none", strict=True)
    rows = np.flatnonzero(pairs.max(axis=1) > 0.5)
    assert np.flatnonzero(strict.label == POSITIVE).tobytes() == rows.tobytes()
    assert strict.object[rows].tobytes() == pairs[rows].argmax(axis=1).tobytes()
    assert [array.tobytes() for array in nearest(boxes, things)] == [best.tobytes(), overlap.tobytes()]


def test_rpn_best_of_an_object_is_positive_below_the_threshold_with_all_its_ties_and_wins_over_negative():
    anchors = np.float32([[0, 0, 10, 10], [20, 0, 30, 10], [0, 40, 10, 50]])
    objects = np.float32([[8, 0, 22, 10]])  # 2 of 14 + 10 - 2 pixels with each of the first two
    assert assign(anchors, objects, 0.7, 0.3, "ties").label.tolist() == [POSITIVE, POSITIVE, NEGATIVE]


def test_rpn_exact_thresholds():
    objects = np.float32([[0, 0, 10, 10], [100, 0, 110, 10]])
    anchors = np.float32([[0, 0, 10, 10], [0, 0, 7, 10], [0, 0, 3, 10], [100, 0, 110, 10], [100, 0, 106, 10]])
    assert assign(anchors, objects, 0.7, 0.3, "ties").label.tolist() == [POSITIVE, POSITIVE, IGNORED, POSITIVE, IGNORED]


@pytest.mark.parametrize("best", ["ties", "one"])
def test_an_object_that_no_box_touches_has_no_best(best):
    """Facts of RetinaNet §13.4, of SSD §12.2: public codes make every anchor positive, or give it prior 0."""
    boxes = np.float32([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    result = assign(boxes, np.float32([[80, 80, 90, 90], [20, 0, 30, 10]]), 0.7, 0.3, best)
    assert result.label.tolist() == [NEGATIVE, POSITIVE, NEGATIVE]
    assert result.object.tolist() == [0, 1, 0]


def test_rpn_object_is_the_nearest_even_where_another_made_the_anchor_positive():
    result = assign(np.float32([[0, 0, 10, 10]]), np.float32([[0, 0, 10, 14], [9, 0, 30, 10]]), 0.7, 0.3, "ties")
    # IoU 0.714 and 0.033, each the largest of its object.
    assert (result.label.tolist(), result.object.tolist()) == ([POSITIVE], [0])


def test_fast_takes_one_half_itself_and_the_first_of_equal_objects():
    objects = np.float32([[0, 0, 10, 10], [0, 0, 10, 10], [0, 10, 10, 20]])
    result = assign(np.float32([[0, 0, 10, 5], [0, 0, 10, 4], [0, 5, 10, 15]]), objects, 0.5, 0.5, "none")
    assert result.label.tolist() == [POSITIVE, NEGATIVE, NEGATIVE]
    assert result.object.tolist() == [0, 0, 0]
    assert result.overlap.tolist() == [0.5, 0.4, 50 / 150]


def test_ssd_paper_takes_only_more_than_one_half():
    """Paper §2.2: "higher than a threshold (0.5)"; the authors' code takes 0.5 too. The rest is negative."""
    boxes, objects = np.float32([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6]]), np.float32([[0, 0, 10, 10]])
    assert assign(boxes, objects, 0.5, 0.5, "one", strict=True).label.tolist() == [POSITIVE, NEGATIVE, POSITIVE]
    assert assign(boxes, objects, 0.5, 0.5, "one").label.tolist() == [POSITIVE, POSITIVE, POSITIVE]


def test_ssd_an_object_that_loses_its_favourite_takes_the_next_box():
    """Facts of SSD §12.1: A has 0.8 with prior 0, B 0.7 with it. Matching by argmax leaves one of them nothing."""
    boxes = np.float32([[0, 0, 10, 10], [0, 8, 10, 30], [50, 0, 60, 10]])
    a, b = [0, 0, 10, 8], [0, 3, 10, 10]
    result = assign(boxes, np.float32([a, b]), 0.5, 0.5, "one")
    assert result.label.tolist() == [POSITIVE, POSITIVE, NEGATIVE]
    assert result.object.tolist() == [0, 1, 0]
    assert result.overlap.tolist() == [0.8, 20 / (220 + 70 - 20), 0]
    ties = assign(boxes, np.float32([a, b]), 0.5, 0.5, "ties")
    assert ties.label.tolist() == [POSITIVE, NEGATIVE, NEGATIVE]  # B has no box of its own


def test_ssd_ties_go_to_the_first_box_then_to_the_first_object():
    same = np.float32([[0, 0, 10, 10]] * 3)
    result = assign(same, same[:2], 1.0, 0.5, "one")
    assert result.object.tolist() == [0, 1, 0]
    result = assign(same[:1], same[:2], 0.5, 0.5, "one")  # two objects, one box
    assert (result.label.tolist(), result.object.tolist()) == ([POSITIVE], [0])


def test_ssd_own_box_belongs_to_its_object_and_not_to_the_nearest():
    # Box 1 is nearer to object 0 (0.8 against 0.2), which prefers box 0; object 1 has no other box.
    boxes, objects = np.float32([[0, 0, 10, 10], [0, 0, 10, 8]]), np.float32([[0, 0, 10, 10], [0, 6, 10, 10]])
    result = assign(boxes, objects, 0.5, 0.5, "one")
    assert (result.object.tolist(), result.label.tolist()) == ([0, 1], [POSITIVE, POSITIVE])
    assert result.overlap.tolist() == [1.0, 20 / (80 + 40 - 20)]


def test_retinanet_ignores_between_its_thresholds():
    """Paper §4: foreground from 0.5, background in [0, 0.4), ignored in [0.4, 0.5); a small object has no box."""
    objects = np.float32([[0, 0, 10, 10], [50, 50, 52, 52]])
    boxes = np.float32([[0, 0, 10, 5], [0, 0, 10, 4.5], [0, 0, 10, 4], [0, 0, 10, 3.9], [45, 45, 55, 55]])
    result = assign(boxes, objects, 0.5, 0.4, "none")
    assert result.label.tolist() == [POSITIVE, IGNORED, IGNORED, NEGATIVE, NEGATIVE]
    assert result.object.tolist() == [0, 0, 0, 0, 1]


def test_no_boxes_and_no_objects():
    box = np.float32([[0, 0, 10, 10]])
    for best in ("none", "ties", "one"):
        result = assign(NONE, box, 0.5, 0.5, best)
        assert len(result.label) == len(result.object) == len(result.overlap) == 0
        result = assign(box, NONE, 0.5, 0.5, best, strict=True)
        assert (result.label.tolist(), result.object.tolist(), result.overlap.tolist()) == ([NEGATIVE], [0], [0])
