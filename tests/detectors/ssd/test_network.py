import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

from lib.backbones import backbones
from lib.backbones.centring import centre
from lib.boxes.anchors import AnchorGrid
from lib.detectors.dense.network import Form
from lib.detectors.ssd.network import DefaultBoxes, Extra, L2Norm, SsdHead, SsdLayers, start_fc

# SSD300 for VOC and SSD512 (facts §2 and §3): sides of the squares, cut to whole pixels at 512.
VOC300 = DefaultBoxes(
    sides=[30.0, 60.0, 111.0, 162.0, 213.0, 264.0, 315.0],
    ratios=[[2.0], *[[2.0, 3.0]] * 3, [2.0], [2.0]], steps=[8.0, 16.0, 32.0, 64.0, 100.0, 300.0],
)
VOC512 = DefaultBoxes(
    sides=[35.0, 76.0, 153.0, 230.0, 307.0, 384.0, 460.0, 537.0],
    ratios=[[2.0], *[[2.0, 3.0]] * 4, [2.0], [2.0]], steps=[8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
)
PAIR, HALF = Extra(reduce=128, width=256, stride=1), Extra(reduce=128, width=256, stride=2)
FIRST = Extra(reduce=256, width=512, stride=2)
LAYERS300 = SsdLayers(strides=[8, 16], l2_scale=[20.0, None], fc=1024, extra=[FIRST, HALF, PAIR, PAIR])
LAYERS512 = SsdLayers(strides=[8, 16], l2_scale=[20.0, None], fc=1024, extra=[FIRST, HALF, HALF, HALF, HALF])


def head(layers, boxes, side, classes=20, channels=(512, 512)):
    form = Form(boxes.grid(layers.cells(side), side), classes, True, (0.1, 0.2))
    return SsdHead(channels, layers, form)


def test_the_default_boxes_of_ssd300():
    """Facts §3 and §13: counts, first boxes of two maps, sums over all 8732."""
    grid, cells = VOC300.grid(LAYERS300.cells(300), 300), LAYERS300.cells(300)
    assert cells == [38, 19, 10, 5, 3, 1]
    boxes = grid([(count, count) for count in cells]) / 300
    assert grid.counts([(count, count) for count in cells]) == [5776, 2166, 600, 150, 36, 4]
    assert boxes.shape == (8732, 4)
    assert float(boxes.astype(np.float64).sum()) == pytest.approx(17775.786667, abs=1e-3)
    np.testing.assert_allclose(boxes.mean(axis=0), [0.422438, 0.422438, 0.595415, 0.595415], atol=1e-5)
    np.testing.assert_allclose(boxes[:4], [
        [-0.036667, -0.036667, 0.063333, 0.063333], [-0.057377, -0.057377, 0.084044, 0.084044],
        [-0.057377, -0.022022, 0.084044, 0.048689], [-0.022022, -0.057377, 0.048689, 0.084044],
    ], atol=1e-6)
    np.testing.assert_allclose(boxes[5776 + 4], [-0.146538, -0.031068, 0.199872, 0.084402], atol=1e-6)
    np.testing.assert_allclose(boxes[8730], [-0.122254, 0.188873, 1.122254, 0.811127], atol=1e-6)
    np.testing.assert_array_equal(grid([(count, count) for count in cells]), grid.of_image(300, 300))


def test_steps_of_the_paper_keep_all_centres_inside():
    """(i + 0.5) / cells: the authors' steps put the last column of conv4_3 on the border."""
    cells = LAYERS300.cells(300)
    paper = VOC300.model_copy(update={"steps": None}).grid(cells, 300)
    for grid, last in ((paper, 300 * 37.5 / 38), (VOC300.grid(cells, 300), 300.0)):
        corner = grid([(count, count) for count in cells])[38 * 38 * 4 - 4]
        assert (corner[0] + corner[2]) / 2 == pytest.approx(last, rel=1e-5)


def test_ssd512():
    assert LAYERS512.cells(512) == [64, 32, 16, 8, 4, 2, 1]
    assert len(head(LAYERS512, VOC512, 512).anchors(512, 512)) == 24564


def test_parameters_of_ssd300_with_vgg16():
    """Facts §2: 26,285,486 for 20 classes and background."""
    with torch.device("meta"):
        levels, network = backbones.build("vgg16").levels([8, 16]), head(LAYERS300, VOC300, 300)
    assert sum(value.numel() for part in (levels, network) for value in part.parameters()) == 26_285_486


@pytest.mark.parametrize(("layers", "boxes", "side"), [(LAYERS300, VOC300, 300), (LAYERS512, VOC512, 512)])
def test_maps_are_of_the_sizes_that_are_counted(monkeypatch, layers, boxes, side):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # there is none on the meta device
    with torch.device("meta"):
        backbone, network = centre(backbones.build("vgg16")), head(layers, boxes, side, 3)
    outputs = network(backbone.levels([8, 16])(torch.zeros(2, 3, side, side, device="meta")))
    assert outputs.sizes == network.sizes(side, side)
    assert outputs.scores.shape == (2, len(network.anchors(side, side)), 4)


def test_l2_norm_by_hand():
    layer = L2Norm(2, 20.0)
    maps = torch.tensor([[[3.0, 0.0]], [[4.0, 0.0]]])[None].requires_grad_()  # two channels of two cells
    scaled = layer(maps)
    assert scaled[0, :, 0, 0].tolist() == pytest.approx([12, 16])
    assert scaled[0, :, 0, 1].tolist() == [0, 0]
    scaled.sum().backward()
    assert torch.isfinite(maps.grad).all()
    assert layer.weight.grad.tolist() == pytest.approx([0.6, 0.8])


def test_only_the_predictor_sees_the_scaled_map():
    boxes = DefaultBoxes(sides=[20.0, 40.0, 80.0], ratios=[[], []], steps=None)
    layers = SsdLayers(strides=[8], l2_scale=[20.0], fc=None, extra=[Extra(reduce=4, width=4, stride=2)])
    network, maps = head(layers, boxes, 32, 2, (6,)), {8: torch.randn(1, 6, 4, 4)}
    before = network(maps)
    with torch.no_grad():
        network.l2[0].weight.mul_(3)
    after = network(maps)
    counts = network.form.grid.counts(before.sizes)
    assert not torch.allclose(before.scores[:, : counts[0]], after.scores[:, : counts[0]])
    assert torch.equal(before.scores[:, counts[0] :], after.scores[:, counts[0] :])


def test_each_map_has_its_own_scale():
    """Whatever their values, two maps of norm 20 and 10 a cell; a third stays as it is."""
    boxes = DefaultBoxes(sides=[20.0, 40.0, 80.0, 160.0], ratios=[[], [], []], steps=None)
    layers = SsdLayers(strides=[8, 16, 32], l2_scale=[20.0, 10.0, None], fc=None, extra=[])
    network, maps = head(layers, boxes, 32, 2, (6, 5, 4)), {8: 7, 16: 3, 32: 2}
    inputs = {stride: factor * torch.randn(1, channels, 32 // stride, 32 // stride)
              for (stride, factor), channels in zip(maps.items(), (6, 5, 4), strict=True)}
    sources = []
    for layer in network.scores:
        layer.register_forward_pre_hook(lambda _, given: sources.append(given[0]))
    network(inputs)
    for source, norm in zip(sources, (20.0, 10.0), strict=False):
        torch.testing.assert_close(source.norm(dim=1), torch.full_like(source[:, 0], norm))
    assert torch.equal(sources[2], inputs[32])
    with pytest.raises(ValueError, match="one l2_scale, or null, for each of strides: 3"):
        SsdLayers(**{**layers.model_dump(), "l2_scale": [20.0]})


def test_fresh_weights_are_xaviers_and_biases_0():
    network = head(LAYERS300, VOC300, 300)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            inputs, outputs = module.weight[0].numel(), module.weight[:, 0].numel()
            assert module.weight.abs().max() <= math.sqrt(6 / (inputs + outputs)) + 1e-6
            assert not module.bias.any()
    focal = SsdHead((512, 512), LAYERS300, network.form, -4.6)
    assert all((scores.bias == torch.tensor(-4.6)).all() for scores in focal.scores)
    assert not any(deltas.bias.any() for deltas in focal.deltas)


def test_fc6_and_fc7_start_from_the_backbones_own_sub_sampled():
    """Three of nine outputs, and the cells 0, 3 and 6 of 7."""
    fully = nn.Linear(4 * 49, 9), nn.Linear(9, 9)
    backbone = SimpleNamespace(crop_fc=nn.Sequential(fully[0], nn.ReLU(), fully[1]), grid=7)
    network = head(LAYERS300.model_copy(update={"fc": 3}), VOC300, 300, channels=(2, 4))
    start_fc(network, backbone)
    fc6, fc7 = (layer for layer in network.fc if isinstance(layer, nn.Conv2d))
    rows = [0, 4, 8]
    for place, row in enumerate(rows):
        torch.testing.assert_close(fc6.weight[place], fully[0].weight[row].view(4, 7, 7)[:, ::3, ::3])
        torch.testing.assert_close(fc7.weight[place, :, 0, 0], fully[1].weight[row, rows])
    for layer, own in zip((fc6, fc7), fully, strict=True):
        torch.testing.assert_close(layer.bias, own.bias[rows])


@pytest.mark.parametrize(("fc", "layers"), [(None, 2), (3, 1)])
def test_nothing_is_copied_where_there_is_nothing(fc, layers):
    """No convolutions to fill, or a backbone without fc6 and fc7."""
    backbone = SimpleNamespace(crop_fc=nn.Sequential(*[nn.Linear(4 * 49, 4 * 49)] * layers), grid=7)
    network = head(LAYERS300.model_copy(update={"fc": fc}), VOC300, 300, channels=(2, 4))
    before = [value.clone() for value in network.state_dict().values()]
    start_fc(network, backbone)
    assert all(torch.equal(value, same) for value, same in zip(network.state_dict().values(), before, strict=True))


def test_the_default_boxes_equal_torchvisions():
    """Its own way of writing them; not clipped, centres by the maps."""
    cells = LAYERS300.cells(300)
    ratios, scales = [[2], [2, 3], [2, 3], [2, 3], [2], [2]], [side / 300 for side in VOC300.sides]
    theirs = DefaultBoxGenerator(ratios, scales=scales, clip=False)
    boxes = theirs._grid_default_boxes([[count, count] for count in cells], [300, 300]).numpy() * 300
    grid = VOC300.model_copy(update={"steps": None}).grid(cells, 300)
    ours = grid([(count, count) for count in cells])
    # Of each pair of shapes ours has the wide one first, theirs too; both after the two squares.
    np.testing.assert_allclose((ours[:, :2] + ours[:, 2:]) / 2, boxes[:, :2], atol=1e-3)
    np.testing.assert_allclose(ours[:, 2:] - ours[:, :2], boxes[:, 2:], atol=1e-3)


def test_default_boxes_of_as_many_maps_as_sides_say():
    for change in ({"ratios": [[2.0]]}, {"steps": [8.0]}):
        with pytest.raises(ValueError, match="one list of ratios and one step for each map: 6"):
            DefaultBoxes(**{**VOC300.model_dump(), **change})


def test_a_box_of_each_shape_has_the_same_area():
    """Case 115: width min·√r, height min/√r, the wide one first; not √r on both sides."""
    cell = DefaultBoxes(sides=[32.0, 50.0], ratios=[[2.0]], steps=None).first_cell(0, 8.0)
    widths, heights = cell[:, 2] - cell[:, 0], cell[:, 3] - cell[:, 1]
    np.testing.assert_allclose(widths, [32, 40, 45.254834, 22.627417], rtol=1e-6)
    np.testing.assert_allclose(heights, [32, 40, 22.627417, 45.254834], rtol=1e-6)
    assert isinstance(VOC300.grid([1] * 6, 300), AnchorGrid)


@pytest.mark.parametrize(("change", "where"), [
    ({"sides": [0.0, *VOC300.sides[1:]]}, "sides.0"), ({"steps": [*VOC300.steps[:5], -1.0]}, "steps.5"),
    ({"ratios": [[1.0], *VOC300.ratios[1:]]}, "ratios.0.0"),
    ({"ratios": [*VOC300.ratios[:5], [2.0, 0.5]]}, "ratios.5.1"),
])
def test_shapes_that_are_none_or_there_already_are_refused(change, where):
    """A ratio of 1 is the square again, one below 1 the flip of another."""
    with pytest.raises(ValueError, match=rf"{where}\n  Input should be greater than"):
        DefaultBoxes(**{**VOC300.model_dump(), **change})


def test_more_of_the_facts_default_boxes():
    """§3 and §13: all boxes of a cell of fc7 and of conv9_2; centres and boxes beyond the border."""
    boxes = VOC300.grid(LAYERS300.cells(300), 300).of_image(300, 300)
    np.testing.assert_allclose(boxes[5776:5782] / 300, [
        [-0.073333, -0.073333, 0.126667, 0.126667], [-0.109348, -0.109348, 0.162681, 0.162681],
        [-0.114755, -0.044044, 0.168088, 0.097377], [-0.044044, -0.114755, 0.097377, 0.168088],
        [-0.146538, -0.031068, 0.199872, 0.084402], [-0.031068, -0.146538, 0.084402, 0.199872],
    ], atol=1e-6)
    np.testing.assert_allclose(boxes[8728:] / 300, [
        [0.06, 0.06, 0.94, 0.94], [0.019375, 0.019375, 0.980625, 0.980625],
        [-0.122254, 0.188873, 1.122254, 0.811127], [0.188873, -0.122254, 0.811127, 1.122254],
    ], atol=1e-6)
    crossing = (boxes < 0).any(axis=1) | (boxes > 300).any(axis=1)
    starts = [0, 5776, 7942, 8542, 8692, 8728]
    assert np.add.reduceat(crossing, starts, dtype=int).tolist() == [1356, 914, 427, 136, 34, 2]
    centres = ((boxes[:, :2] + boxes[:, 2:]) / 2).round(3)
    assert ((centres == 300).any(axis=1)[:5776].sum(), (centres == 304).any(axis=1).sum()) == (300, 114)
    assert ((boxes[:, 2:] - boxes[:, :2]) > 300).any(axis=1).sum() == 20


def test_the_layers_are_those_of_the_facts():
    """§2: pool5 of stride 1, fc6 dilated by 6, a ReLU behind every convolution but the predictors."""
    network = head(LAYERS300, VOC300, 300)
    pool, fc6, *_ = network.fc
    assert (pool.kernel_size, pool.stride, pool.padding) == (3, 1, 1)
    assert (fc6.kernel_size, fc6.dilation, fc6.padding) == ((3, 3), (6, 6), (6, 6))
    assert [type(layer).__name__ for layer in network.fc] == ["MaxPool2d", *["Conv2d", "ReLU"] * 2]
    for pair in network.extra:
        assert [type(layer).__name__ for layer in pair] == ["Conv2d", "ReLU"] * 2
    assert [[(layer.out_channels, layer.kernel_size[0], layer.stride[0]) for layer in pair[::2]]
            for pair in network.extra] == [
        [(256, 1, 1), (512, 3, 2)], [(128, 1, 1), (256, 3, 2)], *[[(128, 1, 1), (256, 3, 1)]] * 2]
