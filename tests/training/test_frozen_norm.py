import pytest
import torch
from torch import nn

from lib.backbones import backbones
from lib.backbones.centring import centre
from lib.training.frozen_norm import through_frozen_norm


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_the_same_function_and_the_same_gradients(name):
    torch.manual_seed(0)
    backbone = centre(backbones.build(name)).train()
    backbone.freeze(0)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    trained = [parameter for parameter in backbone.trunk.parameters() if parameter.requires_grad]
    pixels = torch.randn(1, 3, 65, 80)
    found = []
    for trunk in (backbone.trunk, through_frozen_norm(backbone.trunk)):
        maps = trunk(pixels)
        found.append([maps, *torch.autograd.grad(maps.square().mean(), trained)])
    assert len(found[0]) > 15
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4 * one.abs().max().item(), rtol=1e-3)


def test_the_parameters_are_the_networks_own():
    backbone = centre(backbones.build("efficientnet_lite0"))
    copied = through_frozen_norm(backbone.trunk)
    own = {id(parameter) for parameter in backbone.trunk.parameters()}
    assert all(id(parameter) in own for parameter in copied.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copied.modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in backbone.trunk.modules()) > 20


def test_other_pairs_are_left():
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1, bias=False), nn.ReLU())
    kinds = [type(module) for module in through_frozen_norm(net)]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d, nn.ReLU]
