"""YOLO (Redmon et al. 2016, §2): S x S cells, each with B boxes, their confidences, and one set of class scores.

N images, S cells along a side of the grid, B boxes of a cell (its predictors), C classes. Cells go row by row.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from lib.backbones.backbones import Backbone
from lib.boxes.boxes import Boxes
from lib.detectors.dense.network import Head
from lib.stage.params import Settings

SLOPE = 0.1  # of the leaky ReLU below 0; PyTorch's own is 0.01


class Grid(Settings):
    """Block `yolo.grid`.

    cells : S (paper: 7);  boxes : B, of a cell (paper: 2)
    """

    cells: int = Field(ge=1)
    boxes: int = Field(ge=1)


class Convolution(Settings):
    """A 3 x 3 convolution of `width` channels, padded by 1. stride : 2 halves the cells, rounded up"""

    width: int = Field(ge=1)
    stride: int = Field(ge=1, le=2)


class YoloLayers(Settings):
    """Block `yolo.layers`: what stands on the trunk.

    stride       : of the trunk's map (paper: 32, of the 20 pre-trained layers)
    convolutions : on that map, each followed by a leaky ReLU (paper: 1024, 1024/2, 1024, 1024)
    groups       : of channels that are normalised after each of them; a divisor of all widths; null: not (paper: null;
                   Darknet's later networks: batch norm)
    fc           : width of the fully connected layer, behind which another one predicts all cells at once (paper:
                   4096); null: a 1 x 1 convolution predicts each cell from its own place on the last map
    dropout      : share that is dropped before the last layer in training (paper: 0.5)
    """

    stride: int = Field(ge=1)
    convolutions: list[Convolution]
    groups: int | None = Field(ge=1)
    fc: int | None = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _of_equal_size(self) -> "YoloLayers":
        if self.groups is not None and any(layer.width % self.groups for layer in self.convolutions):
            raise ValueError("groups that divide the width of every convolution, or null")
        return self

    def cells(self, side: int) -> int:
        """Cells along a side of the last map of an image of this side; `centring` makes the trunk round up."""
        cells = -(-side // self.stride)
        for layer in self.convolutions:
            cells = -(-cells // layer.stride)
        return cells


class Cells(NamedTuple):
    """What the network says of the cells of each image: linear outputs, which may leave the range of what they mean.

    classes     : float32 (N, S², C), of an object in the cell, of whichever of its boxes
    confidences : float32 (N, S², B), the IoU of the box with an object, 0 for none
    boxes       : float32 (N, S², B, 4), the centre from the cell's corner, in cells; the square roots of width and
                  height, in sides of the image
    """

    classes: Tensor
    confidences: Tensor
    boxes: Tensor


class YoloHead(Head):
    """The layers behind the trunk.

    channels : of the trunk's map;  side : of the images, pixels;  classes : C

    PyTorch's own first weights and biases. The outputs of a fully connected layer lie as Darknet's: classes of all
    cells, confidences of all, boxes of all.
    """

    def __init__(self, channels: int, side: int, layers: YoloLayers, grid: Grid, classes: int) -> None:
        super().__init__([layers.stride])
        self.layers, self.grid = layers, grid
        self.channels, self.side = channels, side
        self.classes = classes
        parts: list[nn.Module] = []
        for layer in layers.convolutions:
            norm = [] if layers.groups is None else [nn.GroupNorm(layers.groups, layer.width)]
            parts += [nn.Conv2d(channels, layer.width, 3, layer.stride, padding=1), *norm, nn.LeakyReLU(SLOPE, True)]
            channels = layer.width
        dropout = [nn.Dropout(layers.dropout)] if layers.dropout else []
        self.of_cell = [classes, grid.boxes, grid.boxes * 4]
        self.last: nn.Module
        if layers.fc is None:
            self.hidden = nn.Sequential(*parts, *dropout)
            self.last = nn.Conv2d(channels, sum(self.of_cell), 1)
        else:
            fc = nn.Linear(channels * layers.cells(side) ** 2, layers.fc)
            self.hidden = nn.Sequential(*parts, nn.Flatten(), fc, nn.LeakyReLU(SLOPE, True), *dropout)
            self.last = nn.Linear(layers.fc, sum(self.of_cell) * grid.cells**2)

    def forward(self, maps: Mapping[int, Tensor]) -> Cells:
        """See `Head`. The last layer runs in float32: in half precision most of the best scores would be equal."""
        hidden = self.hidden(maps[self.layers.stride])
        with torch.autocast(hidden.device.type, enabled=False):
            values: Tensor = self.last(hidden.float())
        cells, count = self.grid.cells**2, len(values)
        if self.layers.fc is None:
            blocks = values.permute(0, 2, 3, 1).reshape(count, cells, -1).split(self.of_cell, dim=2)
        else:
            blocks = values.split([cells * width for width in self.of_cell], dim=1)
        classes, confidences, boxes = (block.reshape(count, cells, -1) for block in blocks)
        return Cells(classes, confidences, boxes.view(count, cells, self.grid.boxes, 4))

    def scores_of(self, outputs: Cells) -> Tensor:
        """float32 (N, S²·B, C), box by box of each cell: confidence times class, both at least 0.

        Two negative outputs would make a positive score.
        """
        scores = outputs.confidences.clamp(min=0)[..., None] * outputs.classes.clamp(min=0)[:, :, None]
        return scores.flatten(1, 2)

    def boxes_of(self, outputs: Cells) -> Tensor:
        """float32 (N, S²·B, 4), box by box of each cell: as in `Cells`."""
        return outputs.boxes.flatten(1, 2)

    def describe(self) -> dict[str, Any]:
        """The section `head` of a model file, for `restore`."""
        return {
            "layers": self.layers.model_dump(), "grid": self.grid.model_dump(), "side": self.side,
            "classes": self.classes, "tensors": self.state_dict(),
        }


def restore(section: Mapping[str, Any], backbone: Backbone) -> YoloHead:
    """The head of a section from `YoloHead.describe`, in evaluation mode. Raises RuntimeError for other tensors."""
    layers = YoloLayers(**section["layers"])
    channels = backbone.level_channels[layers.stride]
    head = YoloHead(channels, section["side"], layers, Grid(**section["grid"]), section["classes"])
    head.load_state_dict(section["tensors"])
    return head.eval()


def corners(values: NDArray[np.float32], cell: NDArray[np.int64], cells: int, side: int) -> Boxes:
    """float32 (R, 4): predicted boxes in pixels of the square image, not clipped.

    values : float32 (R, 4), as in `Cells`;  cell : int64 (R,) of each;  cells : S;  side : of the image, pixels
    """
    row, column = np.divmod(cell, cells)
    centre = (values[:, :2] + np.stack([column, row], axis=1)) / cells * side
    half = np.square(values[:, 2:]) * side / 2
    return np.hstack([centre - half, centre + half]).astype(np.float32)
