import numpy as np
import pytest

from lib.report import attributions
from lib.report.attributions import Region, filters, overlay, panel, unit_page

IMAGE = np.full((60, 80, 3), 200, np.uint8)
IMAGE[:, :, 0] = 20


def test_a_map_without_evidence_paints_nothing():
    """Case 146: the image stays grey."""
    painted = overlay(IMAGE, np.zeros((60, 80), np.float32))
    assert (painted == painted[0, 0]).all()
    assert len(set(painted[0, 0].tolist())) == 1


def test_only_what_is_positive_is_painted():
    heat = np.full((60, 80), -1, np.float32)
    heat[5, 7] = 3
    changed = np.argwhere((overlay(IMAGE, heat) != overlay(IMAGE, heat)[0, 0]).any(2))
    assert changed.tolist() == [[5, 7]]
    assert overlay(IMAGE, heat)[5, 7].sum() < 60  # black at the maximum


@pytest.mark.parametrize("found", [None, [10, 10, 30, 30]])
def test_a_panel_has_a_tile_for_each_map(found):
    maps = {"grad_cam": np.ones((60, 80), np.float32), "occlusion": np.zeros((60, 80), np.float32)}
    explained = {"class": "cat", "score": 0.5, "box": [10, 10, 70, 58], "object": found}
    large = panel(IMAGE, explained, maps)
    assert large.shape == (240 + 22 + 4, 3 * 324, 3)
    near = panel(IMAGE, {**explained, "box": [10, 10, 20, 20]}, maps)
    assert near.shape == (2 * (240 + 22 + 4), 4 * 324, 3)  # five tiles


def test_the_tile_near_a_box_holds_it_and_lies_in_the_image():
    for box in ([0, 0, 10, 10], [70, 50, 80, 60], [30, 20, 40, 50]):
        x1, y1, x2, y2 = attributions._around(np.float32(box), 80, 60)
        assert 0 <= x1 <= box[0] < box[2] <= x2 <= 80
        assert 0 <= y1 <= box[1] < box[3] <= y2 <= 60


def test_a_page_of_units():
    region = Region(IMAGE, np.float32([10, 10, 40, 40]), np.float32([0, 0, 25, 60]), "1.0")
    page = unit_page("cat", [("unit 3", [region] * 2), ("unit 4", [])], 4)
    assert page.shape == (22 + 2 * (22 + 72 + 2), 4 * 74, 3)
    assert (page == attributions.drawing.RED).all(2).any()


def test_the_field_is_drawn_where_it_lies():
    """The crop shows the box and some context; a field of its left half ends in the middle of the tile."""
    region = Region(IMAGE, np.float32([20, 10, 60, 50]), np.float32([0, 0, 40, 60]), "")
    red = np.flatnonzero((attributions._region(region) == attributions.drawing.RED).all(2)[30:60].all(0))
    assert red.max() == pytest.approx(36, abs=2)


def test_filters_are_on_one_scale_by_falling_norm():
    weights = np.zeros((2, 3, 3, 3), np.float32)
    weights[0] = 0.01
    weights[1] = -1
    sheet = filters(weights)
    assert sheet[0, 0].tolist() == [0, 0, 0]  # the larger one first, black at minus the largest size
    assert np.abs(sheet[0, 33].astype(int) - 128).max() <= 2  # the small one is almost grey
