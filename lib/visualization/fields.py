"""Receptive fields: which pixels of an input a cell of a map can see.

Measured, not derived from a list of layers: in a copy of the network without nonlinearities, all weights positive and
means in place of maxima, a cell's gradient is not zero just where it sees. The same for all trunks, TensorFlow's padding
among them, whose cells' places depend on the size of the input.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lib.detectors.target import Layers
from lib.visualization.gradients import ACTIVATIONS

PASSED = (*ACTIVATIONS, nn.BatchNorm2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout)
MORE = 1024  # pixels: a longer input of the same parity at all strides up to 128, whose middle cell sees no border
THIN = 32  # pixels, the other side of it


@dataclass(frozen=True)
class Axis:
    """size : pixels that a cell sees;  stride : pixels between cells;  first : centre of the first one, half-open"""

    size: int
    stride: float
    first: float


@dataclass(frozen=True)
class Fields:
    """The fields of all cells of a map, along the input's height and width.

    sides : height and width of the input, pixels
    """

    rows: Axis
    columns: Axis
    sides: tuple[int, int]

    def box(self, row: float, column: float) -> NDArray[np.float32]:
        """float32 (4,) x1 y1 x2 y2 in pixels of the input, half-open, clipped to it."""
        places = (self.columns, column, self.sides[1]), (self.rows, row, self.sides[0])
        low, high = [], []
        for axis, cell, side in places:
            centre = axis.first + cell * axis.stride
            low.append(min(max(centre - axis.size / 2, 0), side))
            high.append(min(max(centre + axis.size / 2, 0), side))
        return np.array([*low, *high], np.float32)


def fields(network: nn.Module, maps: Layers, sides: tuple[int, int]) -> Fields:
    """The fields of the cells of `maps(network, inputs)`, of inputs of these sides (height, width), in pixels.

    A pooling to a fixed size is left out.
    """
    seeing = _seeing(network)
    height, width = sides
    return Fields(_axis(seeing, maps, height, 2), _axis(seeing, maps, width, 3), sides)


def _axis(network: nn.Module, maps: Layers, side: int, dim: int) -> Axis:
    shape = [1, 3, THIN, THIN]
    shape[dim] = side + MORE
    pixels = torch.ones(shape, requires_grad=True)
    with torch.enable_grad():
        cells = maps(network, pixels)
        middle = cells.shape[dim] // 2
        seen = []
        for cell in (middle, middle + 1):
            (slopes,) = torch.autograd.grad(cells.select(dim, cell).sum(), pixels, retain_graph=True)
            along = torch.nonzero(slopes.sum([0, 1, 5 - dim])).flatten()
            seen.append((int(along[0]), int(along[-1]) + 1))
    (low, high), (next_low, next_high) = seen
    centre, stride = (low + high) / 2, (next_low + next_high - low - high) / 2
    return Axis(high - low, stride, centre - middle * stride)


def _seeing(network: nn.Module) -> nn.Module:
    """A copy in which every layer passes on what each of its pixels adds, and nothing cancels."""
    copied = copy.deepcopy(network).to("cpu").eval()
    for parent in list(copied.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, PASSED):
                setattr(parent, name, nn.Identity())
            elif isinstance(layer, nn.MaxPool2d):
                mean = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)
                setattr(parent, name, mean)
    with torch.no_grad():
        for weight in copied.parameters():
            weight.fill_(len(weight) / weight.numel() if weight.dim() > 1 else 0)
    return copied
