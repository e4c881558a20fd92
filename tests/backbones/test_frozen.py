import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from lib.backbones import backbones
from lib.backbones.frozen import FrozenNorm, freeze_norms, norms
from lib.backbones.region_layers import region_layers
from lib.detectors.fast.network import DetectionHead, FastNetwork
from lib.detectors.faster.network import ProposalNetwork
from lib.detectors.faster.rpn import RPN, Anchors, RpnLayers
from lib.detectors.faster.train_joint import JointNetwork


class Small(FrozenNorm):
    def __init__(self):
        super().__init__()
        activated = nn.Sequential(BatchNormAct2d(4))
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), activated, nn.Dropout())


def test_batch_norm_stays_in_evaluation_mode_and_everything_else_follows():
    net = Small()
    assert net.train() is net
    assert net.training
    assert [module.training for module in net.inner] == [True, False, True, True]
    assert len(list(norms(net))) == 2
    assert not net.inner[2][0].training
    before = net.inner[1].running_mean.clone()
    net.inner(torch.randn(2, 3, 8, 8))
    assert torch.equal(net.inner[1].running_mean, before)
    assert not any(module.training for module in net.eval().modules())


def test_frozen_norms_have_no_gradient_and_the_rest_keeps_its_own():
    net = Small()
    freeze_norms(net)
    assert [name for name, value in net.named_parameters() if value.requires_grad] == ["inner.0.weight", "inner.0.bias"]


def networks(name):
    torch.manual_seed(0)
    backbone = backbones.build(name)
    head = DetectionHead(*region_layers(backbone, 8, 0.5), 2)
    anchors = Anchors(scales=[32.0], ratios=[1.0], base=16.0, centre=8.0)
    rpn = RPN(backbone.channels, RpnLayers(width=8, score="softmax"), anchors, 16)
    return [backbone, FastNetwork(backbone, head), ProposalNetwork(backbone, rpn), JointNetwork(backbone, rpn, head)]


def old_train(network):
    """What each of these networks did by itself."""
    nn.Module.train(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_all_networks_with_a_trunk_train_as_they_did(name):
    for network in networks(name):
        network.train()
        modes = [module.training for module in network.modules()]
        network.eval()
        old_train(network)
        assert modes == [module.training for module in network.modules()]
        assert any(modes)
