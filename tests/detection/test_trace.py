"""A traced image ends with the detections of `Candidates`, and every removed box names the box that removed it."""

import numpy as np
import pytest

from lib.boxes.boxes import iou
from lib.boxes.selection import Scored, Selection, unmoved
from lib.detection.candidates import Candidates
from lib.detection.trace import KEPT, SURPLUS, UNUSED, describe, trace
from lib.storage import tables

CLASSES = ["a", "b", "c"]
RCNN = Selection(per_image=20, per_set=30, floor=None, nms=0.3, nms_before=None, most=None)
SPP = Selection(per_image=15, per_set=None, floor=-0.5, nms=0.3, nms_before=0.5, most=None)
SSD = Selection(per_image=40, per_set=None, floor=0.01, nms=0.45, nms_before=None, most=12)


def shifted(rows, labels, boxes):
    return boxes + np.float32([3, -2, 5, 1]) * (labels[:, None] + 1).astype(np.float32)


def scored(seed, refine=unmoved, count=80):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 60, (count, 2)).astype(np.float32)
    boxes = np.hstack([corner, corner + rng.integers(5, 60, (count, 2))]).astype(np.float32)
    scores = rng.normal(size=(count, 3)).astype(np.float32)
    scores[rng.random((count, 3)) < 0.2] = -np.inf
    return Scored(boxes, scores, refine)


@pytest.mark.parametrize("selection", [RCNN, SPP, SSD])
@pytest.mark.parametrize("refine", [unmoved, shifted])
@pytest.mark.parametrize("seed", range(3))
def test_trace_ends_with_the_detections_of_candidates(tmp_path, selection, refine, seed):
    image_scores = scored(seed, refine)
    candidates = Candidates(tmp_path, CLASSES, 1, selection)
    candidates.add("i", (100, 90), image_scores)
    candidates.write(tmp_path / "d.parquet")
    wanted = tables.read(tmp_path / "d.parquet", tables.DETECTIONS)
    traced = trace(image_scores, (100, 90), selection)
    kept = traced.remover == KEPT
    assert 0 < kept.sum() < len(kept)
    assert np.array_equal(traced.boxes[kept], tables.boxes(wanted))
    assert [CLASSES[label] for label in traced.labels[kept]] == wanted["class"].tolist()
    assert np.array_equal(traced.scores[traced.rows[kept], traced.labels[kept]], wanted["score"].to_numpy())
    assert list(traced.counts.values())[-1] == len(wanted)
    assert ("best of all classes" in traced.counts) == (selection.most is not None)
    assert ("nms before" in traced.counts) == (selection.nms_before is not None)


def test_every_removed_box_overlaps_its_remover_of_its_class_and_better_score():
    traced = trace(scored(4), (100, 90), RCNN)
    removed = np.flatnonzero(traced.remover >= 0)
    assert len(removed) > 10
    for candidate in removed:
        remover = traced.remover[candidate]
        assert traced.remover[remover] == KEPT
        assert traced.labels[remover] == traced.labels[candidate]
        best, removed_score = (traced.scores[traced.rows[k], traced.labels[k]] for k in (remover, candidate))
        assert best >= removed_score
        assert iou(traced.boxes[[candidate]], traced.boxes[[remover]])[0, 0] > 0.3


def test_the_first_kept_box_that_overlaps_is_named():
    # The third overlaps the first by 1/3 and the second by more: the first comes first.
    boxes = np.float32([[0, 0, 100, 100], [80, 0, 180, 100], [50, 0, 150, 100], [0, 300, 0, 310]])
    scores = np.float32([[0.9], [0.8], [0.7], [0.6]])
    traced = trace(Scored(boxes, scores), (500, 500), RCNN)
    assert traced.remover.tolist() == [KEPT, KEPT, 0, UNUSED]
    plain = describe(traced, ["k"], most=5)
    assert plain["counts"] == {"regions": 4, "scored": 4, "best of the image": 4, "nms": 2}
    first, second = plain["detections"]
    assert first["removed"] == [{"box": [50, 0, 150, 100], "region": 2, "iou": 0.333, "score": pytest.approx(0.7)}]
    assert (second["removed"], second["moved_iou"], second["scores"]) == ([], 1.0, [pytest.approx(0.8)])


def test_boxes_beyond_the_most_of_an_image_are_told_from_those_that_nms_removed():
    boxes = np.float32(
        [[0, 0, 100, 100], [5, 0, 105, 100], [0, 200, 100, 300], [300, 0, 400, 100], [300, 300, 300, 310]]
    )
    scores = np.float32([[0.9, 0.1], [0.8, -np.inf], [0.7, 0.7], [0.7, 0.2], [0.6, -np.inf]])
    image_scores = Scored(boxes, scores, origin={"level": np.array([0, 0, 1, 1, 2])})
    traced = trace(image_scores, (500, 500), RCNN.model_copy(update={"most": 3}))
    # By score: a0 .9, a1 .8, a2 .7, a3 .7, b2 .7, a4 .6, b3 .2, b0 .1; of the three at 0.7 the first class comes first.
    assert traced.remover.tolist() == [KEPT, 0, KEPT, KEPT, SURPLUS, UNUSED, SURPLUS, SURPLUS]
    assert traced.counts == {"scored": 8, "best of the image": 8, "nms": 6, "best of all classes": 3}
    plain = describe(traced, ["a", "b"], most=5)
    assert [detection["level"] for detection in plain["detections"]] == [0, 1, 1]
    assert [detection["region"] for detection in plain["detections"]] == [0, 2, 3]


def test_an_image_without_scores():
    image_scores = scored(0, count=3)
    traced = trace(image_scores._replace(scores=np.full_like(image_scores.scores, -np.inf)), (100, 90), RCNN)
    assert len(traced.rows) == 0
    assert describe(traced, CLASSES, 5)["detections"] == []
