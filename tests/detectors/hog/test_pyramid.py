"""Levels, windows and the store of places."""

import tracemalloc

import numpy as np
import pytest

from lib.detectors.hog.features import DalalTriggs, Felzenszwalb
from lib.detectors.hog.pyramid import (
    NAME,
    Level,
    Pyramid,
    Store,
    Template,
    boxes,
    describe,
    memory,
    padded,
    sources,
)
from lib.detectors.hog.windows import counts
from lib.stage.errors import InputError
from lib.storage import shards
from tests.detectors.hog.test_features import DPM, PAPER, noise

BLOCKS, CELLS = DalalTriggs(**PAPER), Felzenszwalb(**DPM)


def pyramid(**others):
    return Pyramid(**{"upscale": 1.0, "octave": 4, "least": 5, "padding": 0, **others})


def test_levels_by_hand():
    """160 x 96 pixels, two levels an octave, until the shorter side has fewer than 5 cells of 8."""
    levels = pyramid(octave=2).levels(160, 96, BLOCKS)
    assert [(level.width, level.height) for level in levels] == [(160, 96), (113, 68), (80, 48)]
    assert [(level.rows, level.columns) for level in levels] == [(11, 19), (8, 13), (5, 9)]
    assert (levels[1].x, levels[1].y) == (113 / 160, 68 / 96)
    doubled = pyramid(octave=2, upscale=2.0).levels(160, 96, BLOCKS)
    assert [(level.width, level.height) for level in doubled[:2]] == [(320, 192), (226, 136)]
    assert doubled[2:] == levels
    assert len(pyramid(octave=2).levels(160, 96, BLOCKS, octave=8)) == 12


def test_dalal_and_triggs_count_of_windows():
    """A person's window of 8 x 16 cells in 640 x 480: 72 columns and 45 rows at the first level."""
    levels = pyramid().levels(640, 480, BLOCKS)
    assert counts(Template(0, 16, 8, 0), levels, BLOCKS, 0)[0].tolist() == [45, 73]
    cells = pyramid().levels(640, 480, CELLS)
    assert counts(Template(0, 16, 8, 0), cells, CELLS, 0)[0].tolist() == [43, 71], "its border cells are lost"


@pytest.mark.parametrize("features", [BLOCKS, CELLS])
def test_an_image_below_the_window_has_no_windows(features):
    """Case 140: 77 x 101 pixels, a window of 64 x 128."""
    levels = pyramid().levels(77, 101, features)
    assert counts(Template(0, 16, 8, 0), levels, features, 0).prod(axis=1).tolist() == [0] * len(levels)
    assert pyramid().levels(20, 300, features) == []
    assert counts(Template(0, 16, 8, 0), [], features, 0).shape == (0, 2)


