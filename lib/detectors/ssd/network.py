"""SSD (Liu et al. 2016, §2.1): extra layers behind a trunk, default boxes on each map, one convolution that predicts.

A anchors at a cell of a map, K scores of each.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from lib.backbones.backbones import Backbone
from lib.boxes.anchors import AnchorGrid, Level
from lib.boxes.boxes import Boxes
from lib.detectors.dense.network import DenseHead, Form, Outputs, joined, predict, restored_form
from lib.stage.params import Settings

FC_STRIDE, DILATION = 16, 6  # of the map that fc6 and fc7 stand on, and of fc6
Positive = Annotated[float, Field(gt=0)]


class DefaultBoxes(Settings):
    """Block `ssd.boxes`.

    sides  : of the square of each map, pixels of the resized image, and of one more: each map has a second square, of
             the geometric mean of its side and the next (paper, VOC, 300: 30, 60, 111, 162, 213, 264, 315)
    ratios : width / height of the other boxes of each map, above 1, each with its flip (paper: 2 and 3; 2 alone on the
             first map and the last two)
    steps  : pixels from a cell of each map to the next; null: side of the image / cells (paper: null; authors: 8, 16,
             32, 64, 100, 300, so that the last cells of conv4_3 lie on the border)
    """

    sides: list[Positive] = Field(min_length=2)
    ratios: list[list[Annotated[float, Field(gt=1)]]]
    steps: list[Positive] | None

    @model_validator(mode="after")
    def _of_the_same_maps(self) -> "DefaultBoxes":
        maps = len(self.sides) - 1
        if len(self.ratios) != maps or (self.steps is not None and len(self.steps) != maps):
            raise ValueError(f"one list of ratios and one step for each map: {maps}, one less than sides")
        return self

    def first_cell(self, level: int, step: float) -> Boxes:
        """float32 (A, 4): the boxes of a map's first cell; square, larger square, then each ratio and its flip."""
        side, following = self.sides[level : level + 2]
        shapes = [(side, side), (np.sqrt(side * following),) * 2]
        for ratio in self.ratios[level]:
            wide, narrow = side * np.sqrt(ratio), side / np.sqrt(ratio)
            shapes += [(wide, narrow), (narrow, wide)]
        half = np.array(shapes) / 2
        return np.hstack([step / 2 - half, step / 2 + half]).astype(np.float32)

    def grid(self, cells: Sequence[int], side: int) -> AnchorGrid:
        """The boxes of an image of this side, whose maps have so many cells along a side."""
        steps = self.steps if self.steps is not None else [side / count for count in cells]
        return AnchorGrid([Level(step, self.first_cell(level, step)) for level, step in enumerate(steps)])


