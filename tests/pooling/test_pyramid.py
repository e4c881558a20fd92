import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.pooling import pyramid
from lib.pooling.pyramid import Axis, Map, Window

ZF5 = Axis(43, 20.0, 16)  # facts: centre of the first conv5 unit at pixel 21, 1-based; step 16
CODE = Window(side=208, nearest="scale", slack=1.5)
PAPER = Window(side=224, nearest="area", slack=0)
CPU = Device(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(("window", "cells"), [
    ((1, 224), (1, 13)), ((1, 1), (1, 1)), ((1, 16), (1, 1)), ((10, 100), (1, 6)), ((100, 131), (6, 7)),
    ((60, 75), (4, 4)), ((200, 700), (13, 43)), ((23, 35), (1, 1)),
])
def test_vectors_of_the_authors_code(window, cells):
    low, high = (np.array([edge - 1.0]) for edge in window)
    first, end = pyramid.covered(low, high, ZF5, 1.5)
    assert (first[0] + 1, end[0]) == cells


def test_cells_are_those_whose_centre_lies_strictly_inside():
    for low in range(0, 90):
        for high in range(low + 40, 200, 7):
            first, end = pyramid.covered(np.array([float(low)]), np.array([float(high)]), ZF5, 1.5)
            inside = [u for u in range(43) if low - 1.5 < 20 + 16 * u < high + 1.5]
            assert (first[0], end[0]) == (inside[0], inside[-1] + 1)


def test_no_slack_is_the_papers_rule():
    """Appendix A, for padding floor(p / 2), where the unit at x' is centred at 16 x' (0-based here: 16 u)."""
    for low, high in [(1, 160), (17, 33), (16, 48), (5, 200)]:
        first, end = pyramid.covered(np.array([float(low)]), np.array([float(high)]), Axis(43, 0.0, 16), 0.0)
        assert (first[0], end[0]) == (low // 16 + 1, -(-high // 16))


@pytest.mark.parametrize(("box", "scales", "window", "expected"), [
    ((0, 0, 100, 100), [480, 576, 688, 874, 1200], CODE, 688),
    ((0, 0, 150, 150), [480, 576, 688, 874, 1200], CODE, 480),
    ((0, 0, 50, 50), [480, 576, 688, 874, 1200], CODE, 1200),
    ((0, 0, 500, 375), [480, 576, 688, 874, 1200], CODE, 480),
    ((0, 0, 100, 100), [480, 576, 688, 864, 1200], PAPER, 864),
    ((0, 0, 150, 150), [480, 576, 688, 864, 1200], PAPER, 576),
    ((0, 0, 500, 375), [688], PAPER, 688),
    ((3, 3, 3, 3), [480, 1200], CODE, 1200),  # no area: the largest, not a division by zero
])
def test_scale_of_a_window(box, scales, window, expected):
    index = pyramid.choose_scale(np.array([box], np.float32), (500, 375), scales, window)
    assert scales[index[0]] == expected


def test_equal_distances_take_the_first_scale():
    window = Window(side=100, nearest="scale", slack=0)
    box = np.array([[0, 0, 100, 100]], np.float32)  # ideal scale: 300
    assert pyramid.choose_scale(box, (400, 300), [280, 320], window).tolist() == [0]
    assert pyramid.choose_scale(box, (400, 300), [320, 280], window).tolist() == [0]


def test_both_axes_are_stretched_by_the_shorter_side():
    """First pixel to first, last to last: x' = (x - 1) (s - 1) / (m - 1) + 1. Boxes outside or empty keep rows."""
    x, y = Axis(40, 15.0, 16), Axis(30, 15.0, 16)
    boxes = np.array(
        [[0, 0, 320, 240], [0, 0, 160, 240], [50, 50, 50, 50], [-90, -90, -10, -10], [900, 900, 950, 990]], np.float32
    )
    cells = pyramid.to_cells(boxes, (320, 240), 480, x, y, 1.5)
    assert cells[0].tolist() == [0, 0, 40, 30]
    factor = 479 / 239
    inside = [u for u in range(40) if 15 + 16 * u < 159 * factor + 1.5]
    assert cells[1].tolist() == [0, 0, len(inside), 30]
    assert (cells[:, 2:] > cells[:, :2]).all()
    assert (cells[:, :2] >= 0).all()
    assert (cells[:, 2:] <= [40, 30]).all()
    assert cells[3].tolist() == [0, 0, 1, 1]
    assert cells[4].tolist() == [39, 29, 40, 30]


@pytest.mark.parametrize(
    ("name", "lengths"),
    [("efficientnet_lite0", (224, 360, 333)), ("alexnet", (224, 333)), ("resnet18", (224, 333))],
)
def test_centres_are_those_of_the_receptive_fields(name, lengths):
    """The inputs that move a cell lie evenly around its centre. Weights that average keep every path open."""
    trunk = backbones.build(name).trunk.eval()
    for module in trunk.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    for pool in [child for child in trunk.modules() if isinstance(child, torch.nn.MaxPool2d)]:
        pool.forward = torch.nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding).forward
    for length in lengths:
        found = pyramid.axis(trunk, length)
        image = torch.full((1, 3, 48, length), 0.5, requires_grad=True)
        maps = trunk(image)
        assert maps.shape[3] == found.cells
        # The field reaches less than half of the map to each side, so the middle cell sees both of its ends.
        middle = maps[0, 0, maps.shape[2] // 2, found.cells // 2]
        gradient = torch.autograd.grad(middle, image)[0][0].abs().sum((0, 1))
        weight = gradient / gradient.sum()
        centre = float((weight * torch.arange(length)).sum())
        assert centre == pytest.approx(found.first + found.stride * (found.cells // 2), abs=0.35)


def test_released_networks_offset():
    """ZF-5: pads 1,0,0,0,1,1,1 give pixel 20 (0-based) and 13 cells at 224, with pooling that rounds up (facts §2)."""
    conv, pool = torch.nn.Conv2d, torch.nn.MaxPool2d
    zf5 = torch.nn.Sequential(
        conv(3, 1, 7, 2, 1), pool(3, 2, ceil_mode=True), conv(1, 1, 5, 2, 0), pool(3, 2, ceil_mode=True),
        *(conv(1, 1, 3, 1, 1) for _ in range(3)),
    )
    assert pyramid.axis(zf5, 224) == Axis(13, 20.0, 16)
    cells = [pyramid.axis(zf5, side).cells for side in (180, 480, 576, 688, 864, 874, 1200)]
    assert cells == [10, 29, 35, 42, 53, 53, 74]


def test_a_map_is_the_trunks_of_the_scaled_image():
    torch.manual_seed(0)
    net = backbones.build("resnet18").eval()
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    found = pyramid.compute_map(net.trunk, pyramid.scaled(image, 128), net.recipe, CPU)
    assert found.values.shape == (8, 12, 256)
    assert (found.x, found.y) == (Axis(12, 0.0, 16), Axis(8, 0.0, 16))
    from lib.backbones import scaling
    with torch.no_grad():
        expected = net.trunk(scaling.to_input(scaling.resize(image, 128 / 60), net.recipe, CPU))[0].permute(1, 2, 0)
    np.testing.assert_allclose(found.values, expected.numpy(), rtol=2e-3, atol=1e-4)


def test_values_too_large_for_half_precision_are_cut():
    class Large(torch.nn.Conv2d):
        def forward(self, image):
            return super().forward(image) * 0 + 1e6

    found = pyramid.compute_map(Large(3, 2, 1), np.zeros((4, 4, 3), np.uint8), backbones.LITE, CPU)
    assert (found.values == 65504).all()


def test_windows_are_pooled_from_the_maps_of_their_scales():
    maps = [
        Map(np.full((15, 20, 2), value, np.float16), Axis(20, 15.0, 16), Axis(15, 15.0, 16)) for value in (1, 2)
    ]
    boxes = np.array([[0, 0, 50, 50], [0, 0, 200, 200], [9, 9, 60, 60]], np.float32)
    scale_of = np.array([1, 0, 1])
    rows = pyramid.pool_windows(maps, boxes, (320, 240), [240, 480], scale_of, CODE, [1, 2])
    assert rows.dtype == np.float16
    assert rows.shape == (3, 10)
    assert rows[:, 0].tolist() == [2, 1, 2]
