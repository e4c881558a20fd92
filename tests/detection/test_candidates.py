import resource

import numpy as np
import pandas as pd
import psutil
import pytest

from lib.boxes.boxes import iou
from lib.boxes.selection import Scored, Selection, unmoved
from lib.detection import candidates
from lib.detection.candidates import Candidates
from lib.storage import tables

R_CNN = Selection(per_image=100, per_set=40, floor=None, nms=0.3, nms_before=None, most=None)


def regions(seed, count=30):
    random = np.random.default_rng(seed)
    corners = random.integers(0, 60, (count, 2))
    boxes = np.hstack([corners, corners + random.integers(10, 40, (count, 2))]).astype(np.float32)
    return boxes, random.normal(size=(count, 2)).astype(np.float32)


def fill(folder, selection=R_CNN, images=20, stop=None, refine=unmoved):
    folder.mkdir(exist_ok=True)
    collected = Candidates(folder, ["a", "b"], images, selection)
    for i in range(collected.done, images if stop is None else stop):
        collected.add(f"{i}.jpg", (100, 100), Scored(*regions(i), refine))
    if stop is None:
        collected.write(folder / "detections.parquet")
        return tables.read(folder / "detections.parquet", tables.DETECTIONS)
    return None


def by_the_book(selection, images):
    """rcnn_test.m with plain loops, then greedy NMS."""
    kept = {label: [] for label in range(2)}
    threshold, best = [-np.inf] * 2, [[], []]
    for i in range(images):
        boxes, scores = regions(i)
        for label in range(2):
            rows = [r for r in np.argsort(-scores[:, label], kind="stable") if scores[r, label] > threshold[label]]
            for r in rows[: selection.per_image]:
                kept[label].append((i, scores[r, label], boxes[r]))
                best[label].append(scores[r, label])
            if selection.per_set and len(best[label]) > selection.per_set * images:
                best[label] = sorted(best[label], reverse=True)[: selection.per_set * images]
                threshold[label] = best[label][-1]
    rows = set()
    for label, entries in kept.items():
        for i in range(images):
            of_image = sorted((e for e in entries if e[0] == i and e[1] >= threshold[label]), key=lambda e: -e[1])
            detected = []
            for _, score, box in of_image:
                if all(overlap(box, other) <= selection.nms for _, other in detected):
                    detected.append((score, box))
            rows |= {(f"{i}.jpg", "ab"[label], float(score), *map(float, box)) for score, box in detected}
    return rows


def overlap(a, b):
    inter = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


@pytest.mark.parametrize("limits", [(100, 40), (5, 40), (100, 4), (10, None)])
def test_equals_the_authors_bookkeeping(tmp_path, limits):
    selection = R_CNN.model_copy(update={"per_image": limits[0], "per_set": limits[1]})
    detections = fill(tmp_path, selection)
    names = ["image_id", "class", "score", *tables.BOX]
    rows = {tuple(row[name] for name in names) for row in detections.to_dict("records")}
    assert rows == by_the_book(selection, 20)


@pytest.mark.parametrize("per_set", [40, 4])  # 4: the limit over the set binds, so its thresholds must be resumed too
@pytest.mark.parametrize("stop", [3, 8, 13])
def test_interrupted_and_resumed_is_the_same_bytes(tmp_path, stop, per_set):
    selection = R_CNN.model_copy(update={"per_set": per_set})
    fill(tmp_path / "whole", selection)
    fill(tmp_path / "cut", selection, stop=stop)
    fill(tmp_path / "cut", selection)
    assert (tmp_path / "cut/detections.parquet").read_bytes() == (tmp_path / "whole/detections.parquet").read_bytes()


