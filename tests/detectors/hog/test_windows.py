"""Sizes of windows by hand and by voc-dpm, how well they fit, random draws."""

import numpy as np
import pytest
from pydantic import ValidationError

from lib.boxes.boxes import iou
from lib.detectors.hog.features import DalalTriggs
from lib.detectors.hog.pyramid import Level, Pyramid, Template, boxes
from lib.detectors.hog.windows import (
    WindowSettings,
    best_overlaps,
    common_aspect,
    counts,
    drawn,
    groups,
    template,
)
from tests.detectors.hog.test_features import PAPER

BLOCKS = DalalTriggs(**PAPER)
SETTINGS = {
    "components": 1, "percentile": 0.2, "cells": [46.875, 78.125], "margin": 0, "smallest": 0.25, "aspect": "warped",
    "copies": 1, "mirror": False, "negatives": 10, "apart": 0.3,
}


def settings(**others):
    return WindowSettings(**{**SETTINGS, **others})


def objects(width, height, count=10):
    return np.float32([[5, 7, 5 + width, 7 + height]] * count)


@pytest.mark.parametrize(
    ("width", "height", "aspect", "rows", "columns"),
    [(50, 100, 2.01375, 13, 6), (40, 40, 1.0, 7, 7), (120, 60, 0.49659, 6, 13)],
)
def test_sizes_of_voc_dpm(width, height, aspect, rows, columns):
    """Ten equal boxes; areas of 3000 and 5000 pixels are the limits."""
    assert common_aspect(objects(width, height)) == pytest.approx(aspect, abs=1e-5)
    shape = template(3, objects(width, height), settings(), cell=8)
    assert (shape.label, shape.rows, shape.columns, shape.margin) == (3, rows, columns, 0)
    wider = template(3, objects(width, height), settings(margin=2), cell=8)
    assert (wider.rows, wider.columns) == (rows + 4, columns + 4)


def test_the_area_is_that_of_the_fifth_smallest_of_25_and_of_the_smallest_of_few():
    sides = np.arange(56.0, 81.0)
    boxes_ = np.stack([0 * sides, 0 * sides, sides, sides], 1).astype(np.float32)
    any_area = settings(cells=[9.0, 9999.0])
    assert template(0, boxes_, any_area, 4).rows == 15  # 60 pixels
    assert template(0, boxes_[-3:], any_area, 2).rows == 39  # 78


@pytest.mark.parametrize(("count", "rank"), [(1, 1), (3, 1), (4, 1), (5, 1), (7, 1), (8, 2), (9, 2), (13, 3), (15, 3)])
def test_the_rank_of_the_area_is_that_among_objects_and_their_mirror_images(count, rank):
    """DPM: the floor(0.2 * 2n)-th smallest, the first at least; squares of 40, 42 ... pixels in cells of 2."""
    sides = 40.0 + 2 * np.arange(count)
    squares = np.stack([0 * sides, 0 * sides, sides, sides], 1).astype(np.float32)
    assert template(0, squares, settings(cells=[9.0, 9999.0]), 2).rows == 19 + rank


def test_an_even_count_of_two_aspects_takes_the_flatter():
    mixed = np.concatenate([objects(50, 100), objects(100, 50)])
    assert common_aspect(mixed) == pytest.approx(np.exp(-0.70), rel=1e-5)


def test_groups_by_aspect_of_equal_size():
    shapes = np.concatenate([objects(10, 30, 2), objects(30, 10, 2), objects(20, 20, 2)])
    assert [part.tolist() for part in groups(shapes, 3)] == [[2, 3], [4, 5], [0, 1]]
    assert [len(part) for part in groups(shapes, 4)] == [2, 2, 1, 1]
    assert [part.tolist() for part in groups(shapes[:1], 3)] == [[0]]


def levels(width, height, upscale=1.0, octave=4, step=None):
    if step is None:
        return Pyramid(upscale=upscale, octave=octave, least=5, padding=0).levels(width, height, BLOCKS)
    made, scale = [], upscale
    while min(width, height) * scale >= 40:
        sides = round(width * scale), round(height * scale)
        grid = BLOCKS.grid(sides[1], sides[0])
        made.append(Level(*sides, sides[0] / width, sides[1] / height, *BLOCKS.size(*grid)))
        scale /= step
    return made


