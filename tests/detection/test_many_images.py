import numpy as np
import pytest
import torch

from lib.backbones.device import Device
from lib.boxes.selection import Scored, Selection
from lib.detection import many_images as running
from lib.detection.candidates import Candidates
from lib.detectors.fast import detector as fast
from lib.detectors.faster import detector as faster
from lib.detectors.rcnn import detector as rcnn
from lib.detectors.spp import detector as spp
from lib.parallel.clock import Clock
from lib.stage.errors import Failures, Fault, InputError
from lib.storage import tables

CPU = Device(torch.device("cpu"), torch.float32)
NO_CPU = Device(torch.device("meta"), torch.float32)  # as a GPU: threads prepare ahead of the network


class Slow:
    """A detector whose first image takes long, as where kernels are compiled."""

    classes, wants_proposals = ("a",), True
    seen = 0

    def __init__(self, clock):
        self._clock = clock

    def prepare(self, image, boxes):
        return boxes

    def __call__(self, boxes):
        with self._clock("network"):
            self.seen += 1
        self._clock.seconds["network"] += 9 if self.seen == 1 else 1
        return Scored(boxes, np.zeros((len(boxes), 1), np.float32))


class Kept:
    def __init__(self):
        self.rows = []

    def add(self, image_id, size, scored):
        self.rows.append((image_id, size, len(scored.boxes)))


def run(todo):
    clock, kept = Clock(), Kept()
    detector = Slow(clock)

    def read(image_id):
        return np.zeros((4, 6, 3), np.uint8)

    def regions(image_id, image):
        return np.zeros((int(image_id), 4), np.float32)

    assert list(running.detect(detector, todo, read, regions, kept, clock, CPU, 1)) == todo
    return clock, kept, detector


def test_every_image_is_kept_once_and_the_first_is_not_timed_cold():
    clock, kept, detector = run(["2", "1", "3"])
    assert kept.rows == [("2", (6, 4), 2), ("1", (6, 4), 1), ("3", (6, 4), 3)]
    assert detector.seen == 4
    assert set(clock.seconds) == {"decode", "network", "select"}
    assert 3 <= clock.seconds["network"] < 4


def test_nothing_to_do():
    clock, kept, detector = run([])
    assert not kept.rows
    assert not detector.seen
    assert not clock.seconds


def test_a_detector_that_wants_proposals_is_not_run_without():
    def read(image_id):
        return np.zeros((4, 6, 3), np.uint8)

    done = running.detect(Slow(Clock()), ["1"], read, None, Kept(), Clock(), CPU, 1)
    with pytest.raises(ValueError, match="wants proposals"):
        list(done)


def test_every_method_says_whether_it_wants_proposals():
    wants = {
        rcnn.Detector: True,
        spp.Detector: True,
        fast.Detector: True,
        faster.Detector: False,
    }
    assert all(detector.wants_proposals is expected for detector, expected in wants.items())


def test_an_image_that_fails_is_left_out_where_a_guard_holds_its_error_back():
    """The first one too, which is run before the clock counts."""
    def read(image_id):
        if image_id in "13":
            raise InputError([Fault("unreadable", image_id, "is empty")])
        return np.zeros((4, 6, 3), np.uint8)

    def regions(image_id, image):
        if image_id == "5":
            raise MemoryError("no room")
        return np.zeros((int(image_id), 4), np.float32)

    failures, kept, todo = Failures(), Kept(), list("123456")
    arguments = read, regions, kept, Clock(), CPU, 2
    assert list(running.detect(Slow(Clock()), todo, *arguments, failures)) == [None, "2", None, "4", None, "6"]
    assert [row[0] for row in kept.rows] == ["2", "4", "6"]
    assert sorted(failures.places) == ["1", "3", "5"]
    with pytest.raises(InputError, match="1: is empty"):
        list(running.detect(Slow(Clock()), todo, *arguments))


class Diverged(Slow):
    """A detector with one NaN among the scores of an image of two regions."""

    def __call__(self, boxes):
        scored = super().__call__(boxes)
        scored.scores[1:] = np.nan
        return scored


@pytest.mark.parametrize("device", [CPU, NO_CPU])
def test_a_score_that_is_nan_ends_it_with_the_image_and_a_remedy(device):
    """It was dropped without a word: a network that had diverged ended in an empty table."""
    def read(image_id):
        return np.zeros((4, 6, 3), np.uint8)

    def regions(image_id, image):
        return np.zeros((int(image_id), 4), np.float32)

    arguments = read, regions, Kept(), Clock(), device, 2
    message = r"2: scores: 1 of 2 are nan. Allowed: finite numbers. The network diverged: train it again with a lower"
    with pytest.raises(InputError, match=message):
        list(running.detect(Diverged(Clock()), ["1", "2"], *arguments))
    failures = Failures()
    assert list(running.detect(Diverged(Clock()), ["1", "2", "1"], *arguments, failures)) == ["1", None, "1"]
    assert str(failures.faults[0]).startswith("2: scores: 1 of 2 are nan")


class Constant:
    """A detector whose scores are the image's mean."""

    classes = ("a", "b", "c")

    def __init__(self, wants_proposals):
        self.wants_proposals = wants_proposals

    def prepare(self, image, boxes):
        return image, boxes

    def __call__(self, prepared):
        image, boxes = prepared
        boxes = np.float32([[0, 0, 5, 5]]) if boxes is None else boxes
        return Scored(boxes, np.full((len(boxes), 3), image.mean(), np.float32))


@pytest.mark.parametrize("device", [CPU, NO_CPU])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("wants_proposals", [False, True])
def test_running_gives_every_image_in_order(tmp_path, device, workers, wants_proposals):
    def regions(image_id, image):
        assert wants_proposals
        return np.float32([[0, 0, 6, 6], [1, 1, 400, 400]])

    selection = Selection(per_image=15, per_set=None, floor=-0.5, nms=0.3, nms_before=0.5, most=None)
    images = {f"{k}.jpg": np.full((20 + k, 30, 3), k, np.uint8) for k in range(7)}
    candidates = Candidates(tmp_path, Constant.classes, len(images), selection)
    waits = []
    clock = Clock(lambda: waits.append("device"))
    detector = Constant(wants_proposals)
    done = list(running.detect(detector, list(images), images.get, regions, candidates, clock, device, workers))
    assert done == list(images)
    candidates.write(tmp_path / "d.parquet")
    detections = tables.read(tmp_path / "d.parquet", tables.DETECTIONS)
    scores = detections.groupby("image_id")["score"].first().to_dict()
    assert scores == {name: float(k) for k, name in enumerate(images)}
    if not wants_proposals:
        assert set(detections["x2"]) == {5.0}
    else:
        assert detections["x2"].max() == 30  # cut to the image's own width
        assert detections.groupby("image_id")["y2"].max().tolist() == [20 + k for k in range(7)]
    assert set(clock.seconds) == {"decode", "select"}
    assert not waits  # these two leave the device alone: another thread may be using it
