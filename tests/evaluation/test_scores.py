"""Headline numbers and the protocol."""

import json

import pytest

from lib.evaluation.average_precision import mean
from lib.evaluation.scores import metrics, protocol, score
from lib.stage.errors import InputError
from lib.storage.tables import write_json
from tests.evaluation.eval_tables import detections_table, images_table, objects_table, random_tables

BOX = (10, 10, 30, 30)
HEADLINES = {"voc07_map", "voc10_map", "coco_map", "coco_map50", "images", "objects"}


def test_metrics_are_plain_and_consistent(tmp_path):
    images, objects, detections = random_tables(5, images=8)
    scores = score(images, objects, detections, ["a", "b", "c", "never"])
    numbers = metrics(scores)
    assert set(numbers) >= HEADLINES
    assert {type(value) for value in numbers.values()} <= {float, int, type(None)}
    assert numbers["voc07_map"] == mean([result.ap11 for result in scores.voc])
    assert numbers["images"] == 8
    assert numbers["objects"] == int((~objects["difficult"] & ~objects["crowd"]).sum())
    write_json(tmp_path / "m.json", numbers)
    assert json.loads((tmp_path / "m.json").read_text()) == numbers


def test_levels_of_the_eleven_points_reach_the_average_and_are_said():
    objects = objects_table(*[("i", "k", (30 * n, 0, 30 * n + 20, 20)) for n in range(10)])
    detections = detections_table(*[("i", "k", (30 * n, 0, 30 * n + 20, 20), 0.9 - 0.1 * n) for n in range(3)])
    tables = images_table("i"), objects, detections, ["k"]
    assert metrics(score(*tables))["voc07_map"] == pytest.approx(4 / 11)
    assert metrics(score(*tables, levels="numpy"))["voc07_map"] == pytest.approx(3 / 11)
    assert "levels of numpy" in "".join(protocol(score(*tables, levels="numpy")))
    assert "levels" not in "".join(protocol(score(*tables)))


def test_nothing_detected_warns_and_is_zero():
    with pytest.warns(UserWarning, match="no detections"):
        scores = score(images_table("i"), objects_table(("i", "k", BOX)), detections_table(), ["k", "m"])
    numbers = metrics(scores)
    assert [numbers[key] for key in ("voc07_map", "voc10_map", "coco_map", "coco_map50")] == [0.0] * 4


def test_nothing_to_find_is_null(tmp_path):
    scores = score(images_table("i"), objects_table(), detections_table(("i", "k", BOX, 0.9)), ["k"])
    numbers = metrics(scores)
    assert {key: value for key, value in numbers.items() if value is not None} == {"images": 1, "objects": 0}
    write_json(tmp_path / "m.json", numbers)
    assert '"voc07_map": null' in (tmp_path / "m.json").read_text()


def test_image_without_objects_counts_its_false_alarms():
    detections = detections_table(("empty", "k", BOX, 0.95), ("i", "k", BOX, 0.9))
    scores = score(images_table("i", "empty"), objects_table(("i", "k", BOX)), detections, ["k"])
    assert metrics(scores)["voc10_map"] == 0.5
    assert metrics(scores)["images"] == 2


def test_detections_of_another_split_are_refused():
    with pytest.raises(InputError, match=r"train\.jpg"):
        score(images_table("i"), objects_table(), detections_table(("train.jpg", "k", BOX, 0.9)), ["k"])


def test_protocol_states_points_iou_boxes_difficult_and_limit():
    objects = objects_table(("i", "k", BOX), ("i", "k", BOX, "difficult"), ("i", "k", BOX, "crowd"))
    detections = detections_table(("i", "k", BOX, 0.9), ("i", "m", BOX, 0.9))
    text = "\n".join(protocol(score(images_table("i"), objects, detections, ["k", "m"], 0.55, 77)))
    for part in (
        "IoU >= 0.55",
        "11 points",
        "101 points",
        "at most 77 detections",
        "half-open",
        "1 difficult and 1 crowd",
        "over the 1 of 2 classes",
        "have 1 detections",
        "VOC ignores every detection on them",
    ):
        assert part in text
