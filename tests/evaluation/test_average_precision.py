"""VOC evaluation against hand-worked fractions and a twin written straight from the devkit's rules."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.boxes.boxes import from_voc, to_voc
from lib.evaluation.average_precision import LEVELS, area_under, eleven_points, evaluate, mean, precision_recall
from lib.evaluation.inputs import Inputs
from tests.evaluation.eval_tables import (
    detections_table,
    images_table,
    objects_table,
    random_tables,
    shuffled,
)

BOX = (10, 10, 30, 30)


def score_one(objects, detections, images=("i",), classes=("k",), **settings):
    inputs = Inputs.of(
        images_table(*images), objects_table(*objects), detections_table(*detections), list(classes)
    )
    return evaluate(inputs, **settings)[0]


def test_eight_flags_five_objects():
    # Precisions at the hits 1, 2/3, 3/4, 4/7 at recalls .2 .4 .6 .8; ceilings 1, 3/4, 3/4, 4/7.
    recall, precision = precision_recall(np.array([1, 0, 1, 1, 0, 0, 1, 0], bool), 5)
    assert eleven_points(recall, precision) == pytest.approx((3 * 1 + 4 * 3 / 4 + 2 * 4 / 7) / 11)
    assert eleven_points(recall, precision) == pytest.approx(0.649351, abs=5e-7)
    assert area_under(recall, precision) == pytest.approx(0.2 * (1 + 3 / 4 + 3 / 4 + 4 / 7))
    assert area_under(recall, precision) == pytest.approx(0.614286, abs=5e-7)


@pytest.mark.parametrize(
    ("found", "objects", "levels"), [(3, 10, 4), (6, 10, 7), (7, 10, 8), (1, 3, 4), (21, 30, 8)]
)
def test_recall_exactly_on_a_level_reaches_it(found, objects, levels):
    # 3 of 10 reach 0, .1, .2 and .3: four levels. 0.1 * 3 is a little more than 0.3 and would miss one.
    recall, precision = precision_recall(np.ones(found, bool), objects)
    assert eleven_points(recall, precision) == pytest.approx(levels / 11)


# Recall and precision after each detection; at which level the recall lands; AP at the exact levels and at numpy's.
ON_A_LEVEL = [
    # 3 of 10 found, all right: 0, .1, .2 and .3 are reached, numpy's .3 is not.
    ([1, 1, 1], 10, 4 / 11, 3 / 11),
    # 6 of 10: numpy's .6 is missed; its .3 is reached by the recall of .4 behind it.
    ([1] * 6, 10, 7 / 11, 6 / 11),
    # 7 of 10: likewise .7.
    ([1] * 7, 10, 8 / 11, 7 / 11),
    # 4 of 10: .4 is the same number in both.
    ([1] * 4, 10, 5 / 11, 5 / 11),
    # 3 of 10 right, then one wrong before the fourth: precision at .3 is 1, at .4 only 4/5.
    ([1, 1, 1, 0, 1], 10, (4 * 1 + 4 / 5) / 11, (3 * 1 + 2 * 4 / 5) / 11),
    # Drops behind .3, .6 and .7 at once: ceilings 1, 6/7, 7/9 and 8/11; numpy reads each a step too late.
    ([1, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1], 10, (4 * 1 + 3 * 6 / 7 + 7 / 9 + 8 / 11) / 11,
     (3 * 1 + 3 * 6 / 7 + 7 / 9 + 2 * 8 / 11) / 11),
]


@pytest.mark.parametrize(("right", "objects", "exact", "numpy"), ON_A_LEVEL)
def test_a_recall_on_a_level_by_hand(right, objects, exact, numpy):
    recall, precision = precision_recall(np.array(right, bool), objects)
    assert eleven_points(recall, precision) == eleven_points(recall, precision, "exact") == pytest.approx(exact)
    assert eleven_points(recall, precision, "numpy") == pytest.approx(numpy)


def test_levels_of_numpy_are_those_of_python_code():
    tenths = [t / 10 for t in range(11)]
    assert LEVELS["exact"].tolist() == tenths
    assert LEVELS["numpy"].tolist() == np.arange(0.0, 1.1, 0.1).tolist() == [t * 0.1 for t in range(11)]
    larger = [t for t, tenth in enumerate(tenths) if LEVELS["numpy"][t] != tenth]
    assert larger == [3, 6, 7]
    assert all(LEVELS["numpy"][t] == math.nextafter(t / 10, 1) for t in larger)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 20))
def test_levels_equal_the_loop_of_python_code_and_differ_by_an_eleventh_at_most(flags, missed):
    objects = max(sum(flags) + missed, 1)
    recall, precision = precision_recall(np.array(flags, bool), objects)
    average = 0.0
    for level in np.arange(0.0, 1.1, 0.1):
        average += (np.max(precision[recall >= level]) if np.sum(recall >= level) else 0) / 11
    assert eleven_points(recall, precision, "numpy") == pytest.approx(average, abs=1e-12)
    assert 0 <= eleven_points(recall, precision) - eleven_points(recall, precision, "numpy") <= 1 / 11 + 1e-12


def test_levels_reach_the_classes():
    objects = [("i", "k", (30 * n, 0, 30 * n + 20, 20)) for n in range(10)]
    detections = [("i", "k", box, 0.9 - 0.1 * n) for n, (_, _, box) in enumerate(objects[:3])]
    assert score_one(objects, detections).ap11 == pytest.approx(4 / 11)
    assert score_one(objects, detections, levels="numpy").ap11 == pytest.approx(3 / 11)


def test_nothing_detected_is_zero():
    result = score_one([("i", "k", BOX)], [])
    assert (result.ap11, result.ap_area, result.objects, result.detections) == (0.0, 0.0, 1, 0)


def test_class_without_objects_has_no_value_and_stays_out_of_the_mean():
    inputs = Inputs.of(
        images_table("i"),
        objects_table(("i", "a", BOX), ("i", "c", BOX, "difficult")),
        detections_table(("i", "a", BOX, 0.5), ("i", "b", BOX, 0.99), ("i", "b", BOX, 0.98)),
        ["a", "b", "c"],
    )
    a, b, c = evaluate(inputs)
    assert (a.ap11, a.ap_area) == (1.0, 1.0)
    assert (b.ap11, b.ap_area, b.objects, b.detections) == (None, None, 0, 2)
    assert (c.ap11, c.ap_area, c.objects) == (None, None, 0)  # only a difficult one
    assert len(b.recall) == len(b.precision) == 0
    assert mean([r.ap11 for r in (a, b, c)]) == 1.0
    assert mean([b.ap11, c.ap11]) is None
    assert mean([]) is None
    assert mean([0.0, None, 0.5]) == 0.25


def test_iou_of_one_half_matches_and_strict_refuses_it():
    # Inclusive corners 1,1,6,6 and 3,1,8,6: 24 / 48 pixels. Any other reading gives 15/35 or 20/36.
    truth, detected = from_voc([[1, 1, 6, 6], [3, 1, 8, 6]])
    assert score_one([("i", "k", truth)], [("i", "k", detected, 0.9)]).ap_area == 1.0
    assert score_one([("i", "k", truth)], [("i", "k", detected, 0.9)], strict=True).ap_area == 0.0
    narrower = detected + np.array([0.01, 0, 0, 0], np.float32)
    assert score_one([("i", "k", truth)], [("i", "k", narrower, 0.9)]).ap_area == 0.0


def test_difficult_object_is_ignored_any_number_of_times():
    objects = [("i", "k", BOX), ("i", "k", (60, 60, 80, 80), "difficult")]
    twice = [("i", "k", (60, 60, 80, 80), 0.9), ("i", "k", (61, 60, 80, 80), 0.85), ("i", "k", BOX, 0.8)]
    result = score_one(objects, twice)
    assert (result.ap11, result.ap_area, result.objects, result.ignored) == (1.0, 1.0, 1, 2)
    assert not np.isnan(result.precision).any()  # the devkit's first precision is 0/0 here
    assert score_one(objects[:1], [twice[0], twice[2]]).ap_area == 0.5  # as if it were not annotated
    assert score_one(objects, twice[2:]).ap_area == 1.0  # missing it costs nothing


def test_duplicate_is_wrong():
    # Hits 1, 3 of 3 with 2 objects: ceilings 1 up to recall 1/2, then 2/3.
    objects = [("i", "k", BOX), ("i", "k", (60, 60, 80, 80))]
    detections = [("i", "k", BOX, 0.9), ("i", "k", (11, 10, 30, 30), 0.8), ("i", "k", (60, 60, 80, 80), 0.7)]
    result = score_one(objects, detections)
    assert result.ap_area == pytest.approx((1 + 2 / 3) / 2)
    assert result.ap_area == pytest.approx(0.833333, abs=5e-7)
    assert result.ap11 == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert result.ap11 == pytest.approx(0.848485, abs=5e-7)


def test_the_highest_score_takes_the_object_not_the_highest_overlap():
    looser, tighter = (10, 10, 30, 24), (10, 10, 30, 28)  # IoU .7 and .9
    objects = [("i", "k", BOX), ("i", "k", (60, 60, 80, 80))]
    result = score_one(objects, [("i", "k", tighter, 0.91), ("i", "k", looser, 0.92)])
    assert result.precision.tolist() == [1.0, 0.5]
    assert result.recall.tolist() == [0.5, 0.5]


def test_the_second_best_object_is_never_taken():
    # Both overlap the first object most; the second detection would match the other object too (IoU 0.6).
    objects = [("i", "k", (0, 0, 20, 20)), ("i", "k", (6, 0, 26, 20))]
    detections = [("i", "k", (0, 0, 20, 20), 0.9), ("i", "k", (1, 0, 21, 20), 0.8)]
    assert score_one(objects, detections).recall.tolist() == [0.5, 0.5]


def test_rank_is_not_limited():
    # One hit behind 100 false alarms of one image: 1/101, where COCO would stop at 100.
    alarms = [("i", "k", (100, 100, 110 + n, 110), 0.9) for n in range(100)]
    assert score_one([("i", "k", BOX)], [*alarms, ("i", "k", BOX, 0.1)]).ap_area == pytest.approx(1 / 101)


def test_object_without_area_is_not_counted():
    result = score_one([("i", "k", (10, 10, 10, 30)), ("i", "k", BOX)], [("i", "k", BOX, 0.5)])
    assert (result.objects, result.ap_area) == (1, 1.0)


def test_same_box_in_another_image_or_of_another_class_is_wrong():
    objects = [("i", "k", BOX), ("j", "other", BOX)]
    result = score_one(objects, [("j", "k", BOX, 0.9), ("i", "k", BOX, 0.8)], ("i", "j"), ("k", "other"))
    assert result.precision.tolist() == [0.0, 0.5]


def test_crowd_region_excuses_what_lies_in_it_and_need_not_be_found():
    crowd = (50, 50, 100, 100)
    objects = [("i", "k", (10, 10, 30, 30)), ("i", "k", crowd, "crowd")]
    inside = [("i", "k", (60, 60, 70, 80), 0.95), ("i", "k", (75, 55, 90, 90), 0.94)]
    half, less = ("i", "k", (40, 60, 60, 80), 0.93), ("i", "k", (39, 60, 59, 80), 0.92)
    hit = ("i", "k", BOX, 0.9)
    assert score_one(objects, [*inside, half, hit]).ap_area == 1.0
    assert score_one(objects, [*inside, half, hit]).ignored == 3
    assert score_one(objects, [less, hit]).ap_area == 0.5
    # An object inside the crowd region is still matched to itself.
    both = [("i", "k", (60, 60, 80, 80)), ("i", "k", crowd, "crowd")]
    assert score_one(both, [("i", "k", (60, 60, 80, 80), 0.9)]).ap_area == 1.0


def devkit(images, objects, detections, name):
    """VOCevaldet in plain loops, on 1-based inclusive corners with the + 1 rule: (11-point, area, npos)."""
    truth, npos = {}, 0
    for image in images:
        rows = objects[(objects["image_id"] == image) & (objects["class"] == name)].sort_values("object")
        boxes = to_voc(rows[["x1", "y1", "x2", "y2"]].to_numpy(np.float32))
        truth[image] = (boxes, list(rows["difficult"]), [False] * len(rows))
        npos += sum(not difficult for difficult in rows["difficult"])
    rows = detections[detections["class"] == name]
    ranked = sorted(rows.itertuples(), key=lambda r: (-r.score, r.image_id, r.x1, r.y1, r.x2, r.y2))
    tp, fp = [], []
    for row in ranked:
        (bb,) = to_voc(np.array([[row.x1, row.y1, row.x2, row.y2]], np.float32))
        boxes, difficult, taken = truth[row.image_id]
        ovmax, jmax = -math.inf, -1
        for j, gt in enumerate(boxes):
            iw = min(bb[2], gt[2]) - max(bb[0], gt[0]) + 1
            ih = min(bb[3], gt[3]) - max(bb[1], gt[1]) + 1
            if iw > 0 and ih > 0:
                union = (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1) + (gt[2] - gt[0] + 1) * (gt[3] - gt[1] + 1)
                overlap = iw * ih / (union - iw * ih)
                if overlap > ovmax:
                    ovmax, jmax = overlap, j
        tp.append(0)
        fp.append(0)
        if ovmax < 0.5:
            fp[-1] = 1
        elif not difficult[jmax]:
            if taken[jmax]:
                fp[-1] = 1
            else:
                tp[-1], taken[jmax] = 1, True
    points, ctp, cfp = [], 0, 0
    for right, wrong in zip(tp, fp, strict=True):
        ctp, cfp = ctp + right, cfp + wrong
        points.append((ctp / npos if npos else 0, ctp / (ctp + cfp) if ctp + cfp else -math.inf, ctp))
    ap11 = sum(max([p for _, p, k in points if 10 * k >= t * npos] + [0.0]) for t in range(11)) / 11
    rec = [0.0] + [r for r, _, _ in points] + [1.0]
    prec = [0.0] + [p for _, p, _ in points] + [0.0]
    for i in range(len(prec) - 2, -1, -1):
        prec[i] = max(prec[i], prec[i + 1])
    area = sum((rec[i] - rec[i - 1]) * prec[i] for i in range(1, len(rec)) if rec[i] != rec[i - 1])
    return ap11, area, npos


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_equals_a_twin_of_the_devkit(seed):
    images, objects, detections = random_tables(seed)
    objects = objects[~objects["crowd"]]  # VOC knows no crowd
    classes = ["a", "b", "c"]
    results = evaluate(Inputs.of(images, shuffled(objects, seed), shuffled(detections, seed), classes))
    for result in results:
        ap11, area, npos = devkit(images["image_id"], objects, detections, result.name)
        assert result.objects == npos
        if npos == 0:
            assert result.ap11 is None
            assert result.ap_area is None
        else:
            assert result.ap11 == pytest.approx(ap11, abs=1e-12)
            assert result.ap_area == pytest.approx(area, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_order_of_rows_changes_nothing(seed, order):
    images, objects, detections = random_tables(seed)
    classes = ["a", "b", "c"]
    first = evaluate(Inputs.of(images, objects, detections, classes))
    mixed = (shuffled(table, order + n) for n, table in enumerate((images, objects, detections)))
    second = evaluate(Inputs.of(*mixed, classes))
    for a, b in zip(first, second, strict=True):
        assert (a.ap11, a.ap_area, a.objects, a.ignored) == (b.ap11, b.ap_area, b.objects, b.ignored)
        assert a.recall.tolist() == b.recall.tolist()
        assert a.precision.tolist() == b.precision.tolist()


def test_tie_of_a_hit_and_a_miss_is_broken_by_the_rows_not_by_their_order():
    hit, miss = ("b", "k", BOX, 1.0), ("a", "k", BOX, 1.0)
    objects = [("b", "k", BOX)]
    values = {score_one(objects, rows, ("a", "b")).ap_area for rows in ([hit, miss], [miss, hit])}
    assert values == {0.5}  # image a stands before image b


def test_scores_are_not_rounded():
    # Rounded to three decimals these tie, and the false alarm in image a would come first.
    detections = [("a", "k", BOX, 0.9004), ("b", "k", BOX, 0.90041)]
    assert score_one([("b", "k", BOX)], detections, ("a", "b")).ap_area == 1.0
