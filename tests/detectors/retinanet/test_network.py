from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.models.detection import retinanet_resnet50_fpn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from lib.backbones import backbones
from lib.backbones.centring import centre
from lib.backbones.frozen import norms
from lib.detectors.dense.network import DenseNetwork, Form
from lib.detectors.retinanet.network import Pyramid, PyramidAnchors, PyramidLayers, RetinaHead, doubling

PAPER = PyramidAnchors(side=4.0, octaves=3, ratios=[0.5, 1.0, 2.0], centre=0.5)
LAYERS = PyramidLayers(strides=[8, 16, 32, 64, 128], width=256, depth=4, groups=None)


def head(backbone, layers, classes, anchors=PAPER, first_bias=0.0):
    form = Form(anchors.grid(layers.strides), classes, False)
    return RetinaHead([backbone.level_channels[stride] for stride in layers.of_trunk], layers, form, first_bias)


def test_anchors_of_the_facts():
    """§4 and §14: 9 shapes of a cell of P3, not rounded; 32 to 813 pixels over the levels; round the cell's middle."""
    cell = PAPER.first_cell(8)
    sides = np.stack([cell[:, 2] - cell[:, 0], cell[:, 3] - cell[:, 1]], axis=1)
    expected = [(45.2548, 22.6274), (32, 32), (22.6274, 45.2548), (57.0175, 28.5088), (40.3175, 40.3175),
                (28.5088, 57.0175), (71.8376, 35.9188), (50.7968, 50.7968), (35.9188, 71.8376)]
    np.testing.assert_allclose(sides, expected, atol=2e-4)
    np.testing.assert_allclose((cell[:, :2] + cell[:, 2:]) / 2, np.full((9, 2), 4), atol=1e-5)
    assert np.sqrt(np.prod(np.ptp(PAPER.first_cell(128).reshape(9, 2, 2), axis=1), axis=1)).max() == pytest.approx(
        512 * 2 ** (2 / 3), rel=1e-5)
    shifted = PAPER.model_copy(update={"centre": 0.0}).first_cell(8)
    np.testing.assert_allclose(shifted, cell - 4, atol=1e-5)
    assert PAPER.grid(LAYERS.strides).of_image(64, 64).shape == (774, 4)  # maps of 8, 4, 2, 1, 1 cells
    assert len(PAPER.grid(LAYERS.strides).of_image(1344, 800)) == 201_600


def test_a_shape_of_another_ratio_has_the_same_area():
    """Case 115: size 32, height / width 2: 22.627 x 45.255, area 1024."""
    cell = PyramidAnchors(side=4.0, octaves=1, ratios=[2.0], centre=0.5).first_cell(8)
    assert (cell[0, 2:] - cell[0, :2]).tolist() == pytest.approx([22.627417, 45.254834])
    two = PyramidAnchors(side=4.0, octaves=2, ratios=[1.0], centre=0.5).first_cell(8)  # half an octave apart
    assert (two[:, 2] - two[:, 0]).tolist() == pytest.approx([32, 45.254834])


def test_parameters_are_those_of_torchvision_but_for_p6():
    """Facts §3: 34,014,999 with ResNet-50 and 91 outputs; torchvision makes P6 of P5, the paper of C5."""
    with torch.device("meta"):
        theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    assert without_norms(theirs) == 34_014_999
    with torch.device("meta"):
        backbone = backbones.build("resnet50")
        ours = DenseNetwork(backbone, head(backbone, LAYERS, 91))
    wider = (2048 - 256) * 256 * 9
    assert without_norms(ours) == 34_014_999 + wider


def without_norms(network):
    """Numbers of a network, but for batch norm's."""
    left_out = sum(value.numel() for norm in norms(network) for value in norm.parameters())
    return sum(value.numel() for value in network.parameters()) - left_out


def test_the_pyramid_equals_torchvisions():
    """Even sizes, where both double alike; P6 of C5 in both."""
    channels, torch_maps = [6, 8, 10], [torch.randn(2, count, side, side) for count, side in ((6, 16), (8, 8), (10, 4))]
    ours = Pyramid(channels, PyramidLayers(strides=[8, 16, 32, 64, 128], width=12, depth=0, groups=None))
    theirs = FeaturePyramidNetwork(channels, 12, LastLevelP6P7(10, 12))
    for mine, blocks in ((ours.lateral, theirs.inner_blocks), (ours.output, theirs.layer_blocks)):
        for layer, block in zip(mine, blocks, strict=True):
            block[0].load_state_dict(layer[0].state_dict())
    theirs.extra_blocks.p6.load_state_dict(ours.further[0][0].state_dict())
    theirs.extra_blocks.p7.load_state_dict(ours.further[1][0].state_dict())
    with torch.no_grad():
        expected = list(theirs(dict(enumerate(torch_maps))).values())
        levels = ours(torch_maps)
    assert [level.shape for level in levels] == [level.shape for level in expected]
    for level, other in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, other, atol=1e-5, rtol=1e-4)


def test_odd_maps_take_the_cell_above_them_and_not_a_stretched_one():
    """5 cells over 3: cell i of the lower level lies in cell i // 2 of the upper, also at the far end."""
    pyramid = Pyramid([1, 1], PyramidLayers(strides=[8, 16], width=1, depth=0, groups=None))
    for (layer,) in [*pyramid.lateral, *pyramid.output]:
        torch.nn.init.zeros_(layer.weight)
    with torch.no_grad():
        pyramid.lateral[1][0].weight[:] = 1
        pyramid.output[0][0].weight[0, 0, 1, 1] = 1
        above = torch.tensor([0.0, 1.0, 2.0]).view(1, 1, 1, 3)
        level = pyramid([torch.zeros(1, 1, 1, 5), above])[0]
    assert level.flatten().tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