class Extra(Settings):
    """A pair of convolutions that makes the next map: 1 x 1 to `reduce` channels, 3 x 3 to `width`.

    stride : 2 (padded by 1: half the cells, rounded up) or 1 (not padded: two cells less)
    """

    reduce: int = Field(ge=1)
    width: int = Field(ge=1)
    stride: int = Field(ge=1, le=2)

    def cells(self, before: int) -> int:
        """Cells along a side, from those of the map before; 0 or less: none is left."""
        return -(-before // 2) if self.stride == 2 else before - 2


class SsdLayers(Settings):
    """Block `ssd.layers`.

    strides  : of the trunk's maps that boxes are predicted on (VGG-16: 8 and 16)
    l2_scale : of each of these maps: its norm at each cell, to which it is scaled before a learnt factor of each
               channel; null: it is not scaled (paper: 20 for the first, null)
    fc       : width of fc6 and fc7 as convolutions on the map of stride 16, fc6 dilated; VGG-16's and AlexNet's start
               from their own, sub-sampled; null: none (paper: 1024)
    extra    : the layers of the other maps (paper, 300: 256-512/2, 128-256/2, 128-256/1, 128-256/1)
    """

    strides: list[int]
    l2_scale: list[Positive | None]
    fc: int | None = Field(ge=1)
    extra: list[Extra]

    @model_validator(mode="after")
    def _of_the_same_maps(self) -> "SsdLayers":
        if len(self.l2_scale) != len(self.strides):
            raise ValueError(f"one l2_scale, or null, for each of strides: {len(self.strides)}")
        return self

    def cells(self, side: int) -> list[int]:
        """Cells along a side of each map of an image of this side; `centring` makes the trunk round up."""
        cells = [-(-side // stride) for stride in self.strides]
        for extra in self.extra:
            cells.append(extra.cells(cells[-1]))
        return cells


class L2Norm(nn.Module):
    """x / |x| over the channels of each cell, times a learnt factor of each channel (ParseNet; normalize_layer.cpp)."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, maps: Tensor) -> Tensor:
        """float (N, channels, h, w) -> the same shape; a cell of zeros stays zero."""
        norm = (maps.float().square().sum(dim=1, keepdim=True) + 1e-10).sqrt()
        return maps / norm * self.weight[:, None, None]


class SsdHead(DenseHead):
    """The layers behind the trunk, and a 3 x 3 convolution for the scores and one for the deltas of each map.

    channels : of the trunk's maps, in the order of `layers.strides`
    first_bias : of the scores

    Xavier's weights, biases 0 (authors' prototxts).
    """

    def __init__(self, channels: Sequence[int], layers: SsdLayers, form: Form, first_bias: float = 0.0) -> None:
        super().__init__(form, layers.strides)
        self.layers = layers
        widths = list(channels)
        self.fc = nn.Sequential()
        if layers.fc is not None:
            place = layers.strides.index(FC_STRIDE)
            self.fc = _convolutional_fc(widths[place], layers.fc)
            widths[place] = layers.fc
        self.l2 = nn.ModuleList(
            nn.Identity() if scale is None else L2Norm(width, scale)
            for width, scale in zip(widths, layers.l2_scale, strict=True)
        )
        self.extra = nn.ModuleList()
        for extra in layers.extra:
            self.extra.append(nn.Sequential(
                nn.Conv2d(widths[-1], extra.reduce, 1), nn.ReLU(inplace=True),
                nn.Conv2d(extra.reduce, extra.width, 3, extra.stride, padding=extra.stride - 1), nn.ReLU(inplace=True),
            ))
            widths.append(extra.width)
        pairs = list(zip(widths, form.grid.per_cell, strict=True))
        self.scores = nn.ModuleList(nn.Conv2d(width, count * form.outputs, 3, padding=1) for width, count in pairs)
        self.deltas = nn.ModuleList(nn.Conv2d(width, count * 4, 3, padding=1) for width, count in pairs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for scores in self.scores:
            nn.init.constant_(scores.bias, first_bias)  # type: ignore[arg-type]

    def sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """See `DenseHead`; maps without padding are smaller than their stride says."""
        return list(zip(self.layers.cells(height), self.layers.cells(width), strict=True))

    def forward(self, maps: Mapping[int, Tensor]) -> Outputs:
        """See `DenseHead`."""
        trunk = [self.fc(maps[stride]) if stride == FC_STRIDE else maps[stride] for stride in self.strides]
        # What is scaled is the predictor's alone.
        sources = [scaled(level) for scaled, level in zip(self.l2, trunk, strict=True)]
        current = trunk[-1]
        for extra in self.extra:
            current = extra(current)
            sources.append(current)
        scores = [predict(layer, source, self.form.outputs) for layer, source in zip(self.scores, sources, strict=True)]
        deltas = [predict(layer, source, 4) for layer, source in zip(self.deltas, sources, strict=True)]
        return joined(scores, deltas, sources)

    def describe(self) -> dict[str, Any]:
        """The section `head` of a model file, for `restore`."""
        return {"layers": self.layers.model_dump(), "form": self.form.describe(), "tensors": self.state_dict()}


def _convolutional_fc(channels: int, width: int) -> nn.Sequential:
    """pool5 with stride 1, fc6 as a dilated 3 x 3 convolution, fc7 as a 1 x 1 one; the cells stay."""
    return nn.Sequential(
        nn.MaxPool2d(3, 1, 1),
        nn.Conv2d(channels, width, 3, padding=DILATION, dilation=DILATION), nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1), nn.ReLU(inplace=True),
    )


def start_fc(head: SsdHead, backbone: Backbone) -> None:
    """Copies some of the backbone's own fc6 and fc7 into their convolutions: evenly spaced outputs, and of fc6's cells
    the corners, the middle, and the middles of the sides (the authors' reduced VGG-16). Nothing where it has none."""
    fully = [layer for layer in backbone.crop_fc.modules() if isinstance(layer, nn.Linear)]
    if not len(head.fc) or len(fully) < 2:
        return
    fc6, fc7 = (layer for layer in head.fc if isinstance(layer, nn.Conv2d))
    grid = backbone.grid
    outputs = _spread(fully[0].out_features, fc6.out_channels)
    cells = _spread(grid, 3)
    weight = fully[0].weight.detach().view(-1, fc6.in_channels, grid, grid)
    with torch.no_grad():
        fc6.weight.copy_(weight[outputs][:, :, cells][..., cells])
        fc6.bias.copy_(fully[0].bias[outputs])  # type: ignore[union-attr]
        fc7.weight.copy_(fully[1].weight[outputs][:, outputs, None, None])
        fc7.bias.copy_(fully[1].bias[outputs])  # type: ignore[union-attr]


def _spread(total: int, count: int) -> Tensor:
    """int64 (count,): places from 0 to total - 1; of 7 the places 0, 3, 6."""
    return torch.linspace(0, total - 1, count).round().long()


def restore(section: Mapping[str, Any], backbone: Backbone) -> SsdHead:
    """The head of a section from `SsdHead.describe`, in evaluation mode. Raises RuntimeError for other tensors."""
    layers, form = SsdLayers(**section["layers"]), restored_form(section["form"])
    head = SsdHead([backbone.level_channels[stride] for stride in layers.strides], layers, form)
    head.load_state_dict(section["tensors"])
    return head.eval()
