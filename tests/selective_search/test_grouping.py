import numpy as np
import pytest

from lib.selective_search import edges, texture
from lib.selective_search.grouping import group
from lib.selective_search.regions import Regions, describe
from lib.selective_search.segmentation import segment
from tests.selective_search import search_twin
from tests.selective_search.test_segmentation import patches


def prepared(seed, shape, channels=3, k=20.0, connectivity=8, colour_bins=25, texture_bins=10):
    planes = np.ascontiguousarray(patches(seed, shape)[:channels])
    keys = edges.weigh(edges.smooth(planes, 0.8), connectivity)
    labels, pairs = segment(*edges.ascending(keys), keys.shape[1:], k, 3)
    bins = texture.bins(planes, colour_bins, texture_bins, 0.5)
    return planes, labels, pairs, describe([labels], *bins, colour_bins, texture_bins)[0]


@pytest.mark.parametrize(
    ("colour_bins", "texture_bins", "channels"), [(25, 10, 3), (25, 10, 1), (7, 1, 3), (256, 3, 1)]
)
def test_histograms_are_those_of_the_twin(colour_bins, texture_bins, channels):
    planes, labels, _, regions = prepared(0, (19, 22), channels, colour_bins=colour_bins, texture_bins=texture_bins)
    for label in range(labels.max() + 1):
        colour, directed = search_twin.histograms(planes, labels == label, colour_bins, texture_bins, 0.5)
        np.testing.assert_array_equal(regions.counts[label], np.concatenate([colour, directed]))
        assert regions.sizes[label] == (labels == label).sum()
        ys, xs = np.nonzero(labels == label)
        assert regions.boxes[label].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert regions.colour == channels * colour_bins


def test_segmentations_described_together_are_described_apart():
    planes = patches(1, (40, 50))
    order = edges.ascending(keys := edges.weigh(edges.smooth(planes, 0.8), 8))
    labellings = [segment(*order, keys.shape[1:], k, 3)[0] for k in (10.0, 30.0, 90.0)]
    bins = texture.bins(planes, 25, 10, 0.25)
    for labels, together in zip(labellings, describe(labellings, *bins, 25, 10), strict=True):
        (apart,) = describe([labels], *bins, 25, 10)
        for name in ("sizes", "boxes", "counts"):
            np.testing.assert_array_equal(getattr(together, name), getattr(apart, name))


def test_more_cells_than_the_table_first_holds():
    """Every pixel its own region in one labelling, every second row in the other: 6000 cells."""
    labels = np.arange(6000, dtype=np.int32).reshape(60, 100)
    rows = np.repeat(np.arange(60, dtype=np.int32) % 2, 100).reshape(60, 100)
    bins = texture.bins(patches(0, (60, 100)), 4, 3, 0.25)
    pixels, halves = describe([labels, rows], *bins, 4, 3)
    assert (pixels.sizes == 1).all()
    assert len(pixels.sizes) == 6000
    assert halves.sizes.tolist() == [3000, 3000]
    np.testing.assert_array_equal(pixels.counts[rows.reshape(-1) == 1].sum(0), halves.counts[1])


def test_texture_filter_is_a_derivative_of_a_gaussian_of_one_pixel():
    """Smoothing of variance 1, and the exact slope of a ramp: 2 levels a pixel give 2 * 16 * (2 * 2 + 4 * 1) = 256."""
    binomial, slope = np.array([1, 4, 6, 4, 1]), np.array([-1, -2, 0, 2, 1])
    assert (binomial * np.arange(-2, 3) ** 2).sum() / binomial.sum() == 1
    ramp = np.tile(np.arange(0, 60, 2, dtype=np.uint8), (9, 1))[None]
    assert (slope * np.arange(-2, 3)).sum() * 16 * 2 == 256
    # A bin as wide as 256: full scale 12240, 10 bins up to a share of 2560 / 12240 of it.
    bins, textured = texture.bins(ramp, 25, 10, 2559 / 12240)
    assert textured[4, 5:-5].all()
    assert bins[1, 4, 5:-5].tolist() == [9 + 1] * 20
    assert texture.bins(ramp[:, :, ::-1].copy(), 25, 10, 2559 / 12240)[0][1, 4, 5:-5].tolist() == [9 - 1] * 20
    assert (bins[2, 4, 5:-5] == 9).all()


@pytest.mark.parametrize("strategy", ["CTSF", "TSF", "C", "T", "F", "S"])
@pytest.mark.parametrize(("shape", "channels", "connectivity"), [((24, 29), 3, 8), ((17, 30), 1, 4), ((1, 40), 3, 8)])
def test_hierarchy_is_that_of_the_twin(strategy, shape, channels, connectivity):
    for seed in range(2):
        planes, labels, pairs, regions = prepared(seed, shape, channels, connectivity=connectivity)
        assert len(regions.sizes) > 3
        (boxes,) = group(regions, pairs, [strategy], labels.size)
        assert boxes.tolist() == [
            list(box) for box in search_twin.group(labels, planes, strategy, connectivity, 25, 10, 0.5)
        ]


def test_strategies_together_are_strategies_apart():
    _, labels, pairs, regions = prepared(3, (24, 29))
    together = group(regions, pairs, ["CTSF", "TSF", "F"], labels.size)
    for strategy, boxes in zip(["CTSF", "TSF", "F"], together, strict=True):
        np.testing.assert_array_equal(group(regions, pairs, [strategy], labels.size)[0], boxes)


def test_size_by_hand():
    """Four regions in a row of 1, 4, 2 and 3 pixels. By size alone: 4 + 2 and 2 + 3 and 1 + 4 compete."""
    sizes = np.array([1, 4, 2, 3], np.int32)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    boxes = np.stack([ends[:-1], np.zeros(4), ends[1:], np.ones(4)], 1).astype(np.int32)
    regions = Regions(sizes, boxes, np.zeros((4, 105), np.int32), 25, 1)
    pairs = np.array([[0, 1], [1, 2], [2, 3]], np.int32)
    (hierarchy,) = group(regions, pairs, ["S"], 10)
    # 1 + 4 and 2 + 3 are equally similar: the lower numbers first, then the other, then the whole.
    assert hierarchy[4:].tolist() == [[0, 0, 5, 1], [5, 0, 10, 1], [0, 0, 10, 1]]


def test_one_region_is_its_own_hierarchy():
    regions = Regions(np.array([6], np.int32), np.array([[0, 0, 3, 2]], np.int32), np.zeros((1, 105), np.int32), 25, 1)
    assert group(regions, np.empty((0, 2), np.int32), ["CTSF"], 6)[0].tolist() == [[0, 0, 3, 2]]
