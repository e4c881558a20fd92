import copy

import pytest
import torch
from torch import nn

from lib.backbones import backbones
from lib.training.trunk import TrainedTrunk

CPU = torch.device("cpu")


def backbone(name):
    torch.manual_seed(0)
    net = backbones.build(name)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return net.double().train()  # in float32 the order of sums turns some activations on or off


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "alexnet"])
@pytest.mark.parametrize("frozen", [0, 2, None])
def test_same_maps_and_gradients_as_the_plain_trunk(name, frozen):
    net = backbone(name)
    plain = copy.deepcopy(net)
    plain.freeze(len(plain.trunk) if frozen is None else frozen)
    trunk = TrainedTrunk(net.trunk, frozen, CPU)
    net.freeze(0)
    image = torch.randn(1, 3, 97, 130, dtype=torch.float64)
    ours, expected = trunk(image), plain.trunk(image)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
    own, theirs = list(net.trunk.parameters()), list(plain.trunk.parameters())
    assert [weights.requires_grad for weights in own] == [weights.requires_grad for weights in theirs]
    if frozen is None:
        assert not ours.requires_grad
        return
    factor = torch.randn_like(ours)
    gradients = torch.autograd.grad((ours * factor).sum(), [weights for weights in own if weights.requires_grad])
    wanted = torch.autograd.grad((expected * factor).sum(), [weights for weights in theirs if weights.requires_grad])
    for gradient, right in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-3, atol=1e-3 * right.abs().max().item())


def test_a_step_on_the_parameters_is_seen_and_the_state_has_no_new_names():
    net = backbone("resnet18")
    names = list(net.state_dict())
    trunk, image = TrainedTrunk(net.trunk, 1, CPU), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    before = trunk(image)
    with torch.no_grad():
        for module in net.trunk[3].modules():
            if isinstance(module, nn.Conv2d):
                module.weight += 0.01
    assert not torch.equal(trunk(image), before)
    torch.testing.assert_close(trunk(image), net.trunk(image), rtol=1e-3, atol=1e-4)
    assert list(net.state_dict()) == names


def test_kept_maps_are_bounded_and_equal_computed_ones():
    net = backbone("resnet18")
    images = torch.randn(3, 1, 3, 64, 64, dtype=torch.float64)
    plain = [TrainedTrunk(net.trunk, 2, CPU)(image) for image in images]
    one_map = 64 * 16 * 16 * 8
    trunk = TrainedTrunk(net.trunk, 2, CPU, kept_bytes=2 * one_map + 5)
    for _ in range(2):
        for number, image in enumerate(images):
            assert torch.equal(trunk(image, number), plain[number])
    assert len(trunk) == 2
    blank = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    assert torch.equal(trunk(blank, 0), plain[0])
    assert not torch.equal(trunk(blank), plain[0])
