"""The region proposal network: anchors, layers, and the way from their outputs to proposals (Faster R-CNN §3.1).

The authors' proposal_layer.py. A anchors at a cell, H W cells of the feature map, R proposals. N is always 1: images of
a batch are computed one by one.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from lib.backbones.device import Device
from lib.backbones.scaling import Scale, Sizing
from lib.boxes.anchors import AnchorGrid, Level
from lib.boxes.boxes import Boxes
from lib.boxes.coding import decode_tensors
from lib.boxes.nms import greedy, overlaps, survivors
from lib.stage.errors import Fault, InputError
from lib.stage.params import Settings


class Anchors(Settings):
    """Block `faster.anchors`.

    scales : sides of the square anchors, pixels of the resized image (paper: 128, 256, 512; COCO: 64 too)
    ratios : height / width (paper: 0.5, 1, 2)
    base   : side at which width and height are rounded to whole pixels before they are scaled (authors: 16)
    centre : of the first cell's anchors, pixels (authors: 7.5 with inclusive corners, which is 8 here)
    """

    scales: list[float] = Field(min_length=1)
    ratios: list[float] = Field(min_length=1)
    base: float = Field(gt=0)
    centre: float

    @property
    def count(self) -> int:
        """Anchors at a cell."""
        return len(self.scales) * len(self.ratios)


def at_first_cell(settings: Anchors) -> Boxes:
    """float32 (A, 4): the anchors of the cell in the upper left corner, ratio by ratio, within each scale by scale.

    Rounding, halves to even, comes before scaling, as in the authors' code (generate_anchors.py): ratio 0.5 is 23 x 12,
    not 22.6 x 11.3.
    """
    boxes = []
    for ratio in settings.ratios:
        width = round(math.sqrt(settings.base**2 / ratio))
        height = round(width * ratio)
        for scale in settings.scales:
            half = np.array([width, height]) * (scale / settings.base / 2)
            boxes.append([*(settings.centre - half), *(settings.centre + half)])
    return np.array(boxes, np.float32)


class ProposerGrid(AnchorGrid):
    """The anchors of one feature map, and the settings that they are made from.

    stride : pixels between cells
    """

    def __init__(self, settings: Anchors, stride: int) -> None:
        super().__init__([Level(stride, at_first_cell(settings))])
        self.settings, self.stride = settings, stride
        self.scales, self.ratios = settings.scales, settings.ratios

    def remade(self, scales: Sequence[float], ratios: Sequence[float]) -> "ProposerGrid":
        """The same with other scales and ratios."""
        changes = {"scales": list(scales), "ratios": list(ratios)}
        return ProposerGrid(self.settings.model_copy(update=changes), self.stride)


class RpnLayers(Settings):
    """Block `faster.rpn`: the layers.

    width : channels of the 3 x 3 convolution (paper: 512 for VGG-16, 256 for ZF)
    score : softmax (paper: two outputs per anchor) or logistic (one)
    """

    width: int = Field(ge=1)
    score: str = Field(pattern="^(softmax|logistic)$")


class Proposing(Settings):
    """Which boxes become proposals.

    pre_nms  : the best so many boxes enter NMS; null: all (test: 6000; between the four steps: all)
    post_nms : at most so many boxes leave it (test: 300; between the four steps: 2000)
    nms      : IoU above which a better box suppresses (0.7)
    min_size : smallest side in pixels of the original image (16)
    """

    pre_nms: int | None = Field(ge=1)
    post_nms: int = Field(ge=1)
    nms: float = Field(ge=0, le=1)
    min_size: float = Field(ge=0)


def one_size(scale: Sizing | None, where: str) -> Scale:
    """The scale of a proposer, which must be one size: its anchors replace an image pyramid (paper §3.1.1).

    Raises InputError for several sizes and for images scaled to a square.
    """
    if not isinstance(scale, Scale) or len(scale.short_side) != 1:
        sizes = scale.short_side if isinstance(scale, Scale) else scale
        remedy = "Give one; the anchors are the scales"
        raise InputError([Fault("bad scale", where, f"short_side is {sizes}", "one size", remedy)])
    return scale


class RPN(nn.Module):
    """A 3 x 3 convolution with ReLU, and on it two 1 x 1 convolutions: scores and deltas of the A anchors at each cell.

    Weights N(0, 0.01²), biases 0 (authors' prototxts). Channels: the A scores of background, then the A of objects
    (softmax), or A scores of objects (logistic); deltas anchor by anchor, dx dy dw dh.
    """

    def __init__(self, channels: int, layers: RpnLayers, anchors: Anchors, stride: int) -> None:
        super().__init__()
        self.settings, self.anchors = layers, ProposerGrid(anchors, stride)
        scores = 2 if layers.score == "softmax" else 1
        self.conv = nn.Conv2d(channels, layers.width, 3, padding=1)
        self.scores = nn.Conv2d(layers.width, scores * anchors.count, 1)
        self.deltas = nn.Conv2d(layers.width, 4 * anchors.count, 1)
        for name, value in self.named_parameters():
            nn.init.normal_(value, std=0.01) if name.endswith("weight") else nn.init.zeros_(value)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (1, channels, H, W) -> log-odds of an object (H·W·A,), deltas (H·W·A, 4), in the anchors' order.

        The softmax of two scores is the logistic function of their difference, which is what is returned.
        """
        hidden = nn.functional.relu(self.conv(maps))
        # In half precision most of the best scores would be equal, and ties go to the first anchor.
        with torch.autocast(maps.device.type, enabled=False):
            scores, deltas = self.scores(hidden.float()), self.deltas(hidden.float())
        if self.settings.score == "softmax":
            background, objects = scores.chunk(2, dim=1)
            scores = objects - background
        return scores.permute(0, 2, 3, 1).reshape(-1), deltas.permute(0, 2, 3, 1).reshape(-1, 4)

    def anchors_on(self, maps: Tensor, device: Device) -> Tensor:
        """float32 (H·W·A, 4): the anchors of a feature map that is on `device`."""
        return device.put(self.anchors([(maps.shape[2], maps.shape[3])]).copy())  # a cached grid is read-only

    def describe(self) -> dict[str, Any]:
        """The section `rpn` of a model file, for `restore`."""
        return {
            "layers": self.settings.model_dump(), "anchors": self.anchors.settings.model_dump(),
            "stride": self.anchors.stride, "tensors": self.state_dict(),
        }


def restore(section: dict[str, Any]) -> RPN:
    """The layers of a section from `RPN.describe`, in evaluation mode."""
    tensors = section["tensors"]
    layers, anchors = RpnLayers(**section["layers"]), Anchors(**section["anchors"])
    rpn = RPN(tensors["conv.weight"].shape[1], layers, anchors, section["stride"])
    rpn.load_state_dict(tensors)
    return rpn.eval()


def propose(
    anchors: Tensor, logits: Tensor, deltas: Tensor, size: tuple[int, int], factor: float, settings: Proposing,
    device: Device,
) -> tuple[Boxes, NDArray[np.float32]]:
    """The proposals of an image, best first, without gradient. A here: all anchors of the image.

    anchors : float32 (A, 4), also those that cross the border of the image
    logits  : float (A,);  deltas : float (A, 4);  size : width and height of the resized image
    factor  : resized / original;  device : where the tensors are; a GPU is waited for once
    returns : float32 (R, 4) in pixels of the resized image, clipped to it; float32 (R,) probability of an object

    Boxes that are not finite are dropped. Ties go to the first anchor, so that equal outputs give equal proposals.
    R may be 0.
    """
    with torch.no_grad():
        boxes = decode_tensors(anchors, deltas.float()).clamp(min=0)
        boxes[:, 0::2].clamp_(max=size[0])
        boxes[:, 1::2].clamp_(max=size[1])
        large = ((boxes[:, 2:] - boxes[:, :2]) >= settings.min_size * factor).all(dim=1)
        good = large & (boxes[:, 2:] > boxes[:, :2]).all(dim=1) & torch.isfinite(logits)
        # Dropped boxes are sorted last: how many are left is known on the host alone.
        scores = torch.where(good, logits.float(), -torch.inf)
        order = torch.argsort(scores, descending=True, stable=True)[: settings.pre_nms]
        best = {"boxes": boxes[order], "scores": scores[order], "good": good[order]}
        on_host = device.torch_device.type == "cpu"
        if not on_host:
            best["overlaps"] = overlaps(best["boxes"], settings.nms)
        rows = device.fetch(best)
        count = int(rows["good"].sum())
        if on_host:
            kept = survivors(best["boxes"][:count], settings.nms, settings.post_nms).numpy()
        else:
            kept = greedy(rows["overlaps"], count, settings.post_nms)
        return rows["boxes"][kept], torch.from_numpy(rows["scores"][kept]).sigmoid().numpy()
