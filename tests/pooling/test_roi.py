from math import ceil, floor

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.pooling import roi as pooling
from tests import simulated_device


def random_rois(random, count, images, width, height):
    """Regions of all kinds: usual, far outside, inside out, empty, and with corners on exact halves of a cell."""
    corners = random.uniform(-40, max(width, height) + 60, (count, 4))
    corners[::3] = np.round(corners[::3] / 8) * 8
    corners[1::3, 2:] = corners[1::3, :2] + random.uniform(0, 120, (len(corners[1::3]), 2))
    return torch.tensor(np.hstack([random.integers(0, images, (count, 1)), corners]), dtype=torch.float32)


def torchvision_pool(maps, rois, stride, grid):
    return torchvision.ops.roi_pool(maps, rois - torch.tensor([0, 0, 0, 1, 1.0]), grid, 1 / stride)


@pytest.mark.parametrize(("channels", "grid"), [(5, 7), (112, 6)])
def test_roi_pool_and_its_gradient_equal_torchvisions(channels, grid):
    torch.manual_seed(0)
    maps = torch.randn(3, channels, 13, 17).round(decimals=1)  # rounded, so that there are ties
    ours, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    rois = random_rois(np.random.default_rng(1), 300, 3, 17 * 16, 13 * 16)
    pooled, expected = pooling.roi_pool(ours, rois, 16, grid), torchvision_pool(theirs, rois, 16, grid)
    assert torch.equal(pooled, expected)
    gradient = torch.randn_like(expected)
    pooled.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-5)
    with torch.no_grad():
        assert torch.equal(pooling.roi_pool(maps, rois, 16, grid), expected)


def test_on_a_gpu_it_pools_the_same_and_is_not_waited_for():
    torch.manual_seed(0)
    maps, rois = torch.randn(3, 5, 13, 17), random_rois(np.random.default_rng(1), 50, 3, 17 * 16, 13 * 16)
    expected = pooling.roi_pool(maps, rois, 16, 7)
    with simulated_device.installed() as gpu:
        inputs = maps.to("cuda"), rois.to("cuda")
        with gpu.counting() as waits:
            pooled = pooling.roi_pool(*inputs, 16, 7)
        assert waits == []
        assert torch.equal(pooled.cpu(), expected)
        assert torch.equal(inputs[1].cpu(), rois)


def test_roi_pool_takes_half_open_boxes():
    """A half-open box from 0 to 32 ends in pixel 31, which the original's rule rounds to cell 2: three cells a side are
    pooled, as in the authors' code. The largest value tells the last cell."""
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert pooling.roi_pool(maps, torch.tensor([[0, 0, 0, 24.0, 24]]), 16, 1).item() == 5  # (24 - 1) / 16 = 1.4 -> 1
    assert pooling.roi_pool(maps, torch.tensor([[0, 0, 0, 32.0, 32]]), 16, 1).item() == 10  # (32 - 1) / 16 = 1.9 -> 2
    assert pooling.roi_pool(maps, torch.tensor([[0, 0, 0, 25.0, 25]]), 16, 1).item() == 10  # 1.5 rounds away from zero


def test_roi_outside_the_map_gives_zeros_and_no_gradient():
    maps = torch.full((1, 2, 4, 4), -1.0, requires_grad=True)
    pooled = pooling.roi_pool(maps, torch.tensor([[0, 200, 200, 300, 300.0]]), 16, 2)
    assert not pooled.any()
    pooled.sum().backward()
    assert not maps.grad.any()
    edge = pooling.roi_pool(maps, torch.tensor([[0, 48, 48, 112.0, 112]]), 16, 2)
    assert edge[0, 0].tolist() == [[-1, 0], [0, 0]]  # the grid is laid first and cut afterwards


def test_no_region_and_equal_values():
    maps = torch.zeros(1, 3, 4, 4, requires_grad=True)
    none = pooling.roi_pool(maps, torch.zeros(0, 5), 16, 7)
    assert none.shape == (0, 3, 7, 7)
    none.sum().backward()
    pooling.roi_pool(maps, torch.tensor([[0, 0, 0, 49.0, 49]]), 16, 1).sum().backward()
    assert maps.grad[0, :, 0, 0].tolist() == [1, 1, 1]  # ties go to the first
    assert maps.grad.sum() == 3


