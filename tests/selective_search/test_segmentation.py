import cv2
import numpy as np
import pytest

from lib.selective_search import edges, segmentation
from lib.selective_search.segmentation import segment
from tests.selective_search import search_twin


def patches(seed, shape, levels=256):
    """Noise over a few flat patches, so that regions of several sizes come about."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 256, (3, -(-shape[0] // 5), -(-shape[1] // 4)))
    planes = np.kron(colours, np.ones((1, 5, 4), int))[:, : shape[0], : shape[1]]
    planes = planes + random.integers(-20, 21, planes.shape)
    step = 256 // levels
    return (np.clip(planes, 0, 255) // step * step).astype(np.uint8)


def test_smoothing_is_the_gaussian_of_opencv():
    planes = patches(0, (23, 31))
    expected = [
        cv2.GaussianBlur(plane.astype(np.float32), (9, 9), 0.8, borderType=cv2.BORDER_REPLICATE) for plane in planes
    ]
    np.testing.assert_allclose(edges.smooth(planes, 0.8), expected, atol=2e-4)


def test_smoothing_by_nothing_changes_nothing():
    planes = patches(1, (7, 6))
    np.testing.assert_array_equal(edges.smooth(planes, 0), planes)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_weights_are_colour_distances_to_eleven_bits(connectivity):
    smoothed = edges.smooth(patches(2, (9, 8)), 0.8)
    weights = edges.decode(edges.weigh(smoothed, connectivity))
    for d in range(connectivity // 2):
        dy, dx = search_twin.STEPS[d]
        for y in range(9 - dy):
            for x in range(max(0, -dx), 8 - max(0, dx)):
                exact = np.linalg.norm(smoothed[:, y, x].astype(float) - smoothed[:, y + dy, x + dx])
                assert exact * (1 - 2**-11) - 1e-6 <= weights[d, y, x] <= exact * (1 + 1e-6)


def test_one_channel_counts_three_times():
    smoothed = np.array([[[0, 8]]], np.float32)
    assert edges.decode(edges.weigh(smoothed, 8))[0, 0, 0] == 3547 / 256  # 8 sqrt(3) = 13.8564, cut to 11 bits


def test_key_orders_and_restores_weights():
    keys = np.array([0, 1, 2048 * 22, 2048 * 23 + 1024, 65535], np.uint16)
    expected = [2.0**-22, 2.0**-22 * (1 + 1 / 2048), 1, 3, 2.0**9 * (2 - 1 / 2048)]
    np.testing.assert_array_equal(edges.decode(keys), np.array(expected, np.float32))
    assert [search_twin.weight(int(key)) for key in keys] == pytest.approx(expected)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (2, 2), (9, 13)])
def test_order_is_a_stable_sort(shape, connectivity):
    keys = edges.weigh(edges.smooth(patches(3, shape, levels=4), 0.0), connectivity)
    direction = {step: d for d, step in search_twin.STEPS.items()}
    expected = [
        4 * search_twin.position(*u, shape[1]) + direction[v[0] - u[0], v[1] - u[1]]
        for _, u, v in search_twin.sorted_edges(keys)
    ]
    order, ordered_keys = edges.ascending(keys)
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(ordered_keys, [key for key, _, _ in search_twin.sorted_edges(keys)])


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 30), (30, 1), (17, 24), (24, 19)])
@pytest.mark.parametrize(("k", "min_size"), [(20.0, 1), (50.0, 4), (50.0, 50), (300.0, 20)])
def test_regions_are_those_of_the_twin(shape, k, min_size, connectivity):
    for seed in range(3):
        planes = patches(seed, shape, levels=(256, 16, 4)[seed])
        keys = edges.weigh(edges.smooth(planes, 0.8), connectivity)
        labels, pairs = segment(*edges.ascending(keys), keys.shape[1:], k, min_size)
        expected = search_twin.segment(keys, k, min_size)
        np.testing.assert_array_equal(labels, expected)
        assert len(pairs) == len({tuple(pair) for pair in pairs.tolist()})
        assert {tuple(pair) for pair in pairs.tolist()} == search_twin.touching(expected, connectivity)


def test_two_flat_halves_by_hand():
    """A step of 10 levels between two halves of 3 pixels: joined iff 10 <= 0 + k / 3, that is k >= 30."""
    planes = np.zeros((3, 1, 6), np.uint8)
    planes[0, 0, 3:] = 10
    keys = edges.weigh(edges.smooth(planes, 0.0), 8)
    assert segment(*edges.ascending(keys), keys.shape[1:], 29.9, 1)[0].tolist() == [[0, 0, 0, 1, 1, 1]]
    assert segment(*edges.ascending(keys), keys.shape[1:], 30.0, 1)[0].tolist() == [[0] * 6]
    assert segment(*edges.ascending(keys), keys.shape[1:], 29.9, 4)[0].tolist() == [[0] * 6]


def test_prefetching_changes_nothing(monkeypatch):
    """What is done for large images only, done for a small one."""
    planes = patches(6, (61, 83))
    keys = edges.weigh(edges.smooth(planes, 0.8), 8)
    near = segment(*edges.ascending(keys), keys.shape[1:], 50.0, 20)
    monkeypatch.setattr(segmentation, "_FAR", 0)
    far = segment(*edges.ascending(keys), keys.shape[1:], 50.0, 20)
    np.testing.assert_array_equal(near[0], far[0])
    np.testing.assert_array_equal(near[1], far[1])


def test_steps_lead_to_the_neighbours():
    width = 11
    for y, x in ((0, 1), (3, 3), (4, 8), (7, 6)):
        here = search_twin.position(y, x, width)
        for d, (dy, dx) in search_twin.STEPS.items():
            there = (here + int(edges.steps(width)[4 * here + d & 63])) % 2**64
            assert there == search_twin.position(y + dy, x + dx, width)
