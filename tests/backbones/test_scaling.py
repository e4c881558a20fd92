import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.backbones.scaling import Scale, Square, View, choose_level, factor, resize, restore, to_input

CPU = Device(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("size", "short", "longest", "expected"),
    [
        ((500, 375), 600, 1000, 1.6),  # VOC's usual image
        ((375, 500), 600, 1000, 1.6),
        ((500, 333), 600, 1000, 600 / 333),  # 900.9 rounds to 901
        ((500, 300), 600, 1000, 2.0),  # exactly 1000
        ((500, 299), 600, 1000, 2.0),  # 1003.3: the longer side decides
        ((1999, 1200), 600, 1000, 0.5),  # 999.5 rounds to 1000, the even one: still not above
        ((672, 403), 600, 1000, 600 / 403),  # 1000.496 rounds to 1000: not above, so the shorter side decides
        ((320, 240), 360, 1000, 1.5),
    ],
)
def test_factor(size, short, longest, expected):
    assert factor(*size, short, longest) == pytest.approx(expected)


def test_sizes_are_rounded_as_opencv_does():
    """Facts §16.3: 333 x 500 at 600 gives 600 x 901; torch's interpolate cuts it to 900."""
    image = np.random.default_rng(0).integers(0, 256, (333, 500, 3), np.uint8)
    assert resize(image, factor(500, 333, 600, 1000)).shape == (600, 901, 3)


def test_a_line_of_pixels_keeps_one():
    assert resize(np.full((1, 4000, 3), 7, np.uint8), 0.25).shape == (1, 1000, 3)
    assert (resize(np.full((1, 4000, 3), 7, np.uint8), 0.25) == 7).all()


def test_bilinear_by_hand():
    """Doubled, pixel x lies at (x + 0.5) / 2 - 0.5: -0.25, 0.25, 0.75, 1.25."""
    image = np.repeat(np.uint8([[0, 100]])[..., None], 3, axis=2)
    np.testing.assert_array_equal(resize(image, 2.0)[0, :, 0], [0, 25, 75, 100])


def test_factor_one_is_the_image_itself():
    image = np.zeros((4, 5, 3), np.uint8)
    assert resize(image, 1.0) is image


def test_input_follows_the_recipe():
    """Case 41: pure red, ImageNet's recipe: (1 - .485) / .229 = 2.2489, -.456 / .224, -.406 / .225."""
    image = np.zeros((6, 8, 3), np.uint8)
    image[..., 0] = 255
    found = to_input(image, backbones.IMAGENET, CPU)
    assert found.shape == (1, 3, 6, 8)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found[0, :, 0, 0], [2.2489, -2.0357, -1.8044], atol=1e-4)
    np.testing.assert_allclose(to_input(image[:, ::-1], backbones.LITE, CPU)[0, :, 0, 0], [1, -127 / 128, -127 / 128])
    assert image[0, 0, 0] == 255


def test_levels():
    """A side of 224 at each factor: 224, 112, 56. Between two levels the nearer area wins; of equals the first."""
    factors = [1.0, 2.0, 4.0]
    boxes = np.float32(
        [[0, 0, 224, 224], [10, 10, 122, 122], [0, 0, 56, 56], [0, 0, 900, 900], [0, 0, 1, 1], [3, 3, 3, 9]]
    )
    np.testing.assert_array_equal(choose_level(boxes, factors), [0, 1, 2, 0, 2, 0])
    # 4 a - 224² = 224² - a where a = 2 · 224² / 5.
    side = (2 / 5) ** 0.5 * 224
    near = np.float32([[0, 0, side - 0.1, side], [0, 0, side + 0.1, side]])
    np.testing.assert_array_equal(choose_level(near, [1.0, 2.0]), [1, 0])
    np.testing.assert_array_equal(choose_level(near, [2.0, 2.0]), [0, 0])
    assert choose_level(np.zeros((0, 4), np.float32), factors).shape == (0,)


def test_settings():
    assert Scale(short_side=[480, 600], max_side=1000).factors(500, 375) == pytest.approx([1.28, 1.6])
    with pytest.raises(ValidationError):
        Scale(short_side=[], max_side=1000)


def test_a_square_has_a_factor_for_each_axis():
    """SSD300 on VOC's usual image: 0.6 and 0.8."""
    view = Square(side=300).view(500, 375)
    assert (view.x, view.y, view.width, view.height) == (0.6, 0.8, 300, 300)
    boxes = np.float32([[0, 0, 500, 375], [50, 75, 100, 150]])
    np.testing.assert_allclose(view.boxes(boxes), [[0, 0, 300, 300], [30, 60, 60, 120]], rtol=1e-6)
    np.testing.assert_allclose(view.original(view.boxes(boxes)), boxes, rtol=1e-6)
    assert view.boxes(boxes).dtype == view.original(boxes).dtype == np.float32
    assert view.boxes(np.zeros((0, 4), np.float32)).shape == (0, 4)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (300, 300), (1, 999), (299, 301), (64, 64)])
def test_every_image_becomes_the_square(size):
    width, height = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    assert Square(side=300).view(width, height).image(image).shape == (300, 300, 3)


def test_square_bilinear_by_hand():
    """One row of two pixels to three rows of four: along x as in `test_bilinear_by_hand`, along y constant."""
    image = np.repeat(np.uint8([[0, 100]])[..., None], 3, axis=2)
    found = View(2.0, 3.0, 4, 3).image(image)
    np.testing.assert_array_equal(found[..., 0], [[0, 25, 75, 100]] * 3)


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (1999, 1200), (320, 240), (7, 4000)])
def test_the_view_of_a_scale_has_the_bytes_of_its_factor(size):
    scale, (width, height) = Scale(short_side=[600], max_side=1000), size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    boxes = np.random.default_rng(1).uniform(0, 500, (20, 4)).astype(np.float32)
    view, ratio = scale.view(width, height), scale.factors(width, height)[0]
    assert view.image(image).tobytes() == resize(image, ratio).tobytes()
    assert view.image(image).shape[:2] == (view.height, view.width)
    assert view.boxes(boxes).tobytes() == (boxes * np.float32(ratio)).tobytes()
    assert view.original(boxes).tobytes() == (boxes / np.float32(ratio)).tobytes()


def test_a_pyramid_has_no_one_view():
    with pytest.raises(ValueError, match=r"\[480, 600\]"):
        Scale(short_side=[480, 600], max_side=1000).view(500, 375)


@pytest.mark.parametrize("sizing", [Scale(short_side=[300], max_side=500), Square(side=512)])
def test_files_tell_a_scale_from_a_square(sizing):
    assert restore(sizing.model_dump()) == sizing
    for bad in ({"side": 8}, {"side": 300, "max_side": 400}, {"side": 300.0}):
        with pytest.raises(ValidationError):
            Square(**bad)
