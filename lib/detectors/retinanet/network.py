"""RetinaNet (Lin et al. 2017, §4): a feature pyramid on a trunk, and two small networks shared by its levels.

N images, A anchors at a cell, K scores of each, h w cells of a map.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from lib.backbones.backbones import Backbone
from lib.backbones.levels import DEEPEST
from lib.boxes.anchors import AnchorGrid, Level
from lib.boxes.boxes import Boxes
from lib.detectors.dense.network import DenseHead, Form, Outputs, joined, predict, restored_form
from lib.stage.params import Settings


class PyramidAnchors(Settings):
    """Block `retinanet.anchors`.

    side    : of the smallest square anchor of a level, in strides (paper: 4, which is 32 pixels on P3)
    octaves : sizes of a level, evenly spaced in the octave from one level to the next (paper: 3)
    ratios  : height / width, of the same area (paper: 0.5, 1, 2)
    centre  : of the first cell's anchors, in strides (Detectron: 0.5; detectron2 and torchvision: 0)
    """

    side: float = Field(gt=0)
    octaves: int = Field(ge=1)
    ratios: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    centre: float

    def first_cell(self, stride: int) -> Boxes:
        """float32 (A, 4): the anchors of a level's first cell, size by size, within each ratio by ratio."""
        sides = [self.side * stride * 2 ** (octave / self.octaves) for octave in range(self.octaves)]
        half = np.array([(side / ratio**0.5, side * ratio**0.5) for side in sides for ratio in self.ratios]) / 2
        return np.hstack([self.centre * stride - half, self.centre * stride + half]).astype(np.float32)

    def grid(self, strides: Sequence[int]) -> AnchorGrid:
        """The anchors of the levels of these strides."""
        return AnchorGrid([Level(stride, self.first_cell(stride)) for stride in strides])


class PyramidLayers(Settings):
    """Block `retinanet.layers`.

    strides : of the levels, each twice the one before; those above 32 are made from the map of stride 32 (paper: 8 to
              128, P3 to P7)
    width   : channels of the pyramid and of the subnets (paper: 256)
    depth   : convolutions of each subnet before its last (paper: 4)
    groups  : of channels that are normalised after each convolution of the pyramid and of the subnets but their last,
              so that its levels count alike, whatever the size of the trunk's maps, and nothing shrinks layer by layer;
              the subnets' weights are He's then. A divisor of width; null: not (paper: null; torchvision's second
              version: 32, in the subnets alone)
    """

    strides: list[int] = Field(min_length=1)
    width: int = Field(ge=1)
    depth: int = Field(ge=0)
    groups: int | None = Field(ge=1)

    @model_validator(mode="after")
    def _of_equal_size(self) -> "PyramidLayers":
        if self.groups is not None and self.width % self.groups:
            raise ValueError("groups that divide width, or null")
        return self

    @property
    def of_trunk(self) -> list[int]:
        """Strides of the maps that the trunk gives."""
        return [stride for stride in self.strides if stride <= DEEPEST]


