import numpy as np
import pytest

from lib.boxes.coding import encode
from lib.detectors.fast.targets import FIXED_STD, Regions, Statistics, fixed_statistics, label_regions, sample

NONE = np.zeros((0, 4), np.float32)
NO_LABELS = np.zeros(0, np.int64)


def regions(foreground, hard, easy):
    """As many regions with an IoU of 0.6, of 0.3 and of 0."""
    overlap = np.repeat(np.float32([0.6, 0.3, 0]), [foreground, hard, easy])
    count = len(overlap)
    boxes, deltas = np.tile(np.float32([0, 0, 8, 8]), (count, 1)), np.zeros((count, 4), np.float32)
    return Regions(boxes, overlap, (overlap >= 0.5).astype(np.int64), deltas)


def sampled(regions, count=64, share=0.25, seed=0):
    rows = sample(regions, count, share, (0.1, 0.5), np.random.default_rng(seed))
    assert len(set(rows)) == len(rows)
    return tuple(int((regions.overlap[rows] == np.float32(value)).sum()) for value in (0.6, 0.3, 0))


def test_labels_by_hand():
    """A 10 x 10 object of label 1: itself IoU 1; 10 x 5 of it 0.5 (foreground); 10 x 4 of it 0.4; elsewhere 0."""
    objects = np.float32([[0, 0, 10, 10], [50, 50, 60, 60]])
    proposals = np.float32([[0, 0, 10, 5], [0, 0, 10, 4], [20, 20, 30, 30]])
    labelled = label_regions(objects, np.array([1, 0]), proposals, (100, 100), 0.5)
    np.testing.assert_allclose(labelled.overlap, [1, 1, 0.5, 0.4, 0], atol=1e-6)
    np.testing.assert_array_equal(labelled.label, [2, 1, 2, 0, 0])
    np.testing.assert_allclose(labelled.target[2], [0, 2.5 / 5, 0, np.log(2)], atol=1e-6)
    assert not labelled.target[[0, 1, 3, 4]].any()


def test_the_first_of_equal_objects():
    objects = np.float32([[0, 0, 10, 10], [0, 0, 10, 10]])
    assert label_regions(objects, np.array([4, 2]), objects[:1], (20, 20), 0.5).label.tolist() == [5, 5, 5]


def test_image_without_objects():
    """Case 36: shapes hold, everything is background."""
    labelled = label_regions(NONE, NO_LABELS, np.float32([[0, 0, 4, 4], [1, 1, 9, 9]]), (20, 20), 0.5)
    assert labelled.label.tolist() == [0, 0]
    assert labelled.target.shape == (2, 4)
    assert len(sample(labelled, 64, 0.25, (0.1, 0.5), np.random.default_rng(0))) == 2
    assert len(label_regions(NONE, NO_LABELS, NONE, (20, 20), 0.5)) == 0


def test_regions_outside_or_without_area_are_dropped():
    """Case 43: they would have no finite target."""
    proposals = np.float32([[5, 5, 5, 9], [90, 0, 130, 10], [200, 0, 210, 10], [-5, -5, 5, 5]])
    labelled = label_regions(np.float32([[0, 0, 10, 10]]), np.array([0]), proposals, (100, 100), 0.1)
    np.testing.assert_array_equal(labelled.boxes, [[0, 0, 10, 10], [90, 0, 100, 10], [0, 0, 5, 5]])
    assert np.isfinite(labelled.target).all()


