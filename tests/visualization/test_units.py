import numpy as np
import pytest
import torch

from lib.detectors.target import Units
from lib.visualization.fields import Axis, Fields
from lib.visualization.units import BACKGROUND, Selectivity, labels, purity, seen, top_regions


def test_the_regions_of_a_unit_without_near_duplicates():
    """The facts' example with widths of 100: the 2nd overlaps the 1st by 50 of 150, the 3rd not at all."""
    boxes = np.float32([[0, 0, 100, 100], [50, 0, 150, 100], [100, 0, 200, 100]])
    assert top_regions(boxes, np.float32([9, 8, 7]), 0.1, 5) == [(0, 9.0), (2, 7.0)]
    assert top_regions(boxes, np.float32([-9, -8, -7]), 0.1, 5) == [(2, -7.0), (0, -9.0)]  # signed units too
    assert top_regions(boxes, np.float32([9, 8, 7]), 0.1, 1) == [(0, 9.0)]


def test_selectivity_of_hand_worked_units():
    """Unit 0 is 1 on class 0 alone: mean 1 - 0, deviation of (1 1 0 0) 0.5. Unit 2 never changes."""
    selectivity = Selectivity(2, 3)
    values = np.float32([[1, 0, 5], [1, 1, 5], [0, 3, 5], [0, 4, 5]])
    label = np.array([0, 0, 1, BACKGROUND])
    for rows in (slice(2), slice(2, 4)):
        selectivity.add(values[rows], label[rows])
    deviation = np.std([0, 1, 3, 4])
    expected = [[2, (0.5 - 3.5) / deviation, 0], [-2 / 3 / 0.5, (3 - 5 / 3) / deviation, 0]]
    np.testing.assert_allclose(selectivity.scores(), expected)
    assert selectivity.best(2) == [(0, 0), (1, 1)]


def test_no_unit_is_shown_twice():
    selectivity = Selectivity(2, 2)
    selectivity.add(np.float32([[2, 1], [2, 1], [0, 0]]), np.array([0, 1, BACKGROUND]))
    assert sorted(unit for _, unit in selectivity.best(5)) == [0, 1]


def test_labels():
    regions = np.float32([[0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 21], [50, 50, 60, 60]])
    objects, classes = np.float32([[0, 0, 10, 10], [50, 50, 60, 60]]), np.array([1, 0])
    assert labels(regions, objects, classes, 2).tolist() == [1, 1, BACKGROUND, 0]
    assert labels(regions, objects[:0], classes[:0], 2).tolist() == [BACKGROUND] * 4


def test_purity():
    assert purity([[0, 0, 1], [1, BACKGROUND]], [0, 1]) == pytest.approx(3 / 5)
    assert purity([[], []], [0, 1]) is None


def test_what_a_unit_sees_is_the_field_of_its_largest_cell():
    """Two inputs of 2 x 4 cells, pooled to 1 x 2 maxima; fields of 8 pixels every 8, an input of twice the size."""
    cells = torch.zeros(2, 3, 2, 4)
    cells[1, 2, 1, 2] = 5
    cells.requires_grad_()
    fields = Fields(Axis(8, 8, 4.0), Axis(8, 8, 4.0), (16, 32))
    windows = np.float32([[0, 0, 16, 8], [100, 50, 116, 58]])
    pooled = torch.nn.functional.adaptive_max_pool2d(cells, (1, 2))
    units = Units(torch.nn.Identity(), lambda net, pixels: pixels, (16, 32), cells, pooled, windows, np.arange(2))
    assert seen(units, fields, 1, 2 * 2 + 1, (200, 200)).tolist() == [108, 54, 112, 58]
    assert seen(units, fields, 1, 2 * 2 + 1, (110, 200)).tolist() == [108, 54, 110, 58]
    mean = torch.nn.functional.adaptive_avg_pool2d(cells, (1, 2))
    whole = Units(units.network, units.maps, units.sides, cells, mean, windows, np.arange(2))
    assert seen(whole, fields, 1, 2 * 2 + 1, (200, 200)).tolist() == [108, 50, 116, 58]  # a mean sees all its cells
