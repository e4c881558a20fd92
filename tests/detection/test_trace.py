"""A traced image ends with the detections of `Candidates`, and every box that went has the box that it went for."""

import numpy as np
import pytest
import torch

from lib.backbones.device import Device
from lib.boxes.boxes import iou
from lib.boxes.selection import Scored, Selection, unmoved
from lib.detection import many_images as running
from lib.detection.candidates import Candidates
from lib.detection.trace import KEPT, SURPLUS, UNUSED, describe, trace
from lib.parallel.clock import Clock
from lib.storage import tables

CLASSES = ["a", "b", "c"]
RCNN = Selection(per_image=20, per_set=30, floor=None, nms=0.3, nms_before=None, most=None)
SPP = Selection(per_image=15, per_set=None, floor=-0.5, nms=0.3, nms_before=0.5, most=None)


def shifted(rows, labels, boxes):
    return boxes + np.float32([3, -2, 5, 1]) * (labels[:, None] + 1).astype(np.float32)


def scored(seed, refine=unmoved, count=80):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 60, (count, 2)).astype(np.float32)
    boxes = np.hstack([corner, corner + rng.integers(5, 60, (count, 2))]).astype(np.float32)
    scores = rng.normal(size=(count, 3)).astype(np.float32)
    scores[rng.random((count, 3)) < 0.2] = -np.inf
    return Scored(boxes, scores, refine)


SSD = Selection(per_image=40, per_set=None, floor=0.01, nms=0.45, nms_before=None, most=12)


@pytest.mark.parametrize("selection", [RCNN, SPP, SSD])
@pytest.mark.parametrize("refine", [unmoved, shifted])
@pytest.mark.parametrize("seed", range(3))
def test_trace_ends_with_the_detections_of_candidates(tmp_path, selection, refine, seed):
    given = scored(seed, refine)
    candidates = Candidates(tmp_path, CLASSES, 1, selection)
    candidates.add("i", (100, 90), given)
    candidates.write(tmp_path / "d.parquet")
    wanted = tables.read(tmp_path / "d.parquet", tables.DETECTIONS)
    found = trace(given, (100, 90), selection)
    kept = found.remover == KEPT
    assert 0 < kept.sum() < len(kept)
    assert np.array_equal(found.boxes[kept], tables.boxes(wanted))
    assert [CLASSES[label] for label in found.labels[kept]] == wanted["class"].tolist()
    assert np.array_equal(found.scores[found.rows[kept], found.labels[kept]], wanted["score"].to_numpy())
    assert list(found.counts.values())[-1] == len(wanted)
    assert ("best of all classes" in found.counts) == (selection.most is not None)
    assert ("nms before" in found.counts) == (selection.nms_before is not None)


def test_every_removed_box_overlaps_its_remover_of_its_class_and_better_score():
    found = trace(scored(4), (100, 90), RCNN)
    gone = np.flatnonzero(found.remover >= 0)
    assert len(gone) > 10
    for one in gone:
        by = found.remover[one]
        assert found.remover[by] == KEPT
        assert found.labels[by] == found.labels[one]
        assert found.scores[found.rows[by], found.labels[by]] >= found.scores[found.rows[one], found.labels[one]]
        assert iou(found.boxes[[one]], found.boxes[[by]])[0, 0] > 0.3


def test_the_first_kept_box_that_overlaps_is_named():
    # The third overlaps the first by 1/3 and the second by more: the first comes first.
    boxes = np.float32([[0, 0, 100, 100], [80, 0, 180, 100], [50, 0, 150, 100], [0, 300, 0, 310]])
    scores = np.float32([[0.9], [0.8], [0.7], [0.6]])
    found = trace(Scored(boxes, scores), (500, 500), RCNN)
    assert found.remover.tolist() == [KEPT, KEPT, 0, UNUSED]
    plain = describe(found, ["k"], most=5)
    assert plain["counts"] == {"regions": 4, "scored": 4, "best of the image": 4, "nms": 2}
    first, second = plain["detections"]
    assert first["removed"] == [{"box": [50, 0, 150, 100], "region": 2, "iou": 0.333, "score": pytest.approx(0.7)}]
    assert (second["removed"], second["moved_iou"], second["scores"]) == ([], 1.0, [pytest.approx(0.8)])


def test_boxes_beyond_the_most_of_an_image_are_told_from_those_that_nms_removed():
    boxes = np.float32(
        [[0, 0, 100, 100], [5, 0, 105, 100], [0, 200, 100, 300], [300, 0, 400, 100], [300, 300, 300, 310]]
    )
    scores = np.float32([[0.9, 0.1], [0.8, -np.inf], [0.7, 0.7], [0.7, 0.2], [0.6, -np.inf]])
    given = Scored(boxes, scores, level=np.array([0, 0, 1, 1, 2]))
    found = trace(given, (500, 500), RCNN.model_copy(update={"most": 3}))
    # By score: a0 .9, a1 .8, a2 .7, a3 .7, b2 .7, a4 .6, b3 .2, b0 .1; of the three at 0.7 the first class comes first.
    assert found.remover.tolist() == [KEPT, 0, KEPT, KEPT, SURPLUS, UNUSED, SURPLUS, SURPLUS]
    assert found.counts == {"scored": 8, "best of the image": 8, "nms": 6, "best of all classes": 3}
    plain = describe(found, ["a", "b"], most=5)
    assert [one["level"] for one in plain["detections"]] == [0, 1, 1]
    assert [one["region"] for one in plain["detections"]] == [0, 2, 3]


def test_an_image_without_scores():
    given = scored(0, count=3)
    found = trace(given._replace(scores=np.full_like(given.scores, -np.inf)), (100, 90), RCNN)
    assert len(found.rows) == 0
    assert describe(found, CLASSES, 5)["detections"] == []


class Constant:
    """A detector whose scores come from the image's mean; remembers whether it was given regions."""

    classes = CLASSES

    def __init__(self, wants_proposals):
        self.wants_proposals = wants_proposals

    def prepare(self, image, boxes):
        return image, boxes

    def __call__(self, prepared):
        image, boxes = prepared
        boxes = np.float32([[0, 0, 5, 5]]) if boxes is None else boxes
        return Scored(boxes, np.full((len(boxes), 3), image.mean(), np.float32))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("wants_proposals", [False, True])
def test_running_gives_every_image_in_order(tmp_path, workers, wants_proposals):
    def regions(image_id, image):
        assert wants_proposals
        return np.float32([[0, 0, 6, 6], [1, 1, 400, 400]])

    images = {f"{k}.jpg": np.full((20 + k, 30, 3), k, np.uint8) for k in range(7)}
    candidates = Candidates(tmp_path, CLASSES, len(images), SPP)
    device, clock = Device(torch.device("cpu"), torch.float32), Clock()
    detector = Constant(wants_proposals)
    done = list(running.detect(detector, list(images), images.get, regions, candidates, clock, device, workers))
    assert done == list(images)
    candidates.write(tmp_path / "d.parquet")
    found = tables.read(tmp_path / "d.parquet", tables.DETECTIONS)
    assert found.groupby("image_id")["score"].first().to_dict() == {name: float(k) for k, name in enumerate(images)}
    if not wants_proposals:
        assert set(found["x2"]) == {5.0}
    else:
        assert found["x2"].max() == 30  # cut to the image's own width
        assert found.groupby("image_id")["y2"].max().tolist() == [20 + k for k in range(7)]
    assert set(clock.seconds) == {"decode", "select"}
