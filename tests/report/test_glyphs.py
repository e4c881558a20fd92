"""Star glyphs: which way the lines go, one scale for both signs, many in one picture."""

import numpy as np
import pytest

from lib.report.glyphs import sheet, stars, template

ANGLES = np.arange(9) * 20 + 10


def one(number, value=1.0):
    weights = np.zeros((1, 1, 9))
    weights[0, 0, number] = value
    return weights


@pytest.mark.parametrize(("angle", "dx", "dy"), [(0, 0, 1), (90, 1, 0), (45, -1, 1), (135, 1, 1)])
def test_a_line_lies_across_its_gradient(angle, dx, dy):
    """A gradient to the right stands on an upright edge. y goes down, as in the descriptor."""
    picture = stars(np.ones((1, 1, 1)), np.array([angle]), side=25)
    step = np.array([dy, dx])
    assert all(picture[tuple(12 + k * step)] > 0.3 for k in range(-6, 7))
    assert picture[tuple(12 + 6 * np.array([-dx, dy]))] == 0


def test_the_brightest_line_wins():
    both = stars(one(3, 2.0) + one(4, 1.0), ANGLES)
    np.testing.assert_array_equal(both, np.maximum(stars(one(3, 2.0), ANGLES), stars(one(4, 1.0), ANGLES)))


def test_cells_stand_in_their_places():
    weights = np.zeros((2, 3, 9))
    weights[1, 2, 0] = 1
    picture = stars(weights, ANGLES, side=10)
    assert picture.shape == (20, 30)
    assert picture[10:, 20:].any()
    picture[10:, 20:] = 0
    assert not picture.any()


def test_a_template_shows_both_signs_on_one_scale():
    weights = np.stack([one(4, 2.0), one(0, 1.0)])
    picture = template("cat", weights, ANGLES, side=24)
    body = picture[24:, :, 0]
    assert body.shape == (24, 24 + 12 + 24)
    assert body[:, :24].max() == 255
    assert 100 < body[:, 36:].max() <= 128
    assert (picture[:24] < 128).any(), "the name"
    assert not template("", np.zeros((2, 1, 1, 9)), ANGLES)[24:, :24].any()


def test_a_sheet_has_room_for_all():
    pictures = [np.full((10 + number, 20, 3), number, np.uint8) for number in range(5)]
    page = sheet(pictures, across=2)
    assert page.shape == (3 * 26, 2 * 32, 3)
    assert (page[52:66, :20] == 4).all()
    assert sheet(pictures[:1]).shape == (22, 32, 3)
