"""What a score of a one-stage detector hangs on: the image, through one map of a level, to one class of one box.

Other levels, and what moves the box, are no part of it. N images, A boxes of an image, level after level, R regions,
C classes.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.backbones import model_file
from lib.backbones.backbones import Backbone
from lib.backbones.device import Device
from lib.backbones.inference import fold_batch_norm
from lib.backbones.scaling import View
from lib.boxes.boxes import Boxes, clip, iou
from lib.boxes.coding import decode
from lib.detectors.dense.network import DenseHead, DenseNetwork, H, Outputs, load, to_batch
from lib.detectors.target import Layers, Target, Units, first_convolution
from lib.images.decode import Image
from lib.pooling import roi

ALIKE = 0.9  # share of the largest IoU; the detection may come from a pass in half precision
SAMPLES = 4  # of a region, a side, whose mean is its feature


class LevelScorer(nn.Module):
    """Base of the layers of a score in their order: those that make the map of a level, and those that score on it."""

    def maps(self, images: Tensor, level: int) -> Tensor:
        """float32 (N, 3, H, W) -> the map of a level (N, channels, h, w)."""
        raise NotImplementedError

    def grid(self, images: Tensor, level: int) -> Tensor:
        """Of the same images a map whose cells lie where those of `maps` do, see `Target.grid`."""
        return self.maps(images, level)

    def forward(self, maps: Tensor, level: int) -> Tensor:
        """The map of a level -> what is explained of its boxes, float32 (N, A of it, C), or a background before."""
        raise NotImplementedError


class ImageExplainer(Generic[H]):
    """Base of what each one-stage paper calls `Explainer`, see `target.Explainer`.

    The box is that of a detection. Explained is the score of the box of the network that became it; where none is near,
    that of the box of the largest score. A region of `units` is seen on the trunk's own map, that of stride 16.

    path : a model file;  restore : see `network.load`;  scorer : of a network, whose layers it shares
    """

    def __init__(
        self, path: Path, restore: Callable[[Mapping[str, Any], Backbone], H],
        scorer: Callable[[DenseNetwork[H]], LevelScorer], device: Device,
    ) -> None:
        network, model = load(path, restore)
        assert model.scale is not None
        self.classes, self._scale, self._device = model.classes, model.scale, device
        self._recipe, self._of = network.recipe, scorer
        self._on(model.backbone, network.head)

    def _on(self, backbone: Backbone, head: H) -> None:
        network = DenseNetwork(backbone, head)
        network.levels = fold_batch_norm(network.levels)  # type: ignore[assignment]
        self._network = network.eval().requires_grad_(False).to(self._device.torch_device)
        self._scorer = self._of(self._network).eval()
        self._trunk = fold_batch_norm(backbone.trunk).requires_grad_(False).to(self._device.torch_device)
        self._stride, self._first = backbone.stride, backbone.first

    @property
    def head(self) -> H:
        """Of the network."""
        return self._network.head

    def before(self, m0: Path) -> "ImageExplainer[H]":
        """See `target.Explainer`."""
        earlier = copy.copy(self)
        earlier._on(model_file.read(m0).backbone, self.head)
        return earlier

    @property
    def filters(self) -> Tensor:
        """See `target.Explainer`."""
        return first_convolution(self._trunk)

    def boxes(self, outputs: Any, view: View) -> Boxes:
        """float32 (A, 4): the boxes that the network's outputs mean, in pixels of the image, not clipped."""
        raise NotImplementedError

    def counts(self, outputs: Any) -> Sequence[int]:
        """Boxes of each level."""
        raise NotImplementedError

    def __call__(self, image: Image, box: NDArray[np.float32], label: int) -> Target:
        """See `target.Explainer`."""
        height, width = image.shape[:2]
        inputs, view = self._input(image)
        with torch.no_grad():
            outputs = self._network(inputs)
            likely = self.head.scores_of(outputs)[0, :, label].cpu().numpy()
        boxes = clip(self.boxes(outputs, view), width, height)
        row = matching(boxes, likely, box)
        ends = np.cumsum(self.counts(outputs))
        level = int(np.searchsorted(ends, row, side="right"))
        place = row - int(ends[level])  # from the level's end, so below 0
        column = label - len(self.classes)
        return Target(
            self._scorer, level_map(level), lambda network, maps: network(maps, level)[:, place, column],
            level_grid(level), inputs, _window(view), boxes[row],
        )

    def units(self, image: Image, boxes: Boxes) -> Units:
        """See `target.Explainer`: each channel's mean over the region."""
        height, width = image.shape[:2]
        inputs, view = self._input(image)
        regions = view.boxes(clip(boxes, width, height))
        rois = self._device.put(np.hstack([np.zeros((len(boxes), 1), np.float32), regions]))
        with torch.no_grad():
            cells = self._trunk(inputs).requires_grad_()
        return Units(
            self._trunk, trunk_map, (view.height, view.width), cells,
            roi.roi_align(cells, rois, self._stride, self._first, 1, SAMPLES), _window(view)[None],
            np.zeros(len(boxes), np.int64),
        )

    def _input(self, image: Image) -> tuple[Tensor, View]:
        view = self._scale.view(image.shape[1], image.shape[0])
        return to_batch([view.image(image)], self._recipe, self._device), view


A = TypeVar("A", bound=DenseHead)


class AnchorExplainer(ImageExplainer[A]):
    """Base of those whose boxes are anchors: a score is the logit of a class, before the sigmoid or the softmax."""

    def boxes(self, outputs: Outputs, view: View) -> Boxes:
        """See `ImageExplainer`: the anchors, moved."""
        form = self.head.form
        deltas = self.head.boxes_of(outputs)[0].cpu().numpy() * form.scaling
        return decode(view.original(form.grid(outputs.sizes)), deltas)

    def counts(self, outputs: Outputs) -> Sequence[int]:
        """See `ImageExplainer`."""
        return self.head.form.grid.counts(outputs.sizes)


def matching(boxes: Boxes, scores: NDArray[np.floating], box: NDArray[np.float32]) -> int:
    """The row that NMS left as a detection: of those that overlap it nearly as much as any, that of the largest score.

    boxes, scores : float32 (A, 4), float (A,);  box : float32 (4,) of the detection
    """
    overlaps = iou(box, boxes)[0]
    return int(np.where(overlaps >= ALIKE * overlaps.max(), scores, -np.inf).argmax())


@cache
def level_map(level: int) -> Layers:
    """The function that makes a level's map, the same each time."""
    return lambda network, images: network.maps(images, level)


@cache
def level_grid(level: int) -> Layers:
    """The function that makes a level's grid, the same each time."""
    return lambda network, images: network.grid(images, level)


def trunk_map(network: nn.Module, images: Tensor) -> Tensor:
    """The map of a network that is a trunk alone."""
    maps: Tensor = network(images)
    return maps


def _window(view: View) -> NDArray[np.float32]:
    return np.array([0, 0, view.width / view.x, view.height / view.y], np.float32)
