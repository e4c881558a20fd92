import numpy as np
import pytest

from lib.boxes.anchors import AnchorGrid, Level, inside
from lib.boxes.assign import POSITIVE, assign
from lib.boxes.boxes import iou
from lib.boxes.coding import encode


def old_on_map(first, height, width, stride):
    """The formula that RPN's anchors were made by."""
    y, x = np.mgrid[:height, :width].astype(np.float32) * np.float32(stride)
    shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return np.asarray((shifts + first).reshape(-1, 4), np.float32)


def centred(sides, centre):
    """float32 (A, 4): boxes of these widths and heights round a point."""
    half = np.array(sides) / 2
    return np.hstack([centre - half, centre + half]).astype(np.float32)


def ssd300():
    """SSD300 for VOC (facts of SSD, §3): a square, one of the geometric mean, then each ratio and its flip."""
    levels = []
    for step, low, high, ratios in (
        (8, 30, 60, [2]), (16, 60, 111, [2, 3]), (32, 111, 162, [2, 3]), (64, 162, 213, [2, 3]), (100, 213, 264, [2]),
        (300, 264, 315, [2]),
    ):
        flips = [aspect for ratio in ratios for aspect in (ratio, 1 / ratio)]
        sides = [(low, low), (np.sqrt(low * high),) * 2, *((low * np.sqrt(r), low / np.sqrt(r)) for r in flips)]
        levels.append(Level(step, centred(sides, step / 2)))
    return AnchorGrid(levels)


def retinanet():
    """RetinaNet (facts, §4): strides 8 to 128, 3 octaves, 3 ratios, round the middle of the cell."""
    levels = []
    for stride in (8, 16, 32, 64, 128):
        sizes = [4 * stride * 2**octave for octave in (0, 1 / 3, 2 / 3)]
        sides = [(size / ratio**0.5, size * ratio**0.5) for size in sizes for ratio in (0.5, 1, 2)]
        levels.append(Level(stride, centred(sides, stride / 2)))
    return AnchorGrid(levels)


SSD_MAPS = [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]


def test_cells_row_by_row_and_anchors_innermost_level_after_level():
    first = np.float32([[-4, -2, 12, 10], [0, 0, 8, 8], [1, 2, 3, 4.5]])
    grid = AnchorGrid([Level(16, first), Level(32, first[:2])])
    anchors = grid([(3, 5), (2, 1)])
    assert grid.per_cell == (3, 2)
    assert grid.counts([(3, 5), (2, 1)]) == [45, 4]
    assert anchors.dtype == np.float32
    for y, x, a in np.ndindex(3, 5, 3):
        np.testing.assert_array_equal(anchors[(y * 5 + x) * 3 + a], first[a] + [16 * x, 16 * y, 16 * x, 16 * y])
    for y, a in np.ndindex(2, 2):
        np.testing.assert_array_equal(anchors[45 + y * 2 + a], first[a] + [0, 32 * y, 0, 32 * y])
    assert grid.level_of([(3, 5), (2, 1)]).tolist() == [0] * 45 + [1] * 4
    assert grid.level_of([(3, 5), (2, 1)]).dtype == np.int64


def test_rows_and_columns_are_not_exchanged_on_an_oblong_image():
    """Case 114: unseen while images are square. Image of 480 x 240, map of 2 x 4 cells, a square of 96 pixels."""
    grid = AnchorGrid([Level(120, np.float32([[12, 12, 108, 108]]))])
    assert grid.sizes(480, 240) == [(2, 4)]
    boxes = grid.of_image(480, 240)
    assert boxes[3].tolist() == [372, 12, 468, 108]
    assert boxes[4].tolist() == [12, 132, 108, 228]


@pytest.mark.parametrize("size", [(1, 1), (0, 7), (23, 38), (37, 62)])
def test_one_level_has_the_bytes_of_the_old_formula(size):
    first = np.random.default_rng(0).normal(0, 90, (9, 4)).astype(np.float32)
    anchors, expected = AnchorGrid([Level(16, first)])([size]), old_on_map(first, *size, 16)
    assert anchors.shape == expected.shape
    assert anchors.tobytes() == expected.tobytes()


