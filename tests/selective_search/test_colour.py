import colorsys

import cv2
import numpy as np
import pytest

from lib.selective_search.colour import SPACES, convert


@pytest.fixture(scope="module")
def image():
    """Every 17th level of each channel, so greys and pure colours are among them."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(64, 64, 3)


def test_hsv_is_that_of_colorsys(image):
    planes = convert(image, "hsv")
    expected = np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in image.reshape(-1, 3)]) * 255
    np.testing.assert_allclose(planes.reshape(3, -1).T, expected, atol=0.51)
    np.testing.assert_array_equal(convert(image, "hue"), planes[:1])


def test_lab_is_that_of_opencv(image):
    expected = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab) * [2.55, 1, 1] + [0, 128, 128]
    np.testing.assert_allclose(convert(image, "lab").transpose(1, 2, 0), expected, atol=1.1)


def test_white_black_and_red_by_hand():
    image = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0]]], np.uint8)
    assert convert(image, "hsv").reshape(3, -1).T.tolist() == [[0, 0, 255], [0, 0, 0], [0, 255, 255]]
    assert convert(image, "lab").reshape(3, -1).T.tolist() == [[255, 128, 128], [0, 128, 128], [136, 208, 195]]
    assert convert(image, "rgi").reshape(3, -1).T.tolist() == [[85, 85, 255], [0, 0, 0], [255, 0, 85]]
    assert convert(image, "intensity").reshape(-1).tolist() == [255, 0, 76]


def test_intensity_is_that_of_opencv(image):
    np.testing.assert_allclose(convert(image, "intensity")[0], cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), atol=1)


def test_planes_are_bytes_for_every_space(image):
    for space in SPACES:
        planes = convert(image, space)
        assert planes.dtype == np.uint8
        assert planes.shape == (1 if space in ("hue", "intensity") else 3, 64, 64)
    with pytest.raises(ValueError, match="rgb"):
        convert(image, "rgb")