class Pyramid(nn.Module):
    """Each level the sum of its trunk's map and of the level above it, twice as large; a 3 x 3 convolution on the sum.

    channels : of the trunk's maps. Levels of strides that the trunk has not are made from the last of its maps by
    convolutions of stride 2, a ReLU between them (paper: P6 from C5, P7 from P6)

    Xavier's weights, biases 0; no other ReLU.
    """

    def __init__(self, channels: Sequence[int], layers: PyramidLayers) -> None:
        super().__init__()
        width, further = layers.width, len(layers.strides) - len(channels)
        self.lateral = nn.ModuleList(_normalised(nn.Conv2d(count, width, 1), layers) for count in channels)
        self.output = nn.ModuleList(_normalised(nn.Conv2d(width, width, 3, padding=1), layers) for _ in channels)
        inputs = [channels[-1], *[width] * further][:further]
        self.further = nn.ModuleList(_normalised(nn.Conv2d(count, width, 3, 2, padding=1), layers) for count in inputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """float32 (N, channels, h, w) each, the largest first -> (N, width, h, w) of all levels, the largest first."""
        sums = [lateral(level) for lateral, level in zip(self.lateral, maps, strict=True)]
        for level in range(len(sums) - 2, -1, -1):
            height, width = sums[level].shape[2:]
            above = functional.interpolate(sums[level + 1], scale_factor=2, mode="nearest")
            sums[level] = sums[level] + above[..., :height, :width]
        levels = [output(level) for output, level in zip(self.output, sums, strict=True)]
        current = maps[-1]
        for number, layer in enumerate(self.further):
            current = layer(functional.relu(current) if number else current)
            levels.append(current)
        return levels


class RetinaHead(DenseHead):
    """The pyramid, and on each of its levels the same two subnets: one for the scores, one for the deltas.

    channels : of the trunk's maps, in the order of `layers.of_trunk`;  first_bias : of the scores

    Weights of the subnets N(0, 0.01²), biases 0 but for the scores'; where `layers.groups` normalises, those before the
    last N(0, 2 / inputs), as Adam's steps are as long for small weights as for large ones.
    """

    def __init__(self, channels: Sequence[int], layers: PyramidLayers, form: Form, first_bias: float = 0.0) -> None:
        super().__init__(form, layers.of_trunk)
        self.layers, anchors = layers, form.grid.per_cell[0]
        self.pyramid = Pyramid(channels, layers)
        self.score_tower, self.delta_tower = (_tower(layers) for _ in range(2))
        self.scores = nn.Conv2d(layers.width, anchors * form.outputs, 3, padding=1)
        self.deltas = nn.Conv2d(layers.width, anchors * 4, 3, padding=1)
        for part in (self.score_tower, self.delta_tower, self.scores, self.deltas):
            for layer in part.modules():
                if isinstance(layer, nn.Conv2d):
                    inner = layers.groups is not None and layer not in (self.scores, self.deltas)
                    nn.init.normal_(layer.weight, std=(2 / (9 * layers.width)) ** 0.5 if inner else 0.01)
                    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.scores.bias, first_bias)  # type: ignore[arg-type]

    def forward(self, maps: Mapping[int, Tensor]) -> Outputs:
        """See `DenseHead`."""
        levels = self.pyramid([maps[stride] for stride in self.strides])
        scores = [predict(self.scores, self.score_tower(level), self.form.outputs) for level in levels]
        deltas = [predict(self.deltas, self.delta_tower(level), 4) for level in levels]
        return joined(scores, deltas, levels)

    def describe(self) -> dict[str, Any]:
        """The section `head` of a model file, for `restore`."""
        return {"layers": self.layers.model_dump(), "form": self.form.describe(), "tensors": self.state_dict()}


def _tower(layers: PyramidLayers) -> nn.Sequential:
    parts: list[nn.Module] = []
    for _ in range(layers.depth):
        parts += [*_normalised(nn.Conv2d(layers.width, layers.width, 3, padding=1), layers), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


def _normalised(layer: nn.Conv2d, layers: PyramidLayers) -> nn.Sequential:
    norm = [] if layers.groups is None else [nn.GroupNorm(layers.groups, layers.width)]
    return nn.Sequential(layer, *norm)


def doubling(strides: Sequence[int]) -> bool:
    """Whether each stride is twice the one before, as the pyramid needs."""
    return all(following == 2 * stride for stride, following in pairwise(strides))


def restore(section: Mapping[str, Any], backbone: Backbone) -> RetinaHead:
    """The head of a section from `RetinaHead.describe`, in evaluation mode. Raises RuntimeError for other tensors."""
    layers, form = PyramidLayers(**section["layers"]), restored_form(section["form"])
    head = RetinaHead([backbone.level_channels[stride] for stride in layers.of_trunk], layers, form)
    head.load_state_dict(section["tensors"])
    return head.eval()