@pytest.mark.parametrize(
    ("supply", "expected"),
    [  # facts §6: 64 regions of an image, at most 16 of them foreground
        ((100, 100, 100), (16, 48, 0)),
        ((5, 100, 100), (5, 59, 0)),
        ((0, 100, 100), (0, 64, 0)),
        ((100, 20, 100), (16, 20, 0)),  # too few: smaller, nothing repeated, no more foreground
        ((3, 2, 100), (3, 2, 0)),
        ((100, 0, 0), (16, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((100, 0, 100), (16, 0, 48)),  # case 37: none in [0.1, 0.5), so the limit is 0
        ((0, 0, 100), (0, 0, 64)),
    ],
)
def test_supply_and_demand(supply, expected):
    assert sampled(regions(*supply)) == expected


def test_quota_is_rounded():
    """round(0.25 · 10) is 2, as numpy's; round(0.25 · 14) is 4."""
    assert sampled(regions(50, 50, 0), 10)[0] == 2
    assert sampled(regions(50, 50, 0), 14)[0] == 4


def test_limits_belong_to_one_side():
    """0.1 <= IoU < 0.5 is background, 0.5 foreground."""
    zeros = np.zeros((4, 4), np.float32)
    four = Regions(zeros, np.float32([0.5, 0.49, 0.1, 0.09]), np.array([1, 0, 0, 0]), zeros)
    rows = sample(four, 64, 0.5, (np.float32(0.1), 0.5), np.random.default_rng(0))
    assert sorted(rows) == [0, 1, 2]
    assert rows[0] == 0


def test_every_region_is_sampled_equally_often():
    counts = np.zeros(30)
    for seed in range(2000):
        counts[sample(regions(10, 20, 0), 12, 0.25, (0.1, 0.5), np.random.default_rng(seed))] += 1
    np.testing.assert_allclose(counts[:10] / 2000, 3 / 10, atol=0.05)
    np.testing.assert_allclose(counts[10:] / 2000, 9 / 20, atol=0.05)


def targets(seed=0, count=400, classes=3):
    random = np.random.default_rng(seed)
    label = random.integers(0, classes + 1, count)
    target = random.normal(0.3, 0.2, (count, 4)).astype(np.float32) * (label > 0)[:, None]
    return Regions(np.zeros((count, 4), np.float32), np.zeros(count, np.float32), label, target.astype(np.float32))


@pytest.mark.parametrize("mirror", [0.0, 0.5, 1.0])
def test_statistics_equal_those_of_the_set_with_its_mirror_images(mirror):
    parts = [targets(0), targets(1)]
    statistics = Statistics(3, mirror)
    for part in parts:
        statistics.add(part)
    mean, std = statistics.result(1e-9)
    label = np.concatenate([part.label for part in parts])
    target = np.concatenate([part.target for part in parts]).astype(np.float64)
    mirrored = target * [-1, 1, 1, 1]
    sets = {0.0: [target], 0.5: [target, mirrored], 1.0: [mirrored]}[mirror]
    for c in (1, 2, 3):
        rows = np.concatenate([deltas[label == c] for deltas in sets])
        np.testing.assert_allclose(mean[c], rows.mean(0), atol=1e-6)
        np.testing.assert_allclose(std[c], rows.std(0), rtol=1e-5)


def test_normalised_targets_have_mean_0_and_deviation_1():
    part, statistics = targets(), Statistics(3, 0.0)
    statistics.add(part)
    mean, std = statistics.result(1e-9)
    for c in (1, 2, 3):
        rows = (part.target[part.label == c] - mean[c]) / std[c]
        np.testing.assert_allclose(rows.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(rows.std(0), 1, rtol=1e-5)


def test_statistics_of_one_region_or_none_stay_finite():
    """Facts §16.13: a deviation of 0 would divide by 0."""
    objects = np.float32([[0, 0, 10, 10]])
    statistics = Statistics(2, 0.0)
    statistics.add(label_regions(objects, np.array([0]), NONE, (20, 20), 0.5))
    mean, std = statistics.result(0.01)
    np.testing.assert_array_equal(mean, 0)
    np.testing.assert_allclose(std, [[1] * 4, [0.01] * 4, FIXED_STD], rtol=1e-6)


def test_fixed_statistics_are_torchvisions_weights():
    """(10, 10, 5, 5) times the deltas."""
    mean, std = fixed_statistics(2)
    objects, proposals = np.float32([[0, 0, 20, 10]]), np.float32([[1, 2, 18, 14]])
    deltas = encode(proposals, objects)
    np.testing.assert_allclose((deltas - mean[1]) / std[1], deltas * [10, 10, 5, 5], rtol=1e-5)
    assert std.shape == (3, 4)