@pytest.mark.parametrize("size", [(96, 64), (97, 131), (240, 320)])
def test_maps_are_of_the_sizes_that_are_counted(monkeypatch, name, size):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # there is none on the meta device
    with torch.device("meta"):
        backbone = centre(backbones.build(name))
        network = head(backbone, PyramidLayers(strides=[8, 16, 32, 64, 128], width=8, depth=1, groups=4), 3)
    outputs = DenseNetwork(backbone, network)(torch.zeros(2, 3, *size, device="meta"))
    assert outputs.sizes == network.sizes(size[1], size[0])
    assert outputs.scores.shape == (2, len(network.anchors(size[1], size[0])), 3)


def test_subnets_are_shared_by_the_levels_and_not_by_scores_and_boxes():
    backbone = backbones.build("resnet18")
    network = head(backbone, PyramidLayers(strides=[8, 16], width=8, depth=2, groups=4), 3)
    names = {name.split(".")[0] for name in network.state_dict()}
    assert names == {"pyramid", "score_tower", "delta_tower", "scores", "deltas"}
    level = torch.randn(1, 8, 5, 5)
    patched = []
    network.pyramid.forward = lambda maps: patched.append(maps) or [level, level]
    scores, deltas, sizes = network({8: level, 16: level})
    assert sizes == [(5, 5), (5, 5)]
    for values in (scores, deltas):
        first, second = values.chunk(2, dim=1)
        assert torch.equal(first, second)
    assert not torch.equal(network.score_tower[0].weight, network.delta_tower[0].weight)


def test_fresh_weights_and_the_first_bias():
    backbone = backbones.build("resnet18")
    network = head(backbone, PyramidLayers(strides=[8, 16, 32], width=64, depth=2, groups=None), 3, first_bias=-4.6)
    for layer in (network.score_tower[0], network.delta_tower[2], network.scores, network.deltas):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (network.scores.bias == torch.tensor(-4.6)).all()
    assert not network.deltas.bias.any()
    with torch.no_grad():
        maps = {stride: functional.relu(torch.randn(1, backbone.level_channels[stride], 64 // stride, 64 // stride))
                for stride in (8, 16, 32)}
        scores = network(maps).scores
    assert scores.sigmoid().mean().item() == pytest.approx(0.01, rel=0.05)


def test_normalised_subnets():
    """Of a normalised map half the channels' values are above 0: E[max(z, 0)²] is .5, whatever the input's scale."""
    layers = PyramidLayers(strides=[8], width=64, depth=2, groups=16)
    network = head(backbones.build("resnet18"), layers, 3)
    names = [type(layer).__name__ for layer in network.delta_tower]
    assert names == ["Conv2d", "GroupNorm", "ReLU"] * 2
    he = (2 / (9 * 64)) ** 0.5  # torch's kaiming_normal_
    assert network.score_tower[3].weight.std().item() == pytest.approx(he, rel=0.05)
    assert network.delta_tower[0].weight.std().item() == pytest.approx(he, rel=0.05)
    assert network.scores.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (network.score_tower[1].weight == 1).all()
    with torch.no_grad():
        level = torch.randn(2, 64, 20, 20)
        first, scaled = network.score_tower(level), network.score_tower(100 * level)
    assert first.square().mean().item() == pytest.approx(0.5, rel=0.05)
    torch.testing.assert_close(first, scaled, atol=1e-2, rtol=1e-2)
    with pytest.raises(ValueError, match="groups that divide width"):
        PyramidLayers(strides=[8], width=64, depth=2, groups=24)


def test_a_normalised_pyramid_weighs_its_maps_alike():
    """The level above counts as much as the trunk's map, though that is a hundred times as large."""
    pyramid = Pyramid([6, 8], PyramidLayers(strides=[8, 16, 32], width=16, depth=0, groups=4))
    below, above = torch.randn(1, 6, 8, 8), torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        first, scaled = pyramid([below, above]), pyramid([100 * below, above])
    for level, other in zip(first, scaled, strict=True):
        torch.testing.assert_close(level, other, atol=1e-2, rtol=1e-2)
    assert [part[1].num_groups for part in (*pyramid.lateral, *pyramid.output, *pyramid.further)] == [4] * 5


def test_doubling():
    assert doubling([8])
    assert doubling([8, 16, 32])
    assert not doubling([8, 32])
    assert not doubling([16, 8])


def test_anchors_of_an_image_are_as_many_as_the_facts_say():
    """§4: 600 x 1000 padded to multiples of 32, 800 x 1333 to multiples of 128. Case 116: 15 shapes of 64 x 64."""
    grid = PAPER.grid(LAYERS.strides)
    assert len(grid.of_image(1024, 608)) == 116_712
    assert len(grid.of_image(1408, 896)) == 236_313
    assert len(PAPER.model_copy(update={"octaves": 5}).grid(LAYERS.strides).of_image(64, 64)) == 1290


@pytest.mark.parametrize("ratio", [0.0, -1.0])
def test_a_ratio_that_is_none_is_refused(ratio):
    with pytest.raises(ValueError, match=r"ratios.1\n  Input should be greater than 0"):
        PyramidAnchors(**{**PAPER.model_dump(), "ratios": [1.0, ratio]})


def test_the_pyramid_begins_with_xaviers_weights_and_biases_0():
    """Facts §2; the subnets' are smaller."""
    for layer in Pyramid([16, 32], PyramidLayers(strides=[8, 16, 32, 64], width=24, depth=0, groups=None)).modules():
        if isinstance(layer, torch.nn.Conv2d):
            limit = (6 / (layer.weight[0].numel() + layer.weight[:, 0].numel())) ** 0.5
            assert 0.9 * limit < layer.weight.abs().max() <= limit + 1e-6
            assert not layer.bias.any()
