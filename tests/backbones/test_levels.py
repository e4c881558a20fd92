import copy

import pytest
import torch
from torch import nn

from lib.backbones import backbones
from lib.backbones.centring import centre
from lib.backbones.inference import fold_batch_norm

SMALL = ("efficientnet_lite0", "alexnet", "resnet18")


def lively(name):
    """A backbone whose batch norms do something."""
    torch.manual_seed(0)
    backbone = backbones.build(name).eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return backbone


@pytest.mark.parametrize("name", backbones.NAMES)
@pytest.mark.parametrize("centred", [False, True])
def test_strides_and_channels_of_every_backbone(name, centred):
    """A centred backbone has ceil(side / stride) cells, which anchors count on; the others have nearly as many."""
    with torch.device("meta"):
        backbone = centre(backbones.build(name)) if centred else backbones.build(name)
    assert set(backbone.level_channels) >= {8, 16, 32}
    assert backbone.level_channels[16] == backbone.channels
    for height, width in ((353, 600), (224, 97)):
        maps = backbone.maps(torch.zeros(1, 3, height, width, device="meta"), list(backbone.level_channels))
        for stride, found in maps.items():
            cells = (-(-height // stride), -(-width // stride))
            assert found.shape[1] == backbone.level_channels[stride]
            off = max(abs(side - count) for side, count in zip(found.shape[2:], cells, strict=True))
            assert off <= (0 if centred else 2)


@pytest.mark.parametrize("name", SMALL)
def test_maps_are_those_of_the_network_for_any_strides(name):
    backbone, images = lively(name), torch.randn(2, 3, 96, 80)
    with torch.no_grad():
        trunk = backbone.trunk(images)
        every = backbone.maps(images, list(backbone.level_channels))
        kept = {stride: found.clone() for stride, found in every.items()}
        assert torch.equal(every[16], trunk)
        assert torch.equal(every[32], backbone.deepest(trunk))
        for strides in ((8,), (32,), (32, 8), (16, 16), (4, 16)):
            found = backbone.maps(images, strides)
            assert list(found) == sorted(set(strides))
            assert all(torch.equal(found[stride], kept[stride]) for stride in found)
    assert all(torch.equal(every[stride], kept[stride]) for stride in every), "a layer wrote into the map before it"


def test_the_map_of_stride_32_is_the_crops_last_where_that_is_not_pooled_to_a_size():
    for name in ("efficientnet_lite0", "resnet18"):
        backbone, crops = lively(name), torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(backbone.maps(crops, (32,))[32], backbone(crops)[0])
    with torch.device("meta"):
        assert isinstance(backbones.build("vgg16").deepest, nn.MaxPool2d)


@pytest.mark.parametrize("name", SMALL)
def test_nothing_behind_the_last_map_is_run(name):
    backbone, ran = lively(name), []
    for part, module in (("trunk", backbone.trunk[-1]), ("deepest", backbone.deepest)):
        module.register_forward_hook(lambda *_, part=part: ran.append(part))
    for strides, expected in (((8,), []), ((16,), ["trunk"]), ((8, 32), ["trunk", "deepest"])):
        ran.clear()
        backbone.maps(torch.randn(1, 3, 64, 64), strides)
        assert ran == expected


def test_levels_are_the_backbones_own_layers_and_add_no_tensor():
    backbone = lively("resnet18")
    names = list(backbone.state_dict())
    levels = backbone.levels((8, 32))
    assert levels.strides == (8, 32)
    theirs = {id(value) for value in backbone.parameters()}
    assert {id(value) for value in levels.parameters()} <= theirs
    assert list(backbone.state_dict()) == names
    levels.train()
    assert not any(module.training for module in levels.modules() if isinstance(module, nn.BatchNorm2d))
    copied, images = fold_batch_norm(levels), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for stride, found in levels.eval()(images).items():
            torch.testing.assert_close(copied(images)[stride], found, atol=1e-3, rtol=1e-3)


def test_unknown_strides():
    with pytest.raises(ValueError, match=r"resnet18 has maps of \[4, 8, 16, 32\]"):
        backbones.build("resnet18").levels((8, 64))
    with pytest.raises(ValueError, match="strides \\[\\]"):
        backbones.build("resnet18").maps(torch.zeros(1, 3, 32, 32), ())


@pytest.mark.parametrize("name", SMALL)
def test_centring_the_deepest_layers_leaves_tensors_and_the_trunk_alone(name):
    backbone = lively(name)
    before, other = copy.deepcopy(backbone.state_dict()), centre(copy.deepcopy(backbone))
    assert list(other.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())
    images = torch.randn(1, 3, 97, 65)
    with torch.no_grad():
        assert torch.equal(other.maps(images, (16,))[16], other.trunk(images))
        # Fast R-CNN's layers on a pooled region: resnets alone have `deepest` among them.
        if name == "resnet18":
            pooled = torch.randn(3, 256, 14, 14)
            assert torch.equal(other.crop_map(pooled), backbone.crop_map(pooled))
