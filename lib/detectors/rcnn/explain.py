"""What an R-CNN score hangs on: the crop of one region, through the network, to the margin or logit of a class.

N crops, R regions, C classes without background.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.backbones.inference import fold_batch_norm
from lib.boxes.boxes import Boxes, clip
from lib.detectors.rcnn import network as rcnn
from lib.detectors.target import Target, Units, first_convolution, linear, svm, with_layer
from lib.images.decode import Image
from lib.images.warp import place
from lib.storage import checkpoint


class CropScorer(nn.Module):
    """The layers of a score in their order: the backbone, the pooling of pool5, and a linear layer on `layer`."""

    def __init__(self, network: rcnn.RcnnNetwork, layer: str, scores: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.grid, self.reduce = network.backbone, network.crop.pool5_grid, network.reduce
        self.layer, self.scores = layer, scores

    def map(self, crops: Tensor) -> Tensor:
        """float32 (N, 3, S, S) -> the trunk's map."""
        maps: Tensor = self.backbone.trunk(crops)
        return maps

    def last(self, crops: Tensor) -> Tensor:
        """float32 (N, 3, S, S) -> the map of pool5, before it is averaged down."""
        maps: Tensor = self.backbone.crop_map(self.map(crops))
        return maps

    def pool5(self, last: Tensor) -> Tensor:
        """float32 (N, C, g, g): the map, averaged down as the features are."""
        pooled: Tensor = self.reduce(last) if max(last.shape[2:]) > self.grid else last
        return pooled

    def forward(self, maps: Tensor) -> Tensor:
        """The trunk's maps of crops (N, C, h, w) -> scores (N, C)."""
        last = self.backbone.crop_map(maps)
        rows = self.pool5(last).flatten(1) if self.layer == "pool5" else self.backbone.crop_fc(last)
        scores: Tensor = self.scores(rows)
        return scores


class Explainer:
    """See `target.Explainer`. The box is cropped as a proposal is, so it should be near the region that was scored.

    files : by role: `model` (the network) and `scores` (the SVMs);  margins : explain these, or the softmax's logit
    """

    def __init__(self, files: Mapping[str, Path], margins: bool, device: Device) -> None:
        self._network, self._device = rcnn.load(files["model"]), device
        self.classes = self._network.classes
        own = self._network.classifier
        layer, scores = svm(files["scores"], self.classes) if margins else ("fc7", linear(own.weight[1:], own.bias[1:]))
        scorer = CropScorer(self._network, layer, scores)
        scorer.backbone = fold_batch_norm(self._network.backbone)  # type: ignore[assignment]
        self._scorer = scorer.eval().requires_grad_(False).to(device.torch_device)

    def before(self, m0: Path) -> "Explainer":
        """See `target.Explainer`."""
        earlier, backbone = copy.copy(self), backbones.restore(checkpoint.load(m0, "backbone", "recipe", "tensors"))
        scorer = with_layer(self._scorer, "backbone", fold_batch_norm(backbone))
        earlier._scorer = scorer.to(self._device.torch_device)
        return earlier

    @property
    def filters(self) -> Tensor:
        """See `target.Explainer`."""
        return first_convolution(self._scorer)

    def __call__(self, image: Image, box: NDArray[np.float32], label: int) -> Target:
        """See `target.Explainer`."""
        boxes, inputs, windows = self._crops(image, box[None])
        return Target(
            self._scorer, CropScorer.map, lambda network, maps: network(maps)[:, label], CropScorer.map, inputs,
            windows[0], boxes[0],
        )

    def units(self, image: Image, boxes: Boxes) -> Units:
        """See `target.Explainer`; each region is an input."""
        boxes, inputs, windows = self._crops(image, boxes)
        with torch.no_grad():
            cells = torch.cat([self._scorer.last(part) for part in inputs.split(16)]).requires_grad_()
        side = self._network.crop.side
        return Units(
            self._scorer, CropScorer.last, (side, side), cells, self._scorer.pool5(cells), windows,
            np.arange(len(boxes)),
        )

    def _crops(self, image: Image, boxes: Boxes) -> tuple[Boxes, Tensor, NDArray[np.float32]]:
        """The boxes in the image, their normalised crops, and what each shows."""
        height, width = image.shape[:2]
        boxes, crop = clip(boxes, width, height), self._network.crop
        placement = place(boxes, width, height, crop.side, crop.context, crop.shape)
        first, last = placement.source[:, :2], placement.source[:, 2:]
        low, high = placement.covered[:, :2], placement.covered[:, 2:]
        stretch = (last - first) / (high - low)
        windows = np.hstack([first - low * stretch, first + (crop.side - low) * stretch]).astype(np.float32)
        inputs = self._network.prepare(self._network.cut(image, boxes), self._device)
        return boxes, inputs, windows
