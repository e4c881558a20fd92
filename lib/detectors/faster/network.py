"""Faster R-CNN's proposer (Ren et al. 2015, §3.1): a trunk with a region proposal network, run on images.

Its detector is the network of lib/detectors/fast. R regions of an image, H W sides of a scaled image.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.backbones import model_file
from lib.backbones.backbones import Backbone
from lib.backbones.device import Device
from lib.backbones.frozen import FrozenNorm
from lib.backbones.inference import for_inference
from lib.backbones.scaling import resize, to_input
from lib.boxes.boxes import Boxes
from lib.boxes.selection import check_scores
from lib.detectors.faster import rpn as rpn_net
from lib.detectors.faster.rpn import RPN, Proposing, one_size
from lib.images.decode import Image
from lib.parallel.clock import Clock


class ProposalNetwork(FrozenNorm):
    """A trunk with a region proposal network, without the other layers of the backbone.

    trunk, recipe : the backbone's;  rpn : the layers on the trunk
    """

    def __init__(self, backbone: Backbone, rpn: RPN) -> None:
        super().__init__()
        self.trunk, self.rpn = backbone.trunk, rpn
        self.recipe = backbone.recipe

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (1, 3, H, W) -> log-odds and deltas of every anchor, see `RPN`."""
        logits, deltas = self.rpn(self.trunk(image))
        return logits, deltas


@dataclass(frozen=True)
class ImageInput:
    """An image ready for the network.

    original, scaled : uint8, as decoded and at the proposer's size;  factor : scaled / original
    """

    original: Image
    scaled: NDArray[np.uint8]
    factor: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the scaled image."""
        return self.scaled.shape[1], self.scaled.shape[0]


class ImageProposer:
    """The proposals of one image after another; reads only, so threads may share it.

    path  : a model file with a section `rpn`;  device : where to run;  clock : measures the time of each part
    """

    def __init__(self, path: Path, device: Device, clock: Clock) -> None:
        self.model = model_file.read(path, "rpn")
        self.scale = one_size(self.model.scale, str(path))
        self.network = ProposalNetwork(self.model.backbone, rpn_net.restore(self.model.sections["rpn"])).eval()
        self.network.trunk = for_inference(self.network.trunk, device)
        self.network.rpn.to(device.torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device, self._clock = device, clock

    def prepare(self, image: Image) -> ImageInput:
        """The part that needs no network."""
        with self._clock.host("resize"):
            factor = self.scale.factors(image.shape[1], image.shape[0])[0]
            return ImageInput(image, resize(image, factor), factor)

    def maps(self, prepared: ImageInput) -> Tensor:
        """float32 (1, channels, h, w): the trunk's feature map of the scaled image."""
        with self._clock("trunk"), self._device.autocast():
            maps: Tensor = self.network.trunk(to_input(prepared.scaled, self.network.recipe, self._device))
            return maps

    def propose(
        self, maps: Tensor, prepared: ImageInput, settings: Proposing
    ) -> tuple[Boxes, NDArray[np.float32]]:
        """float32 (R, 4) in the scaled image, the best first, and probabilities (R,).

        Raises InputError where there are none because the network's outputs are NaN or infinite.
        """
        with self._clock("proposals"), self._device.autocast():
            logits, deltas = self.network.rpn(maps)
            anchors = self.network.rpn.anchors_on(maps, self._device)
            size, factor = prepared.size, prepared.factor
            boxes, scores = rpn_net.propose(anchors, logits, deltas, size, factor, settings, self._device)
        if not len(boxes):
            for values, where in ((logits, "scores of anchors"), (deltas, "deltas of anchors")):
                check_scores(self._device.fetch({where: values.float()})[where], where)
        return boxes, scores

    def __call__(self, prepared: ImageInput, settings: Proposing) -> tuple[Boxes, NDArray[np.float32]]:
        """The proposals in pixels of the original image, unrounded, the best first, and their probabilities.

        returns : float32 (R, 4), float32 (R,). Where no box passes, the whole image is the one proposal, with
        probability 0, so that every image has rows in a table.
        """
        with torch.inference_mode():
            boxes, scores = self.propose(self.maps(prepared), prepared, settings)
        boxes = to_original(boxes, prepared)
        area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # less than a pixel may lie beyond the original's border
        if not area.any():
            height, width = prepared.original.shape[:2]
            return np.array([[0, 0, width, height]], np.float32), np.zeros(1, np.float32)
        return boxes[area], scores[area]


def to_original(boxes: Boxes, prepared: ImageInput) -> Boxes:
    """Boxes of the scaled image in pixels of the original, clipped to it, since the scaled sides were rounded."""
    height, width = prepared.original.shape[:2]
    limits = np.array([width, height, width, height], np.float32)
    return np.asarray(np.minimum(boxes / np.float32(prepared.factor), limits), np.float32)
