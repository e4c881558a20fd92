import pytest
import torch
from torch import nn

from lib.backbones import backbones
from lib.backbones.centring import centre


def linear(backbone):
    """The trunk without nonlinearities and with positive weights: a cell sees where its gradient is not 0."""
    for parameter in backbone.parameters():
        parameter.data.abs_()
    for module in backbone.modules():
        if hasattr(module, "act"):
            module.act = nn.Identity()
    return backbone.double().eval()


@pytest.mark.parametrize(("height", "before"), [(353, 0), (360, 7), (368, 15), (600, 7)])
def test_cells_lie_at_multiples_of_16(height, before):
    backbone = linear(backbones.build("efficientnet_lite0"))
    for offset, change in ((before, lambda same: same), (0, centre)):
        trunk = change(backbone).trunk
        pixels = torch.zeros(1, 3, height, 32, dtype=torch.float64, requires_grad=True)
        maps = trunk(pixels)
        assert maps.shape[2] == -(-height // 16)
        cell = maps.shape[2] // 2
        maps[0, :, cell].sum().backward()
        seen = torch.nonzero(pixels.grad.sum((0, 1, 3))).flatten()
        assert (seen[0] + seen[-1]).item() / 2 - 16 * cell == offset


@pytest.mark.parametrize("name", backbones.NAMES)
def test_first_is_the_middle_of_what_the_first_cell_sees(name):
    """Of a cell well inside, less its multiple of the stride; in half-open pixels, whose centres are at halves."""
    backbone = centre(linear(backbones.build(name)))
    for module in list(backbone.trunk.modules()):
        for part, layer in module.named_children():
            if isinstance(layer, nn.MaxPool2d):  # a maximum has a gradient at one cell alone
                mean = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)
                setattr(module, part, mean)
    pixels = torch.ones(1, 3, 32, 800, dtype=torch.float64, requires_grad=True)
    maps = backbone.trunk(pixels)
    maps[0, :, :, 25].sum().backward()
    seen = torch.nonzero(pixels.grad.sum((0, 1, 2))).flatten()
    assert (seen[0] + seen[-1] + 1).item() / 2 - 25 * backbone.stride == backbone.first


def test_odd_sides_are_not_changed_and_tensors_keep_their_names():
    torch.manual_seed(0)
    backbone = backbones.build("efficientnet_lite0").eval()
    names = list(backbone.state_dict())
    pixels = torch.randn(1, 3, 97, 81)
    with torch.no_grad():
        before = backbone.trunk(pixels)
        after = centre(backbone).trunk(pixels)
    torch.testing.assert_close(before, after)
    assert list(backbone.state_dict()) == names


def test_other_backbones_stay():
    backbone = backbones.build("resnet18")
    convolutions = [module for module in backbone.trunk.modules() if isinstance(module, nn.Conv2d)]
    centre(backbone)
    after = [module for module in backbone.trunk.modules() if isinstance(module, nn.Conv2d)]
    assert all(old is new for old, new in zip(convolutions, after, strict=True))


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "resnet18"])
@pytest.mark.parametrize("height", [353, 600, 901])
def test_every_trunk_has_the_cells_that_anchors_count_on(name, height):
    """Caffe's pooling rounds up: 600 x 1000 gives 38 x 63 (Fast R-CNN); its CaffeNet pads conv1 by 5, pooling by 1."""
    with torch.device("meta"):
        trunk = centre(backbones.build(name)).trunk
        assert trunk(torch.zeros(1, 3, height, 1000)).shape[2:] == (-(-height // 16), 63)


def test_the_receptive_field_of_caffenet_starts_at_pixel_0():
    backbone = linear(centre(backbones.build("alexnet")))
    layers = [nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding) if isinstance(layer, nn.MaxPool2d) else layer
              for layer in backbone.trunk if not isinstance(layer, nn.ReLU)]
    pixels = torch.zeros(1, 3, 400, 64, dtype=torch.float64, requires_grad=True)
    maps = nn.Sequential(*layers)(pixels)
    cell = 12
    maps[0, :, cell].sum().backward()
    seen = torch.nonzero(pixels.grad.sum((0, 1, 3))).flatten()
    assert (seen[0] + seen[-1]).item() / 2 == 16 * cell
