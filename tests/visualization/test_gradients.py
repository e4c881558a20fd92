from dataclasses import replace

import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop, Saliency
from torch import nn

from lib.backbones import backbones
from lib.visualization.gradients import RuledActivation, gradient, ruled
from tests.visualization.targets import Small, small

VALUES = torch.tensor([[2.0, 3, -1], [1, -4, -2], [-5, 6, 7]])
SIGNAL = torch.tensor([[4.0, -1, 2], [-3, 5, -2], [1, -6, 3]])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("deconvnet", [[4, 0, 2], [0, 5, 0], [1, 0, 3]]), ("guided", [[4, 0, 0], [0, 0, 0], [0, 0, 3]])],
)
def test_the_worked_example_of_a_relu(rule, expected):
    values = VALUES.clone().requires_grad_()
    RuledActivation(nn.ReLU(), rule)(values).backward(SIGNAL)
    assert values.grad.tolist() == expected
    values.grad = None
    nn.ReLU()(values).backward(SIGNAL)
    assert values.grad.tolist() == [[4, -1, 0], [-3, 0, 0], [0, -6, 3]]


def test_relu6_passes_nothing_from_6_on():
    """By hand: 7 is above the top, 6 on it, where torch's slope is 0 as at 0."""
    values = torch.tensor([-1.0, 0, 3, 6, 7], requires_grad=True)
    RuledActivation(nn.ReLU6(), "guided")(values).backward(torch.tensor([1.0, 2, -3, 4, 5]))
    assert values.grad.tolist() == [0, 0, 0, 0, 0]
    values = torch.tensor([-1.0, 0, 3, 5, 7], requires_grad=True)
    RuledActivation(nn.ReLU6(), "guided")(values).backward(torch.tensor([1.0, 2, 3, -4, 5]))
    assert values.grad.tolist() == [0, 0, 3, 0, 0]
    values = torch.tensor([-1.0, 0, 3, 5, 7], requires_grad=True)
    RuledActivation(nn.ReLU6(), "deconvnet")(values).backward(torch.tensor([1.0, 2, 3, -4, 5]))
    assert values.grad.tolist() == [1, 2, 3, 0, 5]


def test_the_gradient_is_that_of_finite_differences():
    target = small()
    slopes = gradient(target)
    step = 1e-6
    for channel, row, column in ((0, 0, 0), (1, 3, 4), (2, 7, 7), (0, 5, 2)):
        moved = target.inputs.clone()
        moved[0, channel, row, column] += step
        change = (target(target.network, moved) - target(target.network, target.inputs)).item() / step
        assert slopes[0, channel, row, column].item() == pytest.approx(change, abs=1e-6)
    assert slopes.abs().max() > 1e-3


def test_gradients_are_captums():
    """Saliency of any network; guided and deconvnet where every activation is nn.ReLU, which captum's know alone."""
    network = Small()
    network.trunk[4] = nn.ReLU(inplace=True)
    target = small(network=network)
    for rule, theirs in (("plain", Saliency), ("guided", GuidedBackprop), ("deconvnet", Deconvolution)):
        options = {"abs": False} if rule == "plain" else {}
        expected = theirs(network).attribute(target.inputs.clone(), target=0, **options)
        torch.testing.assert_close(gradient(target, ruled(network, rule)), expected)
        assert expected.abs().max() > 0


def test_guided_of_alexnet_is_captums():
    torch.manual_seed(0)
    alexnet = backbones.build("alexnet").eval()
    scores = nn.Sequential(alexnet.trunk, alexnet.crop_map, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    target = replace(
        small(), network=scores, inputs=torch.randn(1, 3, 67, 67), maps=lambda net, pixels: net[0](pixels),
        score=lambda net, maps: net[3](net[2](net[1](maps)))[:, 7],
    )
    expected = GuidedBackprop(scores).attribute(target.inputs.clone(), target=7)
    torch.testing.assert_close(gradient(target, ruled(scores, "guided")), expected)
    assert expected.abs().max() > 0


def test_captum_would_take_the_plain_gradient_for_relu6():
    """Why the rule is ours: with ReLU6 alone captum's is the gradient, silently."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU6(), nn.Conv2d(4, 1, 6, bias=False), nn.Flatten())
    target = replace(
        small(), network=network.double(), maps=lambda net, pixels: pixels, score=lambda net, maps: net(maps)[:, 0]
    )
    plain = gradient(target)
    torch.testing.assert_close(GuidedBackprop(network).attribute(target.inputs.clone(), target=0), plain)
    assert not torch.allclose(gradient(target, ruled(network, "guided")), plain)


def test_a_rule_that_would_change_nothing_is_refused():
    with pytest.raises(ValueError, match="Linear has no activation"):
        ruled(nn.Linear(2, 2), "guided")


def test_a_second_score_is_not_added_to_the_first():
    """Case 147: y = (2x, 5x) of the same tensor."""
    network = nn.Conv2d(3, 2, 1, bias=False).double()
    with torch.no_grad():
        network.weight.zero_()[:, 0, 0, 0] = torch.tensor([2.0, 5.0])
    base = replace(small(), network=network, maps=lambda net, pixels: net(pixels))
    for label, slope in ((0, 2), (1, 5)):
        target = replace(base, score=lambda net, maps, label=label: maps[:, label].sum((1, 2)))
        assert gradient(target)[0, 0].unique().tolist() == [slope]
        assert gradient(target)[0, 1].unique().tolist() == [0]
    assert base.inputs.grad is None
    assert not base.inputs.requires_grad


def test_nothing_stays_behind():
    """Case 149: after many calls, one of them failed, the network has no hooks and its own activations."""
    target = small()
    before = [type(module) for module in target.network.modules()]
    for _ in range(20):
        gradient(target, ruled(target.network, "guided"))
    broken = replace(target, score=lambda net, maps: net.fc(maps[:, :1]))
    with pytest.raises(RuntimeError):
        gradient(broken, ruled(target.network, "guided"))
    assert [type(module) for module in target.network.modules()] == before
    for module in target.network.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
        assert not module._forward_pre_hooks
    assert target.network.trunk[1].inplace  # the copy's was changed


@pytest.mark.parametrize("rule", ["plain", "guided", "deconvnet"])
def test_each_input_of_a_batch_has_its_own_map(rule):
    """Case 150."""
    target = small(images=3)
    network = ruled(target.network, rule)
    together = gradient(target, network)
    for number in range(3):
        alone = gradient(replace(target, inputs=target.inputs[number : number + 1]), network)
        torch.testing.assert_close(together[number : number + 1], alone, rtol=0, atol=1e-6)
        assert alone.abs().max() > 0
