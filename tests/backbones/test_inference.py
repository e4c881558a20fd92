import copy

import pytest
import torch
from torch import nn

from lib.backbones import backbones
from lib.backbones.centring import centre
from lib.backbones.device import Device, pick_device
from lib.backbones.inference import FusedConv, fold_batch_norm, for_inference
from tests.backbones.test_levels import lively

CPU = pick_device("cpu", "float32")


@pytest.mark.parametrize("name", backbones.NAMES)
@pytest.mark.parametrize("centred", [False, True])
def test_the_fused_trunk_is_the_folded_one(name, centred):
    """Bit for bit with the default's; in wide 3 x 3 convolutions oneDNN sums in another order."""
    backbone = centre(lively(name)) if centred else lively(name)
    trunk = backbone.trunk
    image = torch.randn(1, 3, 101, 75).to(memory_format=torch.channels_last)
    folded, fused = fold_batch_norm(trunk).to(memory_format=torch.channels_last), for_inference(trunk, CPU)
    joined = [module for module in fused.modules() if isinstance(module, FusedConv)]
    left = [module for module in fused.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]
    assert (len(joined), len(left)) == {  # a resnet's blocks know alone what follows what
        "efficientnet_lite0": (22, 0) if centred else (18, 4), "alexnet": (5, 0), "vgg16": (13, 0),
        "resnet18": (1, 6), "resnet50": (1, 13),
    }[name]
    with torch.inference_mode():
        if name in ("alexnet", "vgg16"):
            torch.testing.assert_close(fused(image), folded(image))
        else:
            assert torch.equal(fused(image), folded(image))
        torch.testing.assert_close(fused(image), trunk(image), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6()])
def test_a_convolution_with_its_activation_by_hand(activation):
    """1 x 1 with weight 2 and bias -1: 2 x - 1, cut below at 0, and by ReLU6 above at 6."""
    conv = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        conv.weight.fill_(2)
        conv.bias.fill_(-1)
        outputs = FusedConv(conv, activation)(torch.tensor([-1.0, 0.5, 2.0, 9.0]).view(1, 1, 1, 4))
    assert outputs.flatten().tolist() == [0, 0, 3, 17 if isinstance(activation, nn.ReLU) else 6]


def test_what_is_no_such_pair():
    class Own(nn.Conv2d):
        """As timm's with "same" padding."""

    plain = nn.Conv2d(3, 3, 3, padding=1)
    assert FusedConv.takes(plain, nn.ReLU())
    assert not FusedConv.takes(Own(3, 3, 3), nn.ReLU())
    assert not FusedConv.takes(nn.Conv2d(3, 3, 3, padding="same"), nn.ReLU())
    assert not FusedConv.takes(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), nn.ReLU())
    assert not FusedConv.takes(plain, nn.LeakyReLU(0.1))
    assert not FusedConv.takes(nn.Linear(3, 3), nn.ReLU())


def test_in_half_precision_nothing_is_fused():
    """Under autocast oneDNN's operator would get tensors of two precisions."""
    layers = for_inference(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()), Device(torch.device("cpu"), torch.bfloat16))
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.ReLU]


def test_the_network_itself_is_left_as_it_was():
    net = lively("resnet18")
    before, image = copy.deepcopy(net.state_dict()), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        fc7 = net(image)[1]
        for_inference(net, CPU)
        assert torch.equal(net(image)[1], fc7)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())
