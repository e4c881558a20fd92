import numpy as np
import pytest
import torch
from torch import nn

from lib.backbones import backbones
from lib.backbones.centring import centre
from lib.backbones.scaling import Square
from lib.detectors.yolo.network import Cells, Convolution, Grid, YoloHead, YoloLayers, corners, restore

PAPER = YoloLayers(
    stride=32, convolutions=[{"width": 1024, "stride": stride} for stride in (1, 2, 1, 1)], groups=None, fc=4096,
    dropout=0.5,
)
SEVEN = Grid(cells=7, boxes=2)
SMALL = YoloLayers(stride=16, convolutions=[{"width": 8, "stride": 1}], groups=4, fc=None, dropout=0.0)


def small(fc=None, cells=4, boxes=2, classes=3, **changes):
    torch.manual_seed(0)
    layers = SMALL.model_copy(update={"fc": fc, **changes})
    return YoloHead(6, 64, layers, Grid(cells=cells, boxes=boxes), classes)


def test_the_papers_head():
    """Facts §2: on the map of 14 x 14 cells, 1024 channels; fc 205,524,992 and 6,022,590 parameters, map 7 x 7."""
    with torch.device("meta"):
        head = YoloHead(1024, 448, PAPER, SEVEN, 20)
        linear = [layer for layer in (*head.hidden, head.last) if isinstance(layer, nn.Linear)]
        assert [sum(value.numel() for value in layer.parameters()) for layer in linear] == [205_524_992, 6_022_590]
        convolutions = [layer for layer in head.hidden if isinstance(layer, nn.Conv2d)]
        assert sum(value.numel() for layer in convolutions for value in layer.parameters()) == 4 * (9 * 1024**2 + 1024)
    assert PAPER.cells(448) == 7
    slopes = [layer.negative_slope for layer in head.hidden if isinstance(layer, nn.LeakyReLU)]
    assert slopes == [0.1] * 5
    assert [layer.p for layer in head.hidden if isinstance(layer, nn.Dropout)] == [0.5]
    assert not isinstance(head.hidden[-1], nn.LeakyReLU)


def test_the_flat_layout_is_darknets():
    """Facts §12, S 7, B 2, C 20: cell 23 (row 3, column 2) has its classes from 460, confidences from 1026, its first
    box from 1262."""
    head = YoloHead(1, 32, YoloLayers(stride=32, convolutions=[], groups=None, fc=1, dropout=0.0), SEVEN, 20)
    with torch.no_grad():
        head.last.weight.zero_()
        head.last.bias.copy_(torch.arange(1470.0))
    classes, confidences, boxes = head({32: torch.zeros(2, 1, 1, 1)})
    assert (classes.shape, confidences.shape, boxes.shape) == ((2, 49, 20), (2, 49, 2), (2, 49, 2, 4))
    assert classes[1, 23].tolist() == list(range(460, 480))
    assert confidences[0, 23].tolist() == [1026, 1027]
    assert boxes[0, 23].flatten().tolist() == list(range(1262, 1270))


def test_the_convolution_predicts_each_cell_from_its_own_place():
    """Row by row: what changes at row 1, column 2 of the last map changes cell 6 alone."""
    head = small(convolutions=[], groups=None)
    maps = torch.randn(1, 6, 4, 4)
    before = head({16: maps})
    changed = maps.clone()
    changed[0, :, 1, 2] += 1
    for value, other in zip(before, head({16: changed}), strict=True):
        assert (value != other).flatten(2).any(dim=2).nonzero()[:, 1].tolist() == [6]


@pytest.mark.parametrize("fc", [None, 5])
def test_outputs_are_linear_and_of_the_grid(fc):
    head = small(fc)
    with torch.no_grad():
        head.last.weight.mul_(100)
    outputs = head({16: torch.randn(2, 6, 4, 4)})
    assert [tuple(value.shape) for value in outputs] == [(2, 16, 3), (2, 16, 2), (2, 16, 2, 4)]
    assert all(value.min() < -1 and value.max() > 1 for value in outputs)


def test_a_fully_connected_layer_makes_any_grid():
    outputs = small(5, cells=3)({16: torch.randn(1, 6, 4, 4)})
    assert outputs.classes.shape == (1, 9, 3)


def test_scores_are_products_of_what_is_not_negative():
    """Facts §11, 1: -2 times -3 is no score of 6."""
    outputs = Cells(
        torch.tensor([[[0.5, -3.0], [0.25, 1.5]]]), torch.tensor([[[0.8, -2.0], [1.0, 0.5]]]), torch.zeros(1, 2, 2, 4))
    scores = small(classes=2).scores_of(outputs)
    assert scores[0].flatten().tolist() == pytest.approx([0.4, 0, 0, 0, 0.25, 1.5, 0.125, 0.75])


def test_boxes_come_in_the_order_of_the_scores():
    outputs = Cells(torch.ones(1, 4, 1), torch.ones(1, 4, 3), torch.arange(48.0).view(1, 4, 3, 4))
    assert small().boxes_of(outputs)[0, 7].tolist() == outputs.boxes[0, 2, 1].tolist()


def test_decoding_of_the_facts():
    """§12: cell 23 of 7 x 7 on 500 x 375."""
    box = corners(np.float32([[0.5, 0.25, 0.6, 0.4]]), np.array([23]), 7, 448)
    box = Square(side=448).view(500, 375).original(box)[0]
    centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    assert centre.tolist() == pytest.approx([178.5714, 174.1071], abs=1e-3)
    assert size.tolist() == pytest.approx([180, 60], abs=1e-3)
    negative = corners(np.float32([[0.5, 0.25, -0.6, 0.4]]), np.array([23]), 7, 448)
    np.testing.assert_allclose(Square(side=448).view(500, 375).original(negative)[0], box, atol=1e-3)


def test_cells_of_a_map():
    layers = YoloLayers(stride=16, convolutions=[Convolution(width=8, stride=2)] * 2, groups=8, fc=None, dropout=0.0)
    assert [layers.cells(side) for side in (256, 250, 16, 17)] == [4, 4, 1, 1]
    maps = centre(backbones.build("resnet18")).levels([16])(torch.zeros(1, 3, 250, 250))[16]
    head = YoloHead(256, 250, layers, Grid(cells=4, boxes=1), 2)
    assert head({16: maps}).classes.shape == (1, 16, 2)


def test_groups_divide_all_widths():
    with pytest.raises(ValueError, match="groups that divide the width of every convolution"):
        SMALL.model_validate({**SMALL.model_dump(), "groups": 3})


@pytest.mark.parametrize("fc", [None, 5])
def test_a_head_is_restored_as_it_was(fc):
    backbone = backbones.build("resnet18")
    head = YoloHead(256, 64, SMALL.model_copy(update={"fc": fc}), Grid(cells=4, boxes=2), 3).eval()
    made = restore(head.describe(), backbone)
    maps = {16: torch.randn(1, 256, 4, 4)}
    for value, other in zip(head(maps), made(maps), strict=True):
        assert torch.equal(value, other)
    assert (made.grid, made.layers, made.side, made.training) == (head.grid, head.layers, 64, False)
    with pytest.raises(RuntimeError, match="last"):
        restore({**head.describe(), "grid": {"cells": 4, "boxes": 3}}, backbone)
