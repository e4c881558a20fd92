import numpy as np
import pytest
import torch
from torch import nn

from lib.backbones import backbones
from lib.backbones.centring import centre
from lib.visualization.fields import Axis, Fields, FieldsOf, fields

trunk = lambda network, pixels: network(pixels)  # noqa: E731


@pytest.fixture(scope="module")
def caffes_alexnet():
    features = backbones.build("alexnet")
    net = nn.Sequential(*features.trunk, features.crop_map[0])
    net[0].padding = (0, 0)
    net[3].padding, net[6].padding, net[8].padding, net[10].padding = (2, 2), (1, 1), (1, 1), (1, 1)
    return net


@pytest.mark.parametrize(
    ("layers", "size", "stride", "first"),
    [
        (1, 11, 4, 5), (3, 19, 8, 9), (4, 51, 8, 9), (6, 67, 16, 17), (7, 99, 16, 17), (9, 131, 16, 17),
        (11, 163, 16, 17), (13, 195, 32, 33),
    ],
)
def test_caffes_alexnet_layer_by_layer(caffes_alexnet, layers, size, stride, first):
    """R-CNN's receptive_field_sizes.m, whose conv1 has no padding; the first centre is of pixels, ours half-open."""
    assert fields(caffes_alexnet[:layers], trunk, (227, 227)).rows == Axis(size, stride, first + 0.5)


def test_torchvisions_alexnet_and_vgg16():
    alexnet, vgg16 = backbones.build("alexnet"), backbones.build("vgg16")
    whole = lambda net, pixels: net.crop_map(net.trunk(pixels))  # noqa: E731
    assert fields(alexnet, whole, (224, 224)).columns == Axis(195, 32, 31.5)
    assert fields(vgg16.trunk, trunk, (224, 224)).columns == Axis(196, 16, 8.0)
    assert fields(vgg16, whole, (224, 224)).columns == Axis(212, 32, 16.0)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_the_first_cell_of_a_centred_trunk_lies_where_the_backbone_says(name):
    backbone = centre(backbones.build(name))
    found = fields(backbone.trunk, trunk, (96, 120))
    assert (found.rows.first, found.columns.first) == (backbone.first, backbone.first)
    assert (found.rows.stride, found.columns.stride) == (backbone.stride, backbone.stride)


def test_tensorflows_padding_depends_on_the_side():
    """88 pixels: 44, 22, 11, 6 cells; see the parities in `centring`."""
    net = backbones.build("efficientnet_lite0").trunk
    found = fields(net, trunk, (353, 360))
    assert (found.rows.first, found.columns.first) == (0.5, 7.5)


def test_what_a_cell_sees_is_what_moves_it():
    """A slow twin on a small net with its real weights: each pixel is moved in turn, up and down."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.LeakyReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(8, 4, 3, 1, 1))
    found = fields(net.double(), trunk, (24, 32))
    pixels = torch.rand(1, 3, 24, 32, dtype=torch.float64)
    moved = np.zeros((24, 32), bool)
    with torch.no_grad():
        cells = net(pixels)[0, :, 2, 5]
        for row, column in np.ndindex(24, 32):
            for step in (-90, 90):
                changed = pixels.clone()
                changed[0, :, row, column] += step
                moved[row, column] |= bool((net(changed)[0, :, 2, 5] != cells).any())
    rows, columns = np.flatnonzero(moved.any(1)), np.flatnonzero(moved.any(0))
    assert found.box(2, 5).tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_each_map_has_its_own_fields():
    net, fields_of = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)), FieldsOf()
    first = lambda network, pixels: network[0](pixels)  # noqa: E731
    assert [fields_of(net, maps, (32, 32)).rows.stride for maps in (first, trunk, first)] == [2, 4, 2]


def test_a_field_is_cut_at_the_input():
    found = Fields(Axis(10, 4, 2.0), Axis(6, 8, 4.0), (20, 40))
    assert found.box(0, 0).tolist() == [1, 0, 7, 7]
    assert found.box(4, 4).tolist() == [33, 13, 39, 20]
