"""Receptive fields: which pixels of an input a cell of a map can see.

Measured, not derived from a list of layers: in a copy of the network without nonlinearities, all weights positive and
means in place of maxima, a cell's gradient is not zero just where it sees. The same for all trunks,
TensorFlow's padding among them, whose cells' places depend on the size of the input.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lib.detectors.target import Layers
from lib.visualization.gradients import ACTIVATIONS

PASSED = (*ACTIVATIONS, nn.BatchNorm2d, nn.GroupNorm, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout)
MORE = 1024  # pixels: a longer input of the same parity at all strides up to 128, whose middle cell sees no border


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
    rows, columns = (_axis(_seeing(network, axis), maps, side, axis) for axis, side in enumerate(sides))
    return Fields(rows, columns, sides)


class FieldsOf:
    """Receptive fields by the map and the sides of an input, each measured once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Layers, tuple[int, int]], Fields] = {}

    def __call__(self, network: nn.Module, maps: Layers, sides: tuple[int, int]) -> Fields:
        """See `fields.fields`; always of the same network."""
        if (maps, sides) not in self._known:
            self._known[maps, sides] = fields(network, maps, sides)
        return self._known[maps, sides]


def _axis(network: nn.Module, maps: Layers, side: int, axis: int) -> Axis:
    shape = [1, 3, 1, 1]
    shape[2 + axis] = side + MORE
    weight = next(network.parameters())
    pixels = torch.ones(shape, dtype=weight.dtype, device=weight.device, requires_grad=True)
    with torch.enable_grad():
        cells = maps(network, pixels)
        middle = cells.shape[2 + axis] // 2
        seen = []
        for cell in (middle, middle + 1):
            (slopes,) = torch.autograd.grad(cells.select(2 + axis, cell).sum(), pixels, retain_graph=True)
            along = torch.nonzero(slopes.flatten(2).sum((0, 1))).flatten()
            seen.append((int(along[0]), int(along[-1]) + 1))
    (low, high), (next_low, next_high) = seen
    centre, stride = (low + high) / 2, (next_low + next_high - low - high) / 2
    return Axis(high - low, stride, centre - middle * stride)


def _seeing(network: nn.Module, axis: int) -> nn.Module:
    """A copy in which every layer passes on what each of its pixels adds, and nothing cancels, for inputs of one pixel
    across the axis: the other axis is then no work."""
    copied = copy.deepcopy(network).eval()
    for parent in list(copied.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, PASSED):
                setattr(parent, name, nn.Identity())
            elif isinstance(layer, nn.MaxPool2d):
                setattr(parent, name, _along(layer, axis))
    with torch.no_grad():
        for layer in copied.modules():
            if isinstance(layer, nn.Conv2d):
                _narrow(layer, axis)
        for weight in copied.parameters():
            weight.fill_(len(weight) / weight.numel() if weight.dim() > 1 else 0)
    return copied


def _narrow(layer: nn.Conv2d, axis: int) -> None:
    """Makes it a convolution along one axis."""
    layer.weight = nn.Parameter(layer.weight.sum(3 - axis, keepdim=True))
    for name, none in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
        value = getattr(layer, name)
        if not isinstance(value, str):
            setattr(layer, name, _one_axis(value, none, axis))


def _along(layer: nn.MaxPool2d, axis: int) -> nn.AvgPool2d:
    kernel, stride, padding = (
        _one_axis(value, none, axis)
        for value, none in ((layer.kernel_size, 1), (layer.stride, 1), (layer.padding, 0))
    )
    return nn.AvgPool2d(kernel, stride, padding, layer.ceil_mode)


def _one_axis(value: int | tuple[int, ...], none: int, axis: int) -> tuple[int, int]:
    both = [value, value] if isinstance(value, int) else list(value)
    both[1 - axis] = none
    return both[0], both[1]