def test_moved_boxes_are_clipped_and_suppress_after_the_move(tmp_path):
    def away(rows, labels, boxes):
        return boxes + np.float32([1000, 0, 1000, 0])

    assert fill(tmp_path / "away", refine=away).empty  # clipped to no area

    def together(rows, labels, boxes):
        return np.tile(np.float32([0, 0, 200, 200]), (len(boxes), 1))

    detections = fill(tmp_path / "together", refine=together)
    assert len(detections) == 40  # one per class and image
    assert detections[tables.BOX].to_numpy().max() == 100


def test_nms_before_the_move_and_floor(tmp_path):
    strict = R_CNN.model_copy(update={"nms_before": 0.0, "floor": 0.5})
    detections = fill(tmp_path / "before", strict)
    assert detections["score"].min() > 0.5
    assert len(detections) < len(fill(tmp_path / "plain"))


def test_no_scores_no_detections(tmp_path):
    collected = Candidates(tmp_path, ["a", "b"], 1, R_CNN)
    boxes, _ = regions(0)
    collected.add("0.jpg", (100, 100), Scored(boxes, np.full((30, 2), -np.inf, np.float32)))
    assert collected.write(tmp_path / "d.parquet") == 0
    assert isinstance(tables.read(tmp_path / "d.parquet", tables.DETECTIONS), pd.DataFrame)
    assert candidates.PIECE > 1


def test_most_keeps_the_best_of_an_image_over_all_classes_after_nms(tmp_path):
    """SSD: 400 of a class before NMS, 200 of the image after it. NMS first: what it removes takes no place."""
    every = fill(tmp_path / "every")
    few = fill(tmp_path / "few", R_CNN.model_copy(update={"most": 7}))
    for image_id, rows in every.groupby("image_id", sort=False):
        assert len(rows) > 7
        expected = rows.sort_values("score", ascending=False, kind="stable").head(7)
        detections = few[few["image_id"] == image_id]
        pd.testing.assert_frame_equal(detections.reset_index(drop=True), expected.reset_index(drop=True))
    same = fill(tmp_path / "same", R_CNN.model_copy(update={"most": 60}))
    pd.testing.assert_frame_equal(same, every)


def test_ties_of_most_go_to_the_first_class_and_in_it_to_the_first_box(tmp_path):
    boxes = np.float32([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]])
    scores = np.float32([[0.5, 0.5], [0.5, 0.5], [0.5, 0.9], [0.5, 0.5]])
    assert not iou(boxes, boxes)[~np.eye(4, dtype=bool)].any()
    collected = Candidates(tmp_path, ["a", "b"], 1, R_CNN.model_copy(update={"most": 6}))
    collected.add("0.jpg", (100, 100), Scored(boxes, scores))
    assert collected.write(tmp_path / "d.parquet") == 6
    rows = tables.read(tmp_path / "d.parquet", tables.DETECTIONS)
    assert rows["class"].tolist() == ["b", "a", "a", "a", "a", "b"]
    assert rows["x1"].tolist() == [40, 0, 20, 40, 60, 0]


@pytest.mark.parametrize("stop", [0, 1, 8, 13])
def test_fewer_images_than_announced_are_written_like_a_set_of_so_many(tmp_path, stop):
    """Candidates of an interrupted `predict`, or of one with unreadable images."""
    (tmp_path / "short").mkdir()
    selection = R_CNN.model_copy(update={"per_set": 6})
    collected = Candidates(tmp_path / "short", ["a", "b"], 20, selection)
    for i in range(stop):
        collected.add(f"{i}.jpg", (100, 100), Scored(*regions(i)))
    collected.write(tmp_path / "d.parquet")
    whole = fill(tmp_path / "whole", selection, images=stop) if stop else tables.DETECTIONS.empty_table().to_pandas()
    pd.testing.assert_frame_equal(tables.read(tmp_path / "d.parquet", tables.DETECTIONS), whole)


def test_hundreds_of_pieces_need_few_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "PIECE", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 32, hard))
    try:
        assert len(fill(tmp_path / "many", images=200))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(list((tmp_path / "many").glob("candidates-*"))) == 200
