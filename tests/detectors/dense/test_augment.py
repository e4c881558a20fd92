import cv2
import numpy as np
import pytest

from lib.backbones.scaling import Square
from lib.boxes.boxes import iou
from lib.detectors.dense import augment
from lib.detectors.dense.augment import Augmentation, Example, augmented, cropped, cut, distorted, expanded, mirrored

ALL = Augmentation(
    photometric=True, expand=4.0, crops=[0.1, 0.3, 0.5, 0.7, 0.9, 0.0], interpolation=True, mirror=0.5,
)
NONE = Augmentation(photometric=False, expand=1.0, crops=[], interpolation=False, mirror=0.0)
FILL = (127.0, 127.0, 127.0)


def draws(seed):
    return np.random.default_rng(seed)


def white(width, height, *boxes):
    """White rectangles on black, and their boxes, of labels 1, 2 ..."""
    image = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    return Example(image, np.float32(boxes).reshape(-1, 4), np.arange(1, len(boxes) + 1))


def extent(image):
    """The box of what is white."""
    rows, columns = np.nonzero(image[..., 0] > 190)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_image_and_boxes_move_together():
    """Case 126: over 200 seeds and all steps the box is the extent of the white rectangle, within a pixel."""
    example, moved, sizes = white(100, 80, (20, 30, 60, 50)), 0, set()
    settings = ALL.model_copy(update={"photometric": False})
    for seed in range(200):
        image, boxes, labels = augmented(example, settings, (0.0, 0.0, 0.0), draws(seed))
        sizes.add(image.shape)
        if len(boxes):
            assert np.abs(boxes[0] - extent(image)).max() <= 1
            assert labels.tolist() == [1]
            assert (boxes >= 0).all()
            assert boxes[0, 2] <= image.shape[1]
            assert boxes[0, 3] <= image.shape[0]
            moved += not np.array_equal(boxes, example.boxes)
    assert moved > 100
    assert len(sizes) > 100


def test_mirroring_by_hand():
    image, boxes, _ = mirrored(white(100, 80, (20, 30, 60, 50)))
    assert boxes.tolist() == [[40, 30, 80, 50]]
    assert extent(image) == [40, 30, 80, 50]


def test_the_same_generator_draws_the_same_and_another_draws_otherwise():
    """Case 125: the draws belong to the image of the training, not to whoever draws them."""
    example = white(100, 80, (20, 30, 60, 50))
    results = [augmented(example, ALL, FILL, draws(seed)) for seed in (1, 1, 2)]
    for first, second in zip(*results[:2], strict=True):
        np.testing.assert_array_equal(first, second)
    assert any(first.shape != other.shape or (first != other).any()
               for first, other in zip(results[0], results[2], strict=True))


@pytest.mark.parametrize("off", [
    {"photometric": False}, {"expand": 1.0}, {"crops": []}, {"mirror": 0.0}, {"interpolation": False},
])
def test_each_step_can_be_switched_off_alone(off):
    """What is off changes some images; the draws of the other steps stay what they were."""
    example, fewer, different = white(100, 80, (20, 30, 60, 50)), ALL.model_copy(update=off), 0
    view = Square(side=64)
    for seed in range(40):
        results = []
        for settings in (ALL, fewer):
            random = draws(seed)
            made = augmented(example, settings, FILL, random)
            results.append(augment.scaled(made, view.view(made.image.shape[1], made.image.shape[0]), settings, random))
        different += not np.array_equal(results[0].image, results[1].image)
    assert 5 < different < 40
    for seed in range(40):
        plain = augmented(example, NONE, FILL, draws(seed))
        assert all(np.array_equal(value, same) for value, same in zip(plain, example, strict=True))


def test_steps_draw_from_generators_of_their_own():
    example = white(100, 80, (20, 30, 60, 50))
    for seed in range(20):
        with_colours, without = (
            augmented(example, ALL.model_copy(update={"photometric": flag}), FILL, draws(seed))
            for flag in (True, False)
        )
        np.testing.assert_array_equal(with_colours.boxes, without.boxes)


