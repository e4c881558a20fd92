import cv2
import numpy as np
import pytest

from lib.backbones.scaling import Square
from lib.detectors.dense.augment import Example
from lib.detectors.yolo import augment
from lib.detectors.yolo.augment import Jitter

FILL = (9.0, 8.0, 7.0)
PLAIN = Jitter(jitter=0.0, mirror=0.0, hue=0.0, saturation=1.0, exposure=1.0)
ALL = Jitter(jitter=0.2, mirror=0.5, hue=0.1, saturation=1.5, exposure=1.5)


def example(width=100, height=80):
    """A red rectangle on grey, its own object, and an object in a corner."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[20:40, 30:60] = (200, 10, 10)
    return Example(image, np.float32([[30, 20, 60, 40], [0, 0, 12, 10]]), np.array([1, 0]))


def red(image):
    """The corners of the red pixels."""
    rows, columns = np.nonzero((image[..., 0].astype(int) - image[..., 1]) > 60)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_image_and_boxes_move_together():
    kept = set()
    for seed in range(60):
        made = augment.jittered(example(), 0.4, FILL, np.random.default_rng(seed))
        assert made.image.shape[0] in range(80 - 64, 80 + 65)
        assert made.image.shape[1] in range(100 - 80, 100 + 81)
        kept.add(tuple(made.labels.tolist()))
        place = np.flatnonzero(made.labels == 1)
        if len(place):
            assert made.boxes[place[0]].tolist() == red(made.image)
        height, width = made.image.shape[:2]
        assert (made.boxes >= 0).all()
        assert (made.boxes <= [width, height, width, height]).all()
        assert (made.boxes[:, 2:] > made.boxes[:, :2]).all()
    assert (1,) in kept, "a label stays with its own box where the other object goes"
    assert (1, 0) in kept


def test_a_sliver_counts():
    """Facts §5: no test of the centre; what is left of the object has a centre of its own."""
    whole = Example(np.zeros((100, 100, 3), np.uint8), np.float32([[0, 0, 20, 100]]), np.array([0]))
    lefts = []
    for seed in range(300):
        made = augment.jittered(whole, 0.2, FILL, np.random.default_rng(seed))
        lefts += [made.boxes[0, 2]] if len(made.boxes) and made.boxes[0, 0] == 0 else []
    assert min(lefts) < 5


def test_margins_are_independent_and_up_to_the_share():
    sides, borders = [], set()
    for seed in range(400):
        made = augment.jittered(example(), 0.2, FILL, np.random.default_rng(seed)).image
        sides.append(made.shape[:2])
        outside = (made == np.uint8(FILL)).all(axis=2)
        borders.add((bool(outside[0].all()), bool(outside[-1].all()), bool(outside[:, 0].all()),
                     bool(outside[:, -1].all())))
    heights, widths = np.array(sides).T
    for sides, (least, most) in ((heights, (48, 112)), (widths, (60, 140))):
        assert least <= sides.min() < least + 8
        assert most - 8 < sides.max() <= most
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.15
    assert len(borders) == 16


def test_nothing_is_drawn_where_everything_is_off():
    made = PLAIN(example(), Square(side=100), FILL, np.random.default_rng(0))
    assert made.image.shape == (100, 100, 3)
    np.testing.assert_array_equal(made.image, cv2.resize(example().image, (100, 100)))
    np.testing.assert_allclose(made.boxes, [[30, 25, 60, 50], [0, 0, 12, 12.5]])
    assert made.labels.tolist() == [1, 0]


def test_half_of_the_images_are_mirrored_boxes_too():
    settings, mirrored = PLAIN.model_copy(update={"mirror": 0.5}), 0
    for seed in range(200):
        made = settings(example(), Square(side=100), FILL, np.random.default_rng(seed))
        expected = [40, 25, 70, 50] if made.boxes[0, 0] == 40 else [30, 25, 60, 50]
        np.testing.assert_allclose(made.boxes[0], expected)
        assert abs(np.array(red(made.image)) - expected).max() <= 1
        mirrored += made.boxes[0, 0] == 40
    assert 75 < mirrored < 125


def test_factors_are_the_number_or_its_inverse():
    random = np.random.default_rng(0)
    drawn = np.array([augment._factor(1.5, random) for _ in range(2000)])
    assert 1 / 1.5 <= drawn.min() < 0.68
    assert 1.48 < drawn.max() <= 1.5
    assert 0.45 < (drawn < 1).mean() < 0.55
    assert drawn[drawn >= 1].mean() == pytest.approx(1.25, abs=0.02)
    assert (1 / drawn[drawn < 1]).mean() == pytest.approx(1.25, abs=0.02)


def test_colours_by_hand():
    """Exposure alone scales grey; saturation alone leaves grey as it is; hue turns red."""
    ways = set()
    grey, red_image = np.full((2, 2, 3), 100, np.uint8), np.full((2, 2, 3), (200, 50, 50), np.uint8)
    for seed in range(20):
        bright = augment.coloured(grey, PLAIN.model_copy(update={"exposure": 1.5}), np.random.default_rng(seed))
        assert (bright[..., 0] == bright[..., 1]).all()
        assert 66 <= bright[0, 0, 0] <= 150
        assert bright[0, 0, 0] != 100
        settings = PLAIN.model_copy(update={"saturation": 1.5})
        np.testing.assert_array_equal(augment.coloured(grey, settings, np.random.default_rng(seed)), grey)
        pale = augment.coloured(red_image, settings, np.random.default_rng(seed))[0, 0]
        assert pale[0] == 200
        assert abs(int(pale[1]) - int(pale[2])) <= 1
        assert 200 * (1 - 0.75 * 1.5) - 4 <= pale[1] <= 104
        turned = augment.coloured(red_image, PLAIN.model_copy(update={"hue": 0.1}), np.random.default_rng(seed))[0, 0]
        assert turned[0] == 200 == turned.max()
        ways.add(int(np.sign(int(turned[1]) - int(turned[2]))))
    assert ways >= {1, -1}
    white = augment.coloured(np.full((1, 1, 3), 250, np.uint8), PLAIN.model_copy(update={"exposure": 8.0}),
                             np.random.default_rng(4))
    assert white.max() <= 255


def test_each_step_draws_its_own_numbers():
    """What another step draws is the same with it and without."""
    with_colours = ALL(example(), Square(side=64), FILL, np.random.default_rng(3))
    without = ALL.model_copy(update={"hue": 0.0, "saturation": 1.0, "exposure": 1.0})(
        example(), Square(side=64), FILL, np.random.default_rng(3))
    np.testing.assert_array_equal(with_colours.boxes, without.boxes)
    assert not np.array_equal(with_colours.image, without.image)
    again = ALL(example(), Square(side=64), FILL, np.random.default_rng(3))
    np.testing.assert_array_equal(with_colours.image, again.image)


@pytest.mark.parametrize(("name", "value"), [("hue", 36.0), ("jitter", 20.0), ("saturation", 0.5), ("mirror", 50.0)])
def test_case_127_values_in_another_unit_are_refused(name, value):
    """Degrees in place of turns, per cent in place of shares."""
    with pytest.raises(ValueError, match=rf"{name}\n  Input should be (less|greater) than"):
        Jitter(**{**ALL.model_dump(), name: value})
