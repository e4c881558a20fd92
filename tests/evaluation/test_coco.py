"""COCO evaluation against pycocotools and hand-worked cases."""

import contextlib
import io
import math

import numpy as np
import pytest

from lib.evaluation.coco import CocoResult, evaluate
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
    return evaluate(inputs, **settings)


def pycocotools_stats(images, objects, detections, classes, max_detections=100):
    """The official evaluator, with `ignore` set for difficult objects after it has overwritten that field."""
    cocotools = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    class Evaluator(cocoeval.COCOeval):
        def _prepare(self):
            super()._prepare()
            for rows in self._gts.values():
                for row in rows:
                    row["ignore"] = int(row["iscrowd"] or row["difficult"])

    ids = {image: n for n, image in enumerate(sorted(images["image_id"]), 1)}
    cats = {name: n for n, name in enumerate(classes, 1)}

    def rows(table):
        for n, row in enumerate(table.itertuples(), 1):
            box = [row.x1, row.y1, row.x2 - row.x1, row.y2 - row.y1]
            yield {
                "id": n,
                "image_id": ids[row.image_id],
                "category_id": cats[row[table.columns.get_loc("class") + 1]],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }

    with contextlib.redirect_stdout(io.StringIO()):
        truth, detected = cocotools.COCO(), cocotools.COCO()
        heads = {
            "images": [{"id": n} for n in ids.values()],
            "categories": [{"id": n} for n in cats.values()],
        }
        objects = objects.sort_values(["image_id", "object"])
        gts = [
            {**row, "iscrowd": int(crowd), "difficult": bool(difficult)}
            for row, crowd, difficult in zip(
                rows(objects), objects["crowd"], objects["difficult"], strict=True
            )
        ]
        detections = detections.sort_values(["x1", "y1", "x2", "y2"], kind="stable")
        dts = [
            {**row, "score": score} for row, score in zip(rows(detections), detections["score"], strict=True)
        ]
        for coco, annotations in ((truth, gts), (detected, dts)):
            coco.dataset = {**heads, "annotations": annotations}
            coco.createIndex()
        evaluator = Evaluator(truth, detected, "bbox")
        evaluator.params.maxDets = [max_detections] * 3
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats[:6], evaluator.eval["precision"][:, :, :, 0, -1]


@pytest.mark.parametrize("seed", range(12))
def test_equals_pycocotools(seed):
    images, objects, detections = random_tables(seed, images=10, size=60 + 20 * (seed % 3))
    classes = ["a", "b", "c", "never"]
    result = evaluate(Inputs.of(images, objects, shuffled(detections, seed), classes))
    stats, precision = pycocotools_stats(images, objects, detections, classes)
    ours = [result.map, result.map50, result.map75, result.small, result.medium, result.large]
    assert [-1 if value is None else value for value in ours] == pytest.approx(stats.tolist(), abs=1e-9)
    for k, name in enumerate(classes):
        expected = precision[:, :, k]
        if (expected < 0).all():
            assert result.classes[name] is None
        else:
            assert result.classes[name] == pytest.approx(expected.mean(), abs=1e-9)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_limit_of_detections_equals_pycocotools(limit):
    images, objects, detections = random_tables(77, images=8)
    result = evaluate(Inputs.of(images, objects, detections, ["a", "b", "c"]), limit)
    _, precision = pycocotools_stats(images, objects, detections, ["a", "b", "c"], 100)
    _, limited = pycocotools_stats(images, objects, detections, ["a", "b", "c"], limit)
    assert result.map == pytest.approx(limited.mean(), abs=1e-9)
    assert limited.mean() < precision.mean() or limit == 5


@pytest.mark.parametrize("seed", range(6))
def test_order_of_rows_changes_nothing(seed):
    images, objects, detections = random_tables(seed)
    results = {
        repr(
            evaluate(Inputs.of(*(shuffled(t, order) for t in (images, objects, detections)), ["a", "b", "c"]))
        )
        for order in range(4)
    }
    assert len(results) == 1


def test_duplicate_101_points():
    # Recall up to 1/2 (51 of 101 points) at precision 1, the rest at 2/3; the same at every IoU threshold.
    objects = [("i", "k", BOX), ("i", "k", (60, 60, 80, 80))]
    detections = [("i", "k", BOX, 0.9), ("i", "k", BOX, 0.8), ("i", "k", (60, 60, 80, 80), 0.7)]
    result = score_one(objects, detections)
    assert result.map50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert result.map == pytest.approx(0.835, abs=5e-4)