def test_boxes_are_checked_after_the_crop():
    """Cases 128 and 129: clipped to the patch, those outside go with their label, none left is no error."""
    example = white(200, 200, (0, 0, 200, 200), (0, 0, 40, 40))
    image, boxes, labels = cut(example, np.float32([50, 50, 200, 200]))
    assert image.shape == (150, 150, 3)
    assert (boxes.tolist(), labels.tolist()) == ([[0, 0, 150, 150]], [1])
    boxes, labels = cut(white(100, 100, (10, 10, 30, 30), (60, 60, 80, 80)), np.float32([0, 0, 50, 50]))[1:]
    assert (boxes.tolist(), labels.tolist()) == ([[10, 10, 30, 30]], [1])
    boxes, labels = cut(white(100, 100, (60, 60, 80, 80), (10, 10, 30, 30)), np.float32([0, 0, 50, 50]))[1:]
    assert (boxes.tolist(), labels.tolist()) == ([[10, 10, 30, 30]], [2])
    image, boxes, labels = cut(white(100, 100, (60, 60, 80, 80)), np.float32([0, 0, 50, 50]))
    assert (boxes.shape, labels.shape) == ((0, 4), (0,))
    assert image.shape == (50, 50, 3)


def test_a_centre_on_the_border_of_a_patch_is_inside():
    boxes = cut(white(100, 100, (40, 40, 60, 60)), np.float32([0, 0, 50, 50]))[1]
    assert boxes.tolist() == [[40, 40, 50, 50]]
    assert len(cut(white(100, 100, (40, 40, 62, 60)), np.float32([0, 0, 50, 50]))[1]) == 0
    boxes = cut(white(100, 100, (40, 40, 60, 60)), np.float32([50, 50, 100, 100]))[1]
    assert boxes.tolist() == [[0, 0, 10, 10]]
    assert len(cut(white(100, 100, (38, 40, 60, 60)), np.float32([50, 50, 100, 100]))[1]) == 0


def test_patches_are_those_of_the_authors():
    """Sides of .3 to 1, half to twice the image's aspect, inside it; the mean area is .46 (facts, measured)."""
    patches = np.concatenate([augment._patches(300, 200, draws(seed)) for seed in range(200)])
    sides = (patches[:, 2:] - patches[:, :2]) / [300, 200]
    assert (patches >= 0).all()
    assert (patches <= np.float32([300, 200, 300, 200]) * (1 + 1e-6)).all()
    area, aspect = sides.prod(axis=1), sides[:, 0] / sides[:, 1]
    assert area.min() >= 0.09 - 1e-6
    assert aspect.min() >= 0.5 - 1e-6
    assert aspect.max() <= 2 + 1e-6
    assert area.mean() == pytest.approx(0.46, abs=0.02)
    assert (area > 0.81).mean() == pytest.approx(1 / 7, abs=0.015)  # a limited aspect keeps the area
    scale = np.sqrt(area)
    bound = (aspect <= scale**2 * (1 + 1e-5)) | (aspect >= scale**-2 * (1 - 1e-5))
    assert bound.mean() == pytest.approx(0.23, abs=0.02)  # the share of draws whose aspect was limited


@pytest.mark.parametrize("minimum", [0.1, 0.5, 0.9])
def test_a_patch_overlaps_an_object_by_the_minimum_or_is_the_whole_image(minimum):
    example, whole = white(300, 200, (60, 40, 250, 180), (5, 5, 20, 20)), 0
    with pytest.MonkeyPatch.context() as patch:
        taken = []
        patch.setattr(augment, "cut", lambda example, patch: taken.append(patch))
        for seed in range(60):
            cropped(example, [minimum], draws(seed))
    for chosen in taken:
        whole += chosen.tolist() == [0, 0, 300, 200]
        assert chosen.tolist() == [0, 0, 300, 200] or iou(chosen[None], example.boxes).max() >= minimum
    assert whole > 10
    assert (whole < 45) == (minimum < 0.9)  # hardly any patch overlaps an object by .9


