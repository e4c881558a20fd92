import numpy as np
import pytest

from lib.boxes.boxes import iou
from lib.detectors.dense.anchor_fit import fit
from lib.detectors.retinanet.network import PyramidAnchors

ANCHORS = np.float32([[0, 0, 32, 32], [0, 0, 22.6, 45.3], [0, 0, 45.3, 22.6]])
LONG = np.float32([[180, 1, 194, 200]])  # case 117


def test_objects_that_no_anchor_reaches_are_named_before_training():
    objects = np.float32([[0, 0, 32, 32], [0, 0, 16, 16]])
    images = [("a", ANCHORS, objects, np.array([0, 1])), ("b", ANCHORS, LONG, np.array([1])),
              ("c", ANCHORS, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))]
    made = fit(images, ["cat", "dog", "bird"], 0.5, "x.anchors")
    cat, dog = made.classes
    assert cat == {"class": "cat", "objects": 1, "best_iou": 1.0, "reached": 1.0, "untouched": 0.0}
    assert (dog["objects"], dog["reached"], dog["untouched"]) == (2, 0.0, 0.5)
    assert dog["best_iou"] == pytest.approx(0.25 / 2, abs=1e-4)
    assert made.cautions == [
        "objects of dog overlap their best anchor by 0.13 on average. Add sizes or ratios of theirs to x.anchors.",
        # 16 x 16, and 14 x 199: 52.8² and 14.2 times as long as wide. The anchors' areas are all 32².
        "2 of 3 objects reach the IoU 0.5 with no anchor, first dog [0, 0, 16, 16] of a, at 0.25. They measure 16 to "
        "53 pixels (square root of the area) and at most 14.2 : 1, the anchors 32 to 32 pixels (square root of the "
        "area) and at most 2.0 : 1: add what is missing to x.anchors.",
    ]


def test_a_long_object_is_never_positive_with_retinanets_anchors():
    """Case 117: IoU at best 0.231, whatever the place."""
    grid = PyramidAnchors(side=4.0, octaves=3, ratios=[0.5, 1.0, 2.0], centre=0.5).grid([8, 16, 32, 64, 128])
    made = fit([("a", grid.of_image(256, 256), LONG, np.array([0]))], ["cat"], 0.5, "x")
    best = iou(grid.of_image(256, 256), LONG).max()
    assert made.classes[0]["best_iou"] == best
    assert best <= 0.231
    assert len(made.cautions) == 2