def test_gradient_by_finite_differences():
    torch.manual_seed(0)
    maps = torch.randperm(60).float().view(1, 3, 4, 5).requires_grad_()  # no ties: smooth for small steps
    rois = torch.tensor([[0, 0, 0, 60, 60.0], [0, 20, 10, 80, 33]])
    weights = torch.randn(2, 3, 2, 2)
    gradient = torch.autograd.grad((pooling.roi_pool(maps, rois, 16, 2) * weights).sum(), maps)[0]
    for index in np.ndindex(3, 4, 5):
        step = torch.zeros_like(maps)
        step[0][index] = 0.25
        up, down = ((pooling.roi_pool(maps.detach() + s, rois, 16, 2) * weights).sum() for s in (step, -step))
        assert (up - down).item() / 0.5 == pytest.approx(gradient[0][index].item(), abs=1e-4)


@pytest.mark.parametrize(("channels", "grid", "samples"), [(5, 7, 2), (112, 6, 1), (3, 2, 3)])
def test_roi_align_and_its_gradient_equal_torchvisions(channels, grid, samples):
    torch.manual_seed(0)
    maps = torch.randn(3, channels, 13, 17)
    ours, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    rois = random_rois(np.random.default_rng(2), 300, 3, 17 * 16, 13 * 16)
    pooled = pooling.roi_align(ours, rois, 16, 8, grid, samples)
    expected = torchvision.ops.roi_align(theirs, rois, grid, 1 / 16, samples, aligned=True)
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=1e-5)
    gradient = torch.randn_like(expected)
    pooled.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-3, rtol=1e-5)


def test_roi_align_by_hand():
    """Cells of 16 pixels with the values of their columns: the value at pixel x is x / 16 - 0.5 between the outermost
    centres, the border's value beyond them, and 0 where a sample is more than a cell away from them."""
    maps = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)

    def pooled(x1, x2):
        return pooling.roi_align(maps, torch.tensor([[0, x1, 16, x2, 48.0]]), 16, 8, 1, 2).item()

    assert pooled(16, 48) == pytest.approx(1.5)
    assert pooled(20, 28) == pytest.approx(1.0)  # samples at 22 and 26: 0.875 and 1.125
    assert pooled(0, 64) == pytest.approx(1.5)  # at 16 and 48: 0.5 and 2.5
    assert pooled(40, 72) == pytest.approx(2.75)  # at 48 and 64: 2.5, and 3.5 becomes 3
    assert pooled(48, 112) == pytest.approx(1.5)  # at 64 and 96: 3, and nothing
    none = torch.zeros(1, 3, 4, 4, requires_grad=True)
    empty = pooling.roi_align(none, torch.zeros(0, 5), 16, 8, 7)
    assert empty.shape == (0, 3, 7, 7)
    empty.sum().backward()


def test_distinct_regions_pool_alike_exactly_when_their_cells_do():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 200, (300, 2))
    boxes = np.hstack([corner, corner + random.uniform(0.5, 90, (300, 2))]).astype(np.float32)
    boxes[:40] = np.round(boxes[:40] / 8) * 8 + 1  # corners at exact halves of a cell
    boxes = np.concatenate([boxes, boxes[:100] + np.float32(0.7)])
    first, group = pooling.distinct(boxes, 16, "max")
    maps = torch.arange(20 * 20, dtype=torch.float32).view(1, 1, 20, 20)
    rois = torch.from_numpy(np.hstack([np.zeros((400, 1), np.float32), boxes - np.float32([0, 0, 1, 1])]))
    both = [sign * torchvision.ops.roi_pool(sign * maps, rois, 7, 1 / 16) for sign in (1, -1)]
    pooled = torch.cat(both, 1).flatten(1).numpy()
    np.testing.assert_array_equal(pooled, pooled[first][group])
    assert len(first) < 400
    assert len(np.unique(pooled, axis=0)) == len(first)
    np.testing.assert_array_equal(first, np.sort(first))
    for rows in pooling.distinct(boxes, 16, "align"):
        np.testing.assert_array_equal(rows, np.arange(400))


