import pytest
import torch
from torch import nn

from lib.backbones import backbones
from lib.backbones.region_layers import region_layers
from lib.detectors.fast.network import DetectionHead


def test_initial_weights_are_the_papers():
    torch.manual_seed(0)
    head = DetectionHead(nn.Flatten(), 500, 20)
    assert head.score.weight.shape == (21, 500)
    assert head.box.weight.shape == (84, 500)
    assert head.score.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert head.box.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not head.score.bias.any()
    assert not head.box.bias.any()


def test_deltas_of_class_c_are_its_four_outputs_and_get_their_statistics_once():
    head = DetectionHead(nn.Flatten(), 1, 2)
    with torch.no_grad():
        head.box.weight.copy_(torch.arange(12.0)[:, None])
    mean, std = torch.rand(3, 4), torch.rand(3, 4) + 0.5
    head.set_statistics(mean, std)
    logits, normalised = head(torch.ones(1, 1, 1, 1))
    assert logits.shape == (1, 3)
    torch.testing.assert_close(normalised, torch.arange(12.0).view(1, 3, 4))
    torch.testing.assert_close(head.deltas(normalised)[0, 2], torch.tensor([8.0, 9, 10, 11]) * std[2] + mean[2])
    torch.testing.assert_close(head(torch.ones(1, 1, 1, 1))[1], normalised)


def test_statistics_are_saved_beside_the_weights():
    head, again = DetectionHead(nn.Flatten(), 3, 2), DetectionHead(nn.Flatten(), 3, 2)
    head.set_statistics(torch.full((3, 4), 0.1), torch.full((3, 4), 0.2))
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.mean, head.mean)
    assert torch.equal(again.std, head.std)
    assert torch.equal(again.box.weight, head.box.weight)


def test_no_regions():
    logits, deltas = DetectionHead(nn.Flatten(), 12, 2)(torch.zeros(0, 3, 2, 2))
    assert logits.shape == (0, 3)
    assert deltas.shape == (0, 3, 4)


def test_fresh_layers_of_the_default():
    backbone = backbones.build("efficientnet_lite0")
    layers, features = region_layers(backbone, 32, 0.0)
    assert features == 32
    assert layers(torch.randn(2, 112, 7, 7)).shape == (2, 32)
    assert not any(isinstance(layer, nn.Dropout) for layer in layers.modules())
    for layer in (layers[1], layers[3]):
        assert layer.weight.std().item() == pytest.approx(0.005, rel=0.1)
        assert not layer.bias.any()
    layers, _ = region_layers(backbone, 64, 0.0, "uniform")
    for layer in (layers[1], layers[3]):  # PyTorch's: within ±1/√inputs, of deviation 1/√(3 inputs)
        assert layer.weight.abs().max().item() <= layer.in_features**-0.5
        assert layer.weight.std().item() == pytest.approx((3 * layer.in_features) ** -0.5, rel=0.05)
        assert layer.bias.any()
    dropped, _ = region_layers(backbone, 32, 0.25)
    assert [layer.p for layer in dropped.modules() if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    assert [type(layer) for layer in dropped] == [nn.Flatten, *2 * [nn.Linear, nn.ReLU, nn.Dropout]]


def test_alexnet_keeps_its_pretrained_layers():
    """On a pooled grid of 6 the region layers are the network that ImageNet trained, from pool5 on (dropout aside)."""
    backbone = backbones.build("alexnet").eval()
    layers, features = region_layers(backbone, 1, 0.5)
    pooled = torch.randn(2, 256, 6, 6)
    assert features == 4096
    with torch.no_grad():
        torch.testing.assert_close(layers.eval()(pooled), backbone.crop_fc(pooled))
    assert layers[1] is backbone.crop_fc[1]


def test_resnet_runs_its_last_block():
    backbone = backbones.build("resnet18").eval()
    layers, features = region_layers(backbone, 1, 0.0)
    pooled = torch.randn(2, 256, 14, 14)
    assert features == 512
    with torch.no_grad():
        torch.testing.assert_close(layers(pooled), backbone.crop_map(pooled).mean((2, 3)))