def test_no_window_fits_the_object():
    """Case 144: a window of 64 x 128, an object of 30 x 60 pixels; steps of 1.2."""
    person, small = Template(0, 16, 8, 0), np.float32([[100, 60, 130, 120]])
    once = best_overlaps(small, person, levels(320, 240, step=1.2), BLOCKS, 0)
    assert once[0] == pytest.approx(0.220, abs=5e-4)
    twice = best_overlaps(small, person, levels(320, 240, upscale=2.0, step=1.2), BLOCKS, 0)
    assert twice[0] == pytest.approx(0.879, abs=5e-4)


@pytest.mark.parametrize(("width", "height", "best"), [(160, 160, 0.547), (240, 120, 0.333)])
def test_a_window_of_another_shape_fits_at_no_scale(width, height, best):
    """Case 144: 1:2 against a square, and against 2:1."""
    other = np.float32([[320 - width / 2, 240 - height / 2, 320 + width / 2, 240 + height / 2]])
    overlap = best_overlaps(other, Template(0, 16, 8, 0), levels(640, 480, octave=40), BLOCKS, 0)[0]
    assert best - 0.03 < overlap <= best + 1e-3


def test_the_best_overlap_is_that_of_all_windows():
    """Against all windows of all levels; objects at the border too, whose windows are cut there."""
    random = np.random.default_rng(0)
    corners = random.uniform([0, 0], [240, 150], (40, 2))
    shapes = np.hstack([corners, corners + random.uniform(20, 90, (40, 2))]).astype(np.float32)
    shapes[:2] = [[0, 0, 50, 60], [260, 180, 320, 240]]
    shape, sizes, padding = Template(0, 9, 7, 1), levels(320, 240, upscale=2.0), 2
    best = best_overlaps(shapes, shape, sizes, BLOCKS, padding)
    every = np.zeros(len(shapes))
    for level, (down, across) in zip(sizes, counts(shape, sizes, BLOCKS, padding).tolist(), strict=True):
        row, column = (part.ravel() - padding for part in np.mgrid[:down, :across])
        if len(row):
            windows = boxes(shape, level, row, column, 8, 0)
            every = np.maximum(every, iou(shapes, windows).max(axis=1))
    np.testing.assert_allclose(best, every, atol=1e-6)


def test_random_windows_are_distinct_and_everywhere():
    shape, sizes = Template(0, 9, 7, 1), levels(160, 120, octave=2)
    total = int(counts(shape, sizes, BLOCKS, 1).prod(axis=1).sum())
    every, windows = drawn(shape, sizes, BLOCKS, 1, 10**6, np.random.default_rng(0))
    assert len(every) == len({tuple(at) for at in every.tolist()}) == total
    assert every[:, 1:].min() == -1, "from the padding on"
    assert (every[:, 1:] + 1 < counts(shape, sizes, BLOCKS, 1)[every[:, 0]]).all()
    for (level, row, column), window in zip(every.tolist(), windows, strict=True):
        np.testing.assert_array_equal(window, boxes(shape, sizes[level], np.array([row]), np.array([column]), 8, 0)[0])
    few = drawn(shape, sizes, BLOCKS, 1, 20, np.random.default_rng(0))
    assert len(few[0]) == len(few[1]) == 20
    for first, second in zip(few, drawn(shape, sizes, BLOCKS, 1, 20, np.random.default_rng(0)), strict=True):
        np.testing.assert_array_equal(first, second)
    assert [part.shape for part in drawn(shape, [], BLOCKS, 1, 20, np.random.default_rng(0))] == [(0, 3), (0, 4)]


@pytest.mark.parametrize("others", [{"cells": [5.0, 60.0]}, {"cells": [60.0, 50.0]}, {"cells": [60.0]}, {"copies": 0}])
def test_settings_out_of_range_are_refused(others):
    with pytest.raises(ValidationError):
        settings(**others)