def test_a_level_is_the_described_image_of_its_size():
    image = noise(96, 160)
    levels = pyramid(octave=1).levels(160, 96, BLOCKS)
    first, second = describe(image, levels, BLOCKS)
    np.testing.assert_array_equal(first, BLOCKS(image))
    halves = image.reshape(48, 2, 80, 2, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(second, BLOCKS(np.floor(halves + 0.5).astype(np.uint8)))


@pytest.mark.parametrize("octave", [1, 3, 5])
def test_small_levels_come_from_one_of_twice_their_size(octave):
    """Nearly the same features as from the image itself, in a fraction of the time."""
    image = noise(200, 320)
    levels = pyramid(octave=octave).levels(320, 200, BLOCKS)
    for level, places in zip(levels, describe(image, levels, BLOCKS), strict=True):
        assert places.shape == (level.rows, level.columns, 36)
    (alone,) = describe(image, levels[-1:], BLOCKS)
    assert np.abs(alone - places).mean() < 0.02


def test_sources_by_hand():
    """Two levels an octave: 160 x 96, 113 x 68 and halves of them; a doubled image is no source of a smaller one."""
    levels = pyramid(octave=2, upscale=2.0).levels(160, 160, BLOCKS)
    assert [level.width for level in levels] == [320, 226, 160, 113, 80, 57, 40]
    assert sources(levels) == [None, None, None, None, 2, 3, 4]


@pytest.mark.parametrize("others", [{}, {"gamma": "sqrt"}], ids=str)
def test_memory_is_what_describing_takes(others):
    """NumPy's own count, from the image to its places in half precision."""
    features, image = DalalTriggs(**{**PAPER, **others}), noise(300, 400)
    levels = pyramid(octave=5, upscale=2.0).levels(400, 300, features)
    list(describe(image, levels[-1:], features))
    tracemalloc.start()
    kept = [places.astype(np.float16) for places in describe(image, levels, features)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) == len(levels)
    assert peak / 1.3 < memory(levels, features) < 1.3 * peak


def test_boxes_by_hand():
    """The window at row 2, column 3 of a level of half size; a cell is 16 pixels of the image."""
    level = Level(80, 64, 0.5, 0.5, 7, 9)
    window = boxes(Template(0, 6, 4, 1), level, np.array([2]), np.array([3]), 8, 0)
    assert window.tolist() == [[(3 + 1) * 16, (2 + 1) * 16, (3 + 4 - 1) * 16, (2 + 6 - 1) * 16]]
    later = boxes(Template(0, 6, 4, 1), level, np.array([2]), np.array([3]), 8, 1)
    assert (later - window).tolist() == [[16, 16, 16, 16]], "Felzenszwalb's first cell is the second"


def test_a_window_over_the_border_stands_for_what_is_in_the_image():
    """As at test, where detections are cut to the image: 160 x 96 pixels, cells of 16, windows of 4 x 2 of them."""
    level, shape = Level(80, 48, 0.5, 0.5, 5, 9), Template(0, 6, 4, 1)
    rows, columns = np.array([-3, 3, -6]), np.array([-2, 8, 0])
    expected = [[0, 0, 16, 32], [144, 64, 160, 96], [16, 0, 48, 0]]
    assert boxes(shape, level, rows, columns, 8, 0).tolist() == expected


@pytest.mark.parametrize("features", [BLOCKS, CELLS])
def test_a_window_sees_its_own_pixels(features):
    """What is painted inside a window's box, margin and border cells included, moves it; what is outside does not."""
    image = noise(96, 160)
    shape, (level,) = Template(0, 5, 5, 1), pyramid(octave=1).levels(160, 96, features)[:1]
    before, (high, wide) = features(image), shape.places(features)
    x1, y1, x2, y2 = boxes(shape, level, np.array([3]), np.array([6]), 8, features.first)[0].astype(int)
    inside, outside = image.copy(), image.copy()
    inside[(y1 + y2) // 2, (x1 + x2) // 2] ^= 255
    border = 8 * shape.margin + 9 + 8 * features.first  # the normalisation sees a cell further, a gradient a pixel
    outside[:, : x1 - border], outside[:, x2 + border :] = 0, 0
    outside[: y1 - border], outside[y2 + border :] = 0, 0
    of = lambda pixels: features(pixels)[3 : 3 + high, 6 : 6 + wide]  # noqa: E731
    assert np.abs(of(inside) - before[3 : 3 + high, 6 : 6 + wide]).max() > 0.01
    np.testing.assert_array_equal(of(outside), before[3 : 3 + high, 6 : 6 + wide])


def test_padding_is_empty_and_marked_where_there_is_a_mark():
    for features in (BLOCKS, CELLS):
        around = padded(np.ones((2, 3, features.width), np.float16), features, 2)
        assert around.shape == (6, 7, features.width)
        assert around.dtype == np.float32
        assert (around[2:4, 2:5] == 1).all()
        border = np.ones((6, 7), bool)
        border[2:4, 2:5] = False
        assert around[border].sum() == (border.sum() if features is CELLS else 0)


def written(folder, image, sizes, features=BLOCKS):
    levels = sizes.levels(image.shape[1], image.shape[0], features)
    places = np.concatenate([part.reshape(-1, features.width) for part in describe(image, levels, features)])
    index = shards.plan(["a.jpg"], [shards.Rows({NAME: np.ones(len(places), bool)})], {NAME: features.width}, 2**20)
    writer = shards.Writer(folder, index, {NAME: features.width})
    writer.append({NAME: places})
    writer.close()


def test_a_store_gives_back_the_levels_in_half_precision(tmp_path):
    image, sizes = noise(96, 160), pyramid(padding=1)
    written(tmp_path, image, sizes)
    store = Store(tmp_path, BLOCKS, sizes)
    levels = store.levels((160, 96))
    stored = store.read("a.jpg", (160, 96))
    assert len(stored) == len(levels)
    for places, own in zip(stored, describe(image, levels, BLOCKS), strict=True):
        np.testing.assert_allclose(places[1:-1, 1:-1], own, atol=5e-4)


def test_a_store_of_another_pyramid_is_refused(tmp_path):
    written(tmp_path, noise(96, 160), pyramid())
    with pytest.raises(InputError, match=r"holds \d+ places of a.jpg, the pyramid has \d+.*dvc repro"):
        Store(tmp_path, BLOCKS, pyramid(octave=5)).read("a.jpg", (160, 96))
    with pytest.raises(InputError, match="other features|holds"):
        Store(tmp_path, CELLS, pyramid()).read("a.jpg", (160, 96))