@pytest.mark.parametrize("first", [0.5, 8.0, 3.0])
def test_roi_align_reads_the_pixels_of_the_region_wherever_the_cells_lie(first):
    """Each cell holds the pixel of its own centre, so the mean over a region is its middle."""
    centres = first + 16 * torch.arange(40.0)
    maps = torch.stack(torch.meshgrid(centres, centres, indexing="ij")).flip(0)[None].contiguous()
    pooled = pooling.roi_align(maps, torch.tensor([[0, 100.0, 60.0, 200.0, 150.0]]), 16, first, 7)
    torch.testing.assert_close(pooled.mean((0, 2, 3)), torch.tensor([150.0, 105.0]))


def slow_pyramid(cells, window, levels):
    """The rule of the paper's appendix A, bin by bin."""
    x1, y1, x2, y2 = window
    w, h = x2 - x1, y2 - y1
    row = []
    for n in levels:
        for c in range(cells.shape[2]):
            for j in range(1, n + 1):
                for i in range(1, n + 1):
                    columns = slice(x1 + floor((i - 1) * w / n), x1 + ceil(i * w / n))
                    rows = slice(y1 + floor((j - 1) * h / n), y1 + ceil(j * h / n))
                    row.append(cells[rows, columns, c].max())
    return row


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([np.float16, np.float32]),
    st.sampled_from([[1, 2, 3, 6], [6, 3, 2, 1], [1, 2, 3, 4], [1], [5, 2]]),
)
def test_pyramid_equals_its_slow_twin(seed, dtype, levels):
    random = np.random.default_rng(seed)
    cells = random.normal(0, 3, (9, 14, 3)).astype(dtype)  # negative values too: not every trunk ends in a ReLU
    cells[random.random(cells.shape) < 0.2] = -0.0
    low = random.integers(0, (14, 9), (5, 2))
    high = random.integers(low + 1, np.array([14, 9]) + 1)
    windows = np.hstack([low, high]).astype(np.int32)
    pooled = pooling.pyramid_pool(cells, windows, levels)
    assert pooled.dtype == dtype
    np.testing.assert_array_equal(pooled, [slow_pyramid(cells, window, levels) for window in windows])


def test_pyramid_order_is_level_channel_row_column():
    cells = np.zeros((2, 2, 2), np.float32)
    cells[:, :, 0], cells[:, :, 1] = [[1, 2], [3, 4]], [[5, 6], [7, 8]]
    whole = np.array([[0, 0, 2, 2]], np.int32)
    assert pooling.pyramid_pool(cells, whole, [1, 2])[0].tolist() == [4, 8, 1, 2, 3, 4, 5, 6, 7, 8]


def test_released_length_and_whole_maps():
    """12,800 features for 256 channels; a window that covers the map is what the classifier's pooling gives."""
    maps = torch.randn(1, 256, 10, 13)
    cells = np.ascontiguousarray(maps[0].permute(1, 2, 0).numpy())
    pooled = pooling.pyramid_pool(cells, np.array([[0, 0, 13, 10]], np.int32), [1, 2, 3, 6])
    assert pooled.shape == (1, 12800)
    np.testing.assert_array_equal(pooled, pooling.pool_whole(maps, [1, 2, 3, 6]).numpy())


@pytest.mark.parametrize(
    ("a", "n", "size", "stride"),
    [(13, 6, 3, 2), (13, 4, 4, 3), (13, 3, 5, 4), (13, 2, 7, 6), (13, 1, 13, 13), (10, 3, 4, 3)],
)
def test_training_windows_of_the_paper(a, n, size, stride):
    """Where ceil(a / n) and floor(a / n) give n bins, the sliding windows of §2.3 are the same bins."""
    maps = torch.randn(1, 2, a, a)
    expected = torch.nn.functional.max_pool2d(maps, size, stride)
    assert torch.equal(pooling.pool_whole(maps, [n]).view(1, 2, n, n), expected)


def test_no_window_and_mapped_files(tmp_path):
    cells = np.random.default_rng(0).normal(size=(6, 8, 4)).astype(np.float16)
    np.save(tmp_path / "map.npy", cells)
    mapped = np.load(tmp_path / "map.npy", mmap_mode="r")
    windows = np.array([[2, 1, 5, 4], [3, 0, 4, 1]], np.int32)
    expected = pooling.pyramid_pool(cells, windows, [1, 2])
    np.testing.assert_array_equal(pooling.pyramid_pool(mapped, windows, [1, 2]), expected)
    assert pooling.pyramid_pool(cells, np.zeros((0, 4), np.int32), [1, 2]).shape == (0, 20)
