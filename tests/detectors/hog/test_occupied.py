"""Objects that negatives stay off, by hand."""

import numpy as np

from lib.detectors.hog.occupied import Occupied


def test_overlaps_are_with_objects_of_the_class_and_image_and_shares_of_crowds():
    """By hand: half of an object twice as high; a quarter of a window in a crowd region; nothing else counts."""
    occupied = Occupied(
        np.array([0, 0, 2, 2]), np.float32([[0, 0, 10, 20], [0, 0, 10, 10], [50, 0, 900, 5], [0, 0, 10, 10]]),
        np.array([1, 0, 1, 0]), np.array([False, False, True, False]),
    )
    windows = np.float32([[0, 0, 10, 10], [45, 0, 55, 10], [200, 200, 210, 210]])
    np.testing.assert_allclose(occupied.overlaps(0, 1, windows), [0.5, 0, 0])
    np.testing.assert_allclose(occupied.overlaps(0, 0, windows), [1, 0, 0])
    np.testing.assert_allclose(occupied.overlaps(2, 1, windows), [0, 0.25, 0])
    np.testing.assert_allclose(occupied.overlaps(1, 1, windows), [0, 0, 0])
    assert occupied.overlaps(2, 1, windows[:0]).shape == (0,)
