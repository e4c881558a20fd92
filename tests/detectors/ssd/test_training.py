import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.boxes.assign import POSITIVE, assign
from lib.boxes.coding import decode, encode
from lib.detectors.ssd.network import Extra, SsdLayers
from lib.detectors.ssd.training import check
from lib.stage.errors import InputError
from tests.detectors.dense.overfit import mean_average_precision
from tests.detectors.ssd.test_network import LAYERS300, VOC300

SIDE = 300


def test_matching_and_coding_of_the_facts():
    """§13: one object on the 8732 boxes of SSD300: its best box, those above one half, and its deltas."""
    boxes = VOC300.grid(LAYERS300.cells(SIDE), SIDE).of_image(SIDE, SIDE)
    thing = np.float32([[60, 90, 180, 240]])
    assigned = assign(boxes, thing, 0.5, 0.5, "one")
    rows = np.flatnonzero(assigned.label == POSITIVE)
    assert rows.tolist() == [8200, 8201, 8203, 8207, 8260, 8261, 8263, 8266, 8267, 8269, 8608, 8609, 8614]
    assert assigned.overlap.argmax() == 8261
    assert assigned.overlap.max() == pytest.approx(0.765479, abs=1e-6)
    np.testing.assert_allclose(boxes[8261], [44.9515, 108.9515, 179.0485, 243.0485], atol=1e-4)
    scaling = np.float32([0.1, 0.1, 0.2, 0.2])
    deltas = encode(boxes[[8261]], thing) / scaling
    np.testing.assert_allclose(deltas[0], [0.596583, -0.820302, -0.555358, 0.560360], atol=1e-5)
    moved = decode(np.float32([[18, 18, 282, 282]]), np.float32([[0.5, -0.5, 1, -1]]) * scaling)
    np.testing.assert_allclose(moved[0], [1.97484, 28.72754, 324.42516, 244.87246], atol=1e-4)


def test_a_small_object_keeps_one_box_of_its_own():
    """Facts §4: best IoU 0.071 at 8 pixels, 0.284 at 16, 0.444 at 20, 0.64 at 24 with seven boxes above one half."""
    boxes = VOC300.grid(LAYERS300.cells(SIDE), SIDE).of_image(SIDE, SIDE)
    for side, overlap, positives in ((8, 0.071, 1), (16, 0.284, 1), (20, 0.444, 1), (24, 0.64, 7)):
        corner = 100 - side / 2
        assigned = assign(boxes, np.float32([[corner, corner, corner + side, corner + side]]), 0.5, 0.5, "one")
        assert assigned.overlap.max() == pytest.approx(overlap, abs=1e-3)
        assert (assigned.label == POSITIVE).sum() == positives


@pytest.mark.parametrize(("changes", "message"), [
    ({"strides": [8, 64]}, r"ssd.layers.strides: is \[8, 64\]. Allowed: some of \[1, 2, 4, 8, 16, 32\]"),
    ({"strides": [8, 16, 32], "l2_scale": [20.0, None, None]},
     r"ssd.layers.fc: is 1024. Allowed: null where strides end with 32, not 16"),
    ({"extra": LAYERS300.extra[:2]}, r"ssd.boxes.ratios: is of 6 maps. Allowed: as many as layers gives: 4"),
    ({"extra": [*LAYERS300.extra[:3], LAYERS300.extra[3], Extra(reduce=1, width=1, stride=1)]},
     r"(?s)boxes.ratios: is of 6 maps.*ssd.layers.extra: leaves maps of \[38, 19, 10, 5, 3, 1, -1\] cells of 300"),
])
def test_layers_boxes_and_images_that_do_not_fit_are_named_all_at_once(changes, message):
    layers = SsdLayers(**{**LAYERS300.model_dump(), **{
        key: [part.model_dump() for part in value] if key == "extra" else value for key, value in changes.items()
    }})
    with torch.device("meta"):
        backbone = backbones.build("vgg16")
    with pytest.raises(InputError, match=message):
        check(backbone, layers, VOC300, SIDE, "ssd")
    check(backbone, LAYERS300, VOC300, SIDE, "ssd")


def test_eight_images_are_learnt_by_heart(tmp_path):
    assert mean_average_precision(tmp_path, "ssd", 80) >= 0.99
