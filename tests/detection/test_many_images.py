import numpy as np
import pytest
import torch

from lib.backbones.device import Device
from lib.boxes.selection import Scored
from lib.detection import many_images as running
from lib.detectors.fast import detector as fast
from lib.detectors.faster import detector as faster
from lib.detectors.rcnn import detector as rcnn
from lib.detectors.spp import detector as spp
from lib.parallel.clock import Clock


class Slow:
    """A detector whose first image takes long, as where kernels are compiled."""

    classes, wants_proposals, seen = ["a"], True, 0

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

    place = Device(torch.device("cpu"), torch.float32)
    assert list(running.detect(detector, todo, read, regions, kept, clock, place, 1)) == todo
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
    place = Device(torch.device("cpu"), torch.float32)
    done = running.detect(
        Slow(Clock()), ["1"], lambda _: np.zeros((4, 6, 3), np.uint8), None, Kept(), Clock(), place, 1
    )
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
