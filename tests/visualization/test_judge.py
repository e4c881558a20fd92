import numpy as np
import pytest
import torch

from lib.visualization.judge import centred, curves, energy_inside, points_at

BOX = np.float64([1, 0, 3, 2])  # columns 1 and 2, rows 0 and 1


def test_the_pointing_game():
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = 1
    assert points_at(heat, BOX) is True
    heat[0, 3] = 2
    assert points_at(heat, BOX) is False
    heat[0, 1] = 2  # of equal maxima the first
    assert points_at(heat, BOX) is True
    assert points_at(np.zeros((4, 4), np.float32), BOX) is None
    assert points_at(-np.ones((4, 4), np.float32), BOX) is None


def test_energy():
    heat = np.float32([[1, 2, 3, 4], [0, 0, 5, 0], [7, 0, 0, -9], [0, 0, 0, 0]])
    assert energy_inside(heat, BOX) == pytest.approx((2 + 3 + 5) / 22)
    assert energy_inside(np.zeros((4, 4), np.float32), BOX) is None


def test_a_constant_maps_energy_is_the_boxs_share():
    assert energy_inside(np.ones((4, 4), np.float32), BOX) == pytest.approx(4 / 16)


def test_the_baseline_is_in_the_middle_of_what_is_shown():
    heat = centred(9, 15, np.float64([5, 0, 10, 9]))
    assert np.unravel_index(heat.argmax(), heat.shape) == (4, 7)
    assert heat[4, 7] == 1
    assert heat[4, 5] == pytest.approx(np.exp(-((2 / 1.25) ** 2) / 2))


def test_curves_of_four_pixels():
    """The score is the sum 4 + 3 + 2 + 1, a step a pixel. Deleted in this order: 1, .6, .3, .1, 0; the other way round
    1, .9, .7, .4, 0. Each curve's area is the mean of its trapeziums."""
    inputs = torch.tensor([[[[4.0, 3.0], [2.0, 1.0]]]]).repeat(1, 3, 1, 1)
    score = lambda pixels: pixels[:, 0].sum((1, 2))  # noqa: E731
    assert curves(score, inputs, np.float32([[4, 3], [2, 1]]), 4) == pytest.approx((0.375, 0.625))
    assert curves(score, inputs, np.float32([[1, 2], [3, 4]]), 4) == pytest.approx((0.625, 0.375))
    assert curves(score, inputs, np.zeros((2, 2), np.float32), 4) == pytest.approx((0.375, 0.625))  # ties: in order
    assert inputs.sum() == 30


def test_the_scores_offset_and_scale_do_not_matter():
    inputs = torch.tensor([[[[4.0, 3.0], [2.0, 1.0]]]]).repeat(1, 3, 1, 1)
    areas = curves(lambda pixels: 7 * pixels[:, 0].sum((1, 2)) - 100, inputs, np.float32([[4, 3], [2, 1]]), 2)
    assert areas == pytest.approx(((1 + 0.3 * 2) / 4, (0.7 * 2 + 1) / 4))


def test_a_grey_input_that_scores_as_high_has_no_curve():
    assert curves(lambda pixels: -pixels.sum((1, 2, 3)), torch.ones(1, 3, 2, 2), np.ones((2, 2)), 2) == (None, None)
