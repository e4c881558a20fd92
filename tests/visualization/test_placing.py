import numpy as np
import pytest

from lib.visualization.fields import Axis, Fields
from lib.visualization.placing import scaled, to_image, upsample


def test_a_map_is_not_transposed():
    """Case 145: 100 x 200 pixels, map of 2 x 4, hot at (0, 3)."""
    cells = np.zeros((2, 4), np.float32)
    cells[0, 3] = 1
    axis = Axis(50, 50, 25.0)
    heat = upsample(cells, Fields(axis, axis, (100, 200)))
    rows, columns = np.nonzero(heat > 0.5)
    assert heat.shape == (100, 200)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 49, 150, 199)


def test_values_between_the_centres_are_in_proportion():
    """Cells at 0.5 and 4.5: pixel 1's centre is a quarter of the way; beyond the last centre the value stays."""
    fields = Fields(Axis(9, 4, 0.5), Axis(9, 4, 0.5), (1, 7))
    assert upsample(np.float32([[0, 8]]), fields).tolist() == [[0, 2, 4, 6, 8, 8, 8]]


def test_one_cell():
    fields = Fields(Axis(9, 16, 8.0), Axis(9, 16, 8.0), (3, 2))
    assert upsample(np.float32([[5]]), fields).tolist() == [[5, 5]] * 3


def test_an_input_at_half_the_size_of_the_image():
    heat = to_image(np.float32([[0, 4], [0, 4]]), np.float32([0, 0, 4, 4]), 4, 4)
    assert heat.tolist() == [[0, 1, 3, 4]] * 4


def test_a_crop_lies_where_it_was_cut():
    """A crop of pixels 2..4 x 1..3 of an image of 6 x 5; elsewhere 0. Half of another lies outside."""
    heat = to_image(np.float32([[1, 2], [3, 4]]), np.float32([2, 1, 4, 3]), 6, 5)
    expected = np.zeros((5, 6))
    expected[1:3, 2:4] = [[1, 2], [3, 4]]
    assert heat.tolist() == expected.tolist()
    assert to_image(np.float32([[1, 2]]), np.float32([-1, 0, 1, 1]), 2, 1).tolist() == [[2, 0]]


@pytest.mark.parametrize("constant", [0, -3])
def test_a_map_without_positive_values_is_not_painted(constant):
    """Case 146: 0/0 became all red."""
    assert not scaled(np.full((7, 7), constant, np.float32)).any()


def test_shares_of_the_largest():
    assert scaled(np.float32([[-1, 2], [4, 0]])).tolist() == [[0, 0.5], [1, 0]]
