"""What a Fast R-CNN score hangs on: the image, through the trunk and one fixed region, to the logit of a class.

RoI pooling passes no gradient to the box, so what made the region (selective search, or Faster R-CNN's RPN) is no part
of it. N images, R regions, C classes without background.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.backbones import model_file
from lib.backbones.device import Device
from lib.backbones.inference import fold_batch_norm
from lib.backbones.scaling import Scale, choose_level, resize, to_input
from lib.boxes.boxes import Boxes, clip
from lib.detectors.fast import network as fast
from lib.detectors.target import Target, Units, first_convolution, linear, svm, with_layer
from lib.images.decode import Image
from lib.pooling import roi


class RegionScorer(nn.Module):
    """The layers of a score in their order: trunk, fc6 and fc7, and a linear layer on fc7."""

    def __init__(self, network: fast.FastNetwork, scores: nn.Linear) -> None:
        super().__init__()
        self.trunk, self.layers, self.scores = network.trunk, network.head.layers, scores
        self._pooling = network.stride, network.first, network.grid, network.head.pooling

    def pool(self, maps: Tensor, rois: Tensor) -> Tensor:
        """As `FastNetwork.pool`."""
        return roi.pool(maps, rois, *self._pooling)

    def forward(self, pooled: Tensor) -> Tensor:
        """float32 (R, C, g, g) -> scores (R, C)."""
        scores: Tensor = self.scores(self.layers(pooled))
        return scores


class Explainer:
    """See `target.Explainer`. The box is pooled as a proposal is, so it should be near the region that was scored.

    files : by role: `model` (a file with a head), and `scores`: SVMs;  margins : explain these, or the softmax's logit
    """

    def __init__(self, files: Mapping[str, Path], margins: bool, device: Device) -> None:
        network, model = fast.load(files["model"])
        assert isinstance(model.scale, Scale)
        self.classes, self._scale, self._recipe = model.classes, model.scale, network.recipe
        own, self._device = network.head.score, device
        scores = svm(files["scores"], self.classes)[1] if margins else linear(own.weight[1:], own.bias[1:])
        scorer = RegionScorer(fold_batch_norm(network), scores)  # type: ignore[arg-type]
        self._scorer = scorer.eval().requires_grad_(False).to(device.torch_device)

    def before(self, m0: Path) -> "Explainer":
        """See `target.Explainer`."""
        earlier, trunk = copy.copy(self), fold_batch_norm(model_file.read(m0).backbone.trunk)
        earlier._scorer = with_layer(self._scorer, "trunk", trunk).to(self._device.torch_device)
        return earlier

    @property
    def filters(self) -> Tensor:
        """See `target.Explainer`."""
        return first_convolution(self._scorer)

    def __call__(self, image: Image, box: NDArray[np.float32], label: int) -> Target:
        """See `target.Explainer`; the image at the size at which the box would be looked at."""
        height, width = image.shape[:2]
        boxes, factors = clip(box[None], width, height), self._scale.factors(width, height)
        inputs, factor = self._input(image, factors[choose_level(boxes, factors)[0]])
        region = self._device.put(boxes[0] * np.float32(factor))

        def score(network: RegionScorer, maps: Tensor) -> Tensor:
            numbers = torch.arange(len(maps), dtype=torch.float32, device=maps.device)[:, None]
            rois = torch.cat([numbers, region.expand(len(maps), 4)], 1)
            scores: Tensor = network(network.pool(maps, rois))
            return scores[:, label]

        window = self._window(inputs, factor)
        return Target(self._scorer, trunk_map, score, trunk_map, inputs, window, boxes[0])

    def units(self, image: Image, boxes: Boxes) -> Units:
        """See `target.Explainer`; all regions at the first of the image's sizes."""
        height, width = image.shape[:2]
        inputs, factor = self._input(image, self._scale.factors(width, height)[0])
        scaled = clip(boxes, width, height) * np.float32(factor)
        rois = self._device.put(np.hstack([np.zeros((len(boxes), 1), np.float32), scaled]))
        with torch.no_grad():
            cells = self._scorer.trunk(inputs).requires_grad_()
        return Units(
            self._scorer, trunk_map, (inputs.shape[2], inputs.shape[3]), cells,
            self._scorer.pool(cells, rois), self._window(inputs, factor)[None], np.zeros(len(boxes), np.int64),
        )

    def _input(self, image: Image, factor: float) -> tuple[Tensor, float]:
        return to_input(resize(image, factor), self._recipe, self._device), factor

    def _window(self, inputs: Tensor, factor: float) -> NDArray[np.float32]:
        return np.array([0, 0, inputs.shape[3] / factor, inputs.shape[2] / factor], np.float32)


def trunk_map(network: RegionScorer, images: Tensor) -> Tensor:
    """The map that regions are pooled from."""
    maps: Tensor = network.trunk(images)
    return maps