def test_nothing_detected_is_zero_where_there_are_objects():
    result = score_one([("i", "k", BOX)], [], classes=("k", "other"))
    assert result == CocoResult(0.0, 0.0, 0.0, 0.0, None, None, {"k": 0.0, "other": None})


@pytest.mark.parametrize("objects", [[], [("i", "k", BOX, "difficult")], [("i", "k", BOX, "crowd")]])
def test_nothing_to_find_is_none(objects):
    assert score_one(objects, [("i", "k", BOX, 0.9)]) == CocoResult(classes={"k": None})


def test_no_images_at_all():
    assert score_one([], [], images=()) == CocoResult(classes={"k": None})


def test_class_without_objects_stays_out_of_the_mean():
    result = score_one([("i", "a", BOX)], [("i", "a", BOX, 0.5), ("i", "b", BOX, 0.99)], classes=("a", "b"))
    assert result.map == 1.0
    assert result.classes == {"a": 1.0, "b": None}


def test_difficult_excuses_one_detection_by_ordinary_overlap():
    hard = (60, 60, 80, 80)
    objects = [("i", "k", BOX), ("i", "k", hard, "difficult")]
    hit = ("i", "k", BOX, 0.8)
    assert score_one(objects, [hit]).map == 1.0
    assert score_one(objects, [("i", "k", hard, 0.9), hit]).map == 1.0
    assert score_one(objects[:1], [("i", "k", hard, 0.9), hit]).map == pytest.approx(0.5)
    # A small box inside the difficult one: wholly covered, as a crowd region would excuse it, but of IoU 1/4.
    assert score_one(objects, [("i", "k", (60, 60, 70, 70), 0.9), hit]).map == pytest.approx(0.5)
    # The second one on the same difficult object is wrong here, unlike in VOC.
    assert score_one(objects, [("i", "k", hard, 0.9), ("i", "k", hard, 0.85), hit]).map == pytest.approx(
        0.5
    )


def test_crowd_region_excuses_all_that_it_covers():
    # COCO's x y w h: object 10 10 20 20, crowd 50 50 50 50, two detections inside the crowd.
    crowd = (50, 50, 100, 100)
    detections = [("i", "k", (55, 55, 75, 75), 0.95), ("i", "k", (70, 70, 90, 95), 0.94), ("i", "k", BOX, 0.9)]
    assert score_one([("i", "k", BOX), ("i", "k", crowd, "crowd")], detections).map == 1.0
    # Taken for an object: recall 1/2 (51 points) at precision 1/3.
    assert score_one([("i", "k", BOX), ("i", "k", crowd)], detections).map == pytest.approx(51 / 3 / 101)
    assert pytest.approx(0.1683, abs=5e-5) == 51 / 3 / 101


def test_rank_101_does_not_count():
    alarms = [("i", "k", (100, 100, 110 + n, 110), 0.9) for n in range(100)]
    detections = [*alarms, ("i", "k", BOX, 0.1)]
    assert score_one([("i", "k", BOX)], detections).map == 0.0
    assert score_one([("i", "k", BOX)], detections, max_detections=101).map == pytest.approx(1 / 101)


def test_iou_of_one_half_counts_at_050_only():
    result = score_one([("i", "k", (0, 0, 6, 6))], [("i", "k", (2, 0, 8, 6), 0.9)])
    assert (result.map50, result.map75) == (1.0, 0.0)
    assert result.map == pytest.approx(0.1)


def test_sizes_are_box_areas():
    sides = {"small": 31, "medium": 60, "large": 97}
    for size, side in sides.items():
        result = score_one([("i", "k", (0, 0, side, side))], [("i", "k", (0, 0, side, side), 0.9)])
        assert {s: getattr(result, s) for s in sides} == {s: 1.0 if s == size else None for s in sides}


def test_object_without_area_is_not_counted():
    detections = [("i", "k", BOX, 0.9)]
    assert score_one([("i", "k", BOX), ("i", "k", (10, 10, 10, 30))], detections).map == 1.0


def test_never_minus_one_nor_nan():
    for seed in range(8):
        images, objects, detections = random_tables(seed, images=2)
        result = evaluate(Inputs.of(images, objects, detections, ["a", "b", "c", "d"]))
        values = [result.map, result.map50, result.map75, result.small, result.medium, result.large]
        for value in [*values, *result.classes.values()]:
            assert value is None or (
                0 <= value <= 1 and not math.isnan(value) and not isinstance(value, np.generic)
            )