def test_an_image_without_objects_stays_whole():
    example = white(60, 50)
    for seed in range(10):
        np.testing.assert_array_equal(cropped(example, ALL.crops, draws(seed)).image, example.image)


def test_an_expanded_image_lies_on_a_canvas_of_the_mean():
    example, areas = white(40, 30, (10, 10, 30, 20)), []
    for seed in range(300):
        image, boxes, _ = expanded(example, 4.0, (10.4, 20.6, 30.0), draws(seed))
        left, top = (boxes[0, :2] - [10, 10]).astype(int)
        np.testing.assert_array_equal(image[top : top + 30, left : left + 40], example.image)
        np.testing.assert_array_equal(boxes[0, 2:] - boxes[0, :2], [20, 10])
        outside = np.ones(image.shape[:2], bool)
        outside[top : top + 30, left : left + 40] = False
        assert (image[outside] == [10, 21, 30]).all()
        areas.append(image.shape[0] * image.shape[1] / 1200)
    assert min(areas) < 1.2
    assert 14 < max(areas) <= 16


def test_colours_by_hand():
    """Brightness is added, contrast and saturation are factors, all cut to 0 to 255 at each step."""
    grey = np.full((4, 4, 3), 100, np.uint8)
    np.testing.assert_array_equal(augment.tone(grey, 1, 32), grey + 32)
    np.testing.assert_array_equal(augment.tone(grey, 0.5, 0), grey // 2)
    assert augment.tone(grey, 1.5, 200).max() == 255
    assert augment.tone(grey, 1, -120).max() == 0
    random, seen = np.random.default_rng(0), []
    noise = random.integers(30, 220, (20, 20, 3), np.uint8)
    for seed in range(200):
        changed = distorted(noise, draws(seed))
        assert changed.dtype == np.uint8
        seen.append(not np.array_equal(changed, noise))
        # Hue moves by at most 36 degrees, 18 of OpenCV's steps; colours without saturation have none to move.
        greys = distorted(grey, draws(seed)).reshape(-1, 3).astype(int)
        assert np.ptp(greys, axis=1).max() <= 1
    assert np.mean(seen) == pytest.approx(1 - 0.5**4, abs=0.06)  # each of the four steps in half of the images
    before = cv2.cvtColor(noise, cv2.COLOR_RGB2HSV)[..., 0].astype(int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augment, "BRIGHTNESS", 0)
        moves = []
        for seed in range(60):
            after = cv2.cvtColor(distorted(noise, draws(seed)), cv2.COLOR_RGB2HSV)[..., 0].astype(int)
            moves.append(np.median(np.abs((after - before + 90) % 180 - 90)))
    assert 12 < max(moves) <= 19


def test_scaling_draws_one_of_five_ways_and_moves_the_boxes_by_both_factors():
    example = white(100, 50, (20, 10, 60, 30))
    example = example._replace(image=np.random.default_rng(0).integers(0, 255, (50, 100, 3), np.uint8))
    view, ways = Square(side=80).view(100, 50), set()
    for seed in range(60):
        made = augment.scaled(example, view, ALL, draws(seed))
        np.testing.assert_allclose(made.boxes, [[16, 16, 48, 48]])
        ways.add(made.image.tobytes())
    assert len(ways) == 5
    linear = augment.scaled(example, view, NONE, draws(0))
    np.testing.assert_array_equal(linear.image, view.image(example.image))


@pytest.mark.parametrize("crops", [[1.5], [0.5, -0.1]])
def test_a_minimum_iou_that_no_patch_can_have_is_refused(crops):
    """Case 124: it would be drawn for in vain, silently."""
    with pytest.raises(ValueError, match=r"(?s)crops.*Input should be (less|greater) than or equal to"):
        Augmentation(**{**ALL.model_dump(), "crops": crops})


class Drawn:
    """A generator of numbers that a test chooses: coins, and by their bounds the uniform ones."""

    def __init__(self, coin, steps, uniform):
        self.coin, self.steps, self.of_bounds = coin, steps, uniform

    def random(self, count=None):
        return self.coin if count is None else np.array(self.steps)

    def uniform(self, low, high, count=None):
        return self.of_bounds[low, high]


@pytest.mark.parametrize(("coin", "steps", "expected"), [
    (0.6, "", (200, 50, 50)), (0.6, "b", (220, 70, 70)), (0.6, "c", (255, 75, 75)), (0.6, "s", (200, 125, 125)),
    (0.6, "h", (200, 125, 50)), (0.6, "bcs", (255, 180, 180)), (0.4, "bcs", (255, 217, 217)), (0.4, "c", (255, 75, 75)),
])
def test_each_colour_step_by_hand_and_their_order(coin, steps, expected):
    """SSD's facts, §7, A: brightness first; contrast next, or last, by a coin. Bounds 32, 18 steps, 0.5 to 1.5."""
    image = np.full((2, 2, 3), (200, 50, 50), np.uint8)
    random = Drawn(coin, [0.4 if name in steps else 0.6 for name in "bcsh"], {
        (-32, 32): 20.0, (-18, 18): 15.0, (0.5, 1.5): (1.5, 0.5)})
    np.testing.assert_allclose(distorted(image, random)[0, 0].astype(int), expected, atol=2)


def test_a_hue_below_0_stays_0():
    image = np.full((2, 2, 3), (200, 50, 50), np.uint8)
    random = Drawn(0.6, [0.6, 0.6, 0.6, 0.4], {(-32, 32): 0.0, (-18, 18): -15.0, (0.5, 1.5): (1.0, 1.0)})
    np.testing.assert_allclose(distorted(image, random)[0, 0].astype(int), (200, 50, 50), atol=2)


def test_half_of_the_images_lie_anywhere_on_a_canvas():
    example, places, larger = white(40, 30, (10, 10, 30, 20)), [], 0
    settings = NONE.model_copy(update={"expand": 4.0})
    for seed in range(400):
        image, boxes, _ = augmented(example, settings, FILL, draws(seed))
        larger += image.shape != (30, 40, 3)
        rest = np.array(image.shape[1::-1]) - [40, 30]
        places += [(boxes[0, :2] - [10, 10]) / rest] if rest.min() > 10 else []
    assert 165 < larger < 235
    assert np.mean(places, axis=0) == pytest.approx([0.5, 0.5], abs=0.1)
    assert abs(np.corrcoef(np.transpose(places))[0, 1]) < 0.25


def test_patches_lie_anywhere_and_each_minimum_may_have_one():
    """Six minima that any patch reaches: the whole image is one of seven."""
    patches = np.concatenate([augment._patches(300, 200, draws(seed)) for seed in range(40)])
    rest = [300, 200] - (patches[:, 2:] - patches[:, :2])
    smaller = (rest > 1).all(axis=1)
    assert (patches[smaller, :2] / rest[smaller]).mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.03)
    example = white(300, 200, (60, 40, 250, 180))
    whole = [cropped(example, [0.0] * 6, draws(seed)).image.shape == (200, 300, 3) for seed in range(400)]
    assert np.mean(whole) == pytest.approx(1 / 7, abs=0.05)


def test_many_trials_are_made_for_a_patch():
    """Few patches overlap a small object by a tenth: one trial would hardly find one."""
    example = white(300, 200, (20, 20, 80, 70))
    whole = [cropped(example, [0.1], draws(seed)).image.shape == (200, 300, 3) for seed in range(100)]
    assert np.mean(whole) < 0.65


def test_corner_and_sides_of_a_patch_are_cut_to_whole_pixels():
    image, boxes, _ = cut(white(100, 100, (20, 20, 40, 40)), np.float32([10.7, 11.2, 50.2, 60.8]))
    assert image.shape == (49, 39, 3)
    assert boxes.tolist() == [[10, 9, 30, 29]]
    assert extent(image) == [10, 9, 30, 29]
