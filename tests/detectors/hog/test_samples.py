"""Positives: where they are cut, how they are stretched, moved and mirrored; negatives from the store."""

import numpy as np
import pytest

from lib.detectors.hog import samples as samples_of
from lib.detectors.hog.features import DalalTriggs, Felzenszwalb
from lib.detectors.hog.occupied import Occupied
from lib.detectors.hog.pyramid import Pyramid, Template
from lib.detectors.hog.samples import Collection, aligned, moved, warped
from lib.images.image_set import ImageSet
from tests.detectors.hog import shapes_on_disk as shapes
from tests.detectors.hog.test_features import DPM, PAPER, noise
from tests.detectors.hog.test_windows import settings

BLOCKS, CELLS = DalalTriggs(**PAPER), Felzenszwalb(**DPM)
SHAPE = Template(0, 6, 4, 1)  # an object of 4 x 2 cells


@pytest.mark.parametrize("features", [BLOCKS, CELLS])
def test_a_positive_of_the_templates_size_is_the_window_there(features):
    """An object of 32 x 16 pixels on the grid of cells: the same numbers as in the image's own places."""
    image = noise(96, 96)
    box = np.array([32, 24, 48, 56])
    high, wide = SHAPE.places(features)
    row, column = 24 // 8 - 1 - features.first, 32 // 8 - 1 - features.first
    expected = features(image)[row : row + high, column : column + wide].reshape(-1)
    np.testing.assert_allclose(warped(image, box, SHAPE, features), expected, atol=1e-6)


def test_a_larger_object_is_shrunk_by_areas():
    """Every pixel of a small image as 3 x 3: shrunk again it is the small one."""
    small = noise(96, 96)
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    box = np.array([32, 24, 48, 56])
    np.testing.assert_allclose(
        warped(large, 3 * box, SHAPE, BLOCKS), warped(small, box, SHAPE, BLOCKS), atol=1e-6
    )


def test_one_axis_shrinks_while_the_other_grows():
    """An object 128 wide and 16 high, seen at 16 x 32: its columns are means of eight, as if it had been so narrow."""
    image = noise(96, 800)
    narrow = np.rint(image.reshape(96, 100, 8, 3).mean(axis=2)).astype(np.uint8)
    expected = warped(narrow, np.array([38, 40, 54, 56]), SHAPE, BLOCKS)
    np.testing.assert_allclose(warped(image, np.array([304, 40, 432, 56]), SHAPE, BLOCKS), expected, atol=1e-6)


def test_an_object_at_the_border_sees_its_border_go_on():
    image = np.full((60, 80, 3), 70, np.uint8)
    assert not warped(image, np.array([-5, 0, 11, 40]), SHAPE, BLOCKS).any()


def test_kept_aspect_keeps_centre_and_area():
    box = aligned(np.float32([10, 20, 50, 60]), SHAPE)
    sides = box[2:] - box[:2]
    assert sides[1] / sides[0] == pytest.approx(2)
    assert sides.prod() == pytest.approx(1600)
    np.testing.assert_allclose((box[:2] + box[2:]) / 2, [30, 40])


def test_moved_boxes_stay_within_half_a_cell_and_half_a_level():
    box, random = np.array([10.0, 20, 30, 60]), np.random.default_rng(0)  # cells of 10 pixels
    others = np.array([moved(box, SHAPE, 4, random) for _ in range(500)])
    shift = (others[:, :2] + others[:, 2:]) / 2 - [20, 40]
    scale = (others[:, 2:] - others[:, :2]) / [20, 40]
    assert np.abs(shift).max() <= 5
    assert np.abs(shift).max(axis=0).min() > 4.8
    assert np.abs(np.log2(scale)).max() <= 1 / 8
    assert np.abs(np.log2(scale)).max() > 0.12
    np.testing.assert_allclose(scale[:, 0], scale[:, 1])


def occupied(folder, images):
    return Occupied.read(folder / "tables", images.ids, images.classes)


def collected(folder, **others):
    shapes.write(folder, train=6, test=0)
    images, sizes = ImageSet(str(folder), folder / "tables"), Pyramid(upscale=2.0, octave=2, least=5, padding=0)
    values = settings(**{"negatives": 13, "margin": 1, **others})
    collection = Collection(images, occupied(folder, images), BLOCKS, sizes, values)
    for number in range(len(images)):
        collection.add(number, np.random.default_rng(number))
    return collection, collection.samples()


def test_samples_of_all_templates(tmp_path):
    collection, samples = collected(tmp_path)
    counts = [row["objects"] for row in collection.fit()]
    assert sum(counts) == 8
    assert [len(part) for part in samples["positives"]] == counts
    assert all(10 <= len(part) <= 13 for part in samples["negatives"])
    for rows in samples["negatives"]:
        assert len(np.unique(rows, axis=0)) == len(rows)
        assert (np.bincount(rows[:, 0], minlength=6) <= [2, 2, 2, 2, 2, 3]).all(), "every image has its share"


def test_copies_and_mirrored_ones(tmp_path):
    alone = collected(tmp_path)[1]["positives"]
    more = collected(tmp_path, copies=3, mirror=True)[1]["positives"]
    for own, others in zip(alone, more, strict=True):
        assert len(others) == 6 * len(own)
        np.testing.assert_array_equal(others[::6], own)
        assert len(np.unique(others, axis=0)) == len(others)


@pytest.mark.parametrize("aspect", ["kept", "warped"])
def test_a_positive_is_the_aligned_box_or_the_object_itself(tmp_path, monkeypatch, aspect):
    """Square objects under a template of 7 x 4 cells."""
    shapes.write(tmp_path, train=1, test=0)
    images, sizes = ImageSet(str(tmp_path), tmp_path / "tables"), Pyramid(upscale=2.0, octave=2, least=5, padding=0)
    values = settings(negatives=1, margin=1, aspect=aspect)
    monkeypatch.setattr(samples_of, "template", lambda label, *_: Template(label, 9, 6, 1))
    collection = Collection(images, occupied(tmp_path, images), BLOCKS, sizes, values)
    collection.add(0, np.random.default_rng(0))
    box = images.objects(images.ids[0])[0][0]
    box = aligned(box, collection.templates[0]) if aspect == "kept" else box
    expected = warped(images.image(images.ids[0]), box, collection.templates[0], BLOCKS)
    np.testing.assert_allclose(collection.samples()["positives"][0][0], expected, atol=1e-3)


def test_memory_is_of_the_positives_as_they_are_saved(tmp_path):
    """Three times 2 bytes for each of their numbers; no image is read for it."""
    collection, samples = collected(tmp_path, copies=3, mirror=True)
    assert collection.memory == 6 * sum(part.size for part in samples["positives"]) > 0


def test_groups_share_the_objects(tmp_path):
    kept = collected(tmp_path, aspect="kept", components=2)
    rows = kept[0].fit()
    assert sum(row["objects"] for row in rows) == 8
    assert len(rows) == 4
    assert [row["positives"] for row in rows] == [len(part) for part in kept[1]["positives"]]


def test_small_objects_teach_nothing(tmp_path):
    _, samples = collected(tmp_path, smallest=4.0)
    assert [len(part) for part in samples["positives"]] == [0, 0]