def test_ssd_priors_as_the_authors_code_makes_them():
    """Facts of SSD, §3 and §13: counts, first priors, sums, and what crosses the border."""
    grid = ssd300()
    anchors = grid(SSD_MAPS)
    assert len(anchors) == 8732
    assert np.cumsum(grid.counts(SSD_MAPS)).tolist() == [5776, 7942, 8542, 8692, 8728, 8732]
    shares = anchors.astype(np.float64) / 300
    np.testing.assert_allclose(
        shares[:4], [[-0.036667, -0.036667, 0.063333, 0.063333], [-0.057377, -0.057377, 0.084044, 0.084044],
                     [-0.057377, -0.022022, 0.084044, 0.048689], [-0.022022, -0.057377, 0.048689, 0.084044]], atol=1e-6)
    np.testing.assert_allclose(shares[5776 + 4], [-0.146538, -0.031068, 0.199872, 0.084402], atol=1e-6)
    np.testing.assert_allclose(shares[8730], [-0.122254, 0.188873, 1.122254, 0.811127], atol=1e-6)
    assert shares.sum() == pytest.approx(17775.786667, abs=1e-3)
    outside = np.setdiff1d(np.arange(8732), inside(anchors, 300, 300))
    assert np.bincount(grid.level_of(SSD_MAPS)[outside]).tolist() == [1356, 914, 427, 136, 34, 2]


def test_ssd_matching_of_the_facts():
    """Facts of SSD, §13: one object, its best prior and the 13 from 0.5 on."""
    anchors, thing = ssd300()(SSD_MAPS), np.float32([[60, 90, 180, 240]])
    assignment = assign(anchors, thing, 0.5, 0.5, best="one")
    rows = np.flatnonzero(assignment.label == POSITIVE)
    assert rows.tolist() == [8200, 8201, 8203, 8207, 8260, 8261, 8263, 8266, 8267, 8269, 8608, 8609, 8614]
    assert assignment.overlap.argmax() == 8261
    assert assignment.overlap[8261] == pytest.approx(0.765479, abs=1e-6)
    np.testing.assert_allclose(
        encode(anchors[[8261]], thing)[0] / [0.1, 0.1, 0.2, 0.2], [0.596583, -0.820302, -0.555358, 0.560360], atol=1e-4)
    # Below 21 pixels an object keeps its own prior alone (§4).
    small = assign(anchors, np.float32([[96, 96, 104, 104]]), 0.5, 0.5, best="one")
    assert (small.label == POSITIVE).sum() == 1
    assert small.overlap.max() == pytest.approx(0.071, abs=1e-3)


@pytest.mark.parametrize(("size", "total"), [((1024, 640), None), ((1344, 800), 201600), ((1408, 896), 236313)])
def test_retinanet_counts(size, total):
    """Facts of RetinaNet, §4: 201 600 anchors for 800 x 1333 padded to 32, 236 313 padded to 128."""
    grid = retinanet()
    sizes = grid.sizes(*size)
    assert len(grid.of_image(*size)) == sum(grid.counts(sizes))
    if total == 201600:
        assert sizes == [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
    if total is not None:
        assert len(grid.of_image(*size)) == total
    assert set(grid.level_of(sizes)) == set(range(5))
    middle = grid(sizes)[grid.level_of(sizes) == 4][:9].reshape(9, 2, 2).mean(axis=1)
    np.testing.assert_allclose(middle, np.full((9, 2), 64))
    areas = np.prod(np.diff(grid(sizes)[:9].reshape(9, 2, 2), axis=1)[:, 0], axis=1) ** 0.5
    np.testing.assert_allclose(areas, np.repeat([32, 40.317, 50.797], 3), atol=1e-3)


def test_sizes_round_up():
    grid = AnchorGrid([Level(8, np.zeros((1, 4), np.float32)), Level(100, np.zeros((1, 4), np.float32))])
    assert grid.sizes(33, 17) == [(3, 5), (1, 1)]
    assert grid.of_image(33, 17).shape == (16, 4)


def test_an_anchor_that_ends_with_the_image_is_inside():
    edge = np.float32([[0, 0, 32, 16], [0, 0, 32.5, 16], [-0.5, 0, 31, 16], [0, 0, 32, 16.5]])
    assert inside(edge, 32, 16).tolist() == [0]


def test_grids_are_kept_by_size_and_protected():
    grid = AnchorGrid([Level(16, np.float32([[0, 0, 16, 16]])), Level(32, np.float32([[0, 0, 32, 32]]))])
    first = grid([(3, 4), (2, 2)])
    assert grid([(3, 4), (2, 2)]) is first
    assert grid([(4, 3), (2, 2)]) is not first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    for height in range(5, 5 + grid.cached_grids):
        grid([(height, 1), (1, 1)])
    np.testing.assert_array_equal(grid([(3, 4), (2, 2)]), first)
    assert iou(first, first).shape == (16, 16)


def test_as_many_maps_as_levels():
    for ask in (ssd300(), ssd300().counts, ssd300().level_of):
        with pytest.raises(ValueError, match="5 maps for 6 levels"):
            ask(SSD_MAPS[:5])
