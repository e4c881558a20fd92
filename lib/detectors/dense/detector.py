"""A one-stage detector at test time: every anchor of an image scored in one pass, the best of each level kept.

A anchors of an image, C classes, S pairs of an anchor and a class, R anchors of at least one of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from lib.backbones.backbones import Backbone, fold_batch_norm
from lib.backbones.device import Device, Precision
from lib.backbones.scaling import View
from lib.boxes.boxes import Boxes
from lib.boxes.coding import decode
from lib.boxes.selection import Scored, Selection
from lib.detectors.dense.network import DenseHead, load, to_batch
from lib.images.decode import Image
from lib.parallel.clock import Clock


class Detect(Selection):
    """Blocks `ssd.detect` and `retinanet.detect`: which boxes become detections, and

    per_level : most pairs of an anchor and a class of each level, the best; null: all (RetinaNet: 1000; SSD: all)
    precision : of the forward pass
    """

    per_level: int | None = Field(ge=1)
    precision: Precision


Proposing = Detect  # one block: its regions are its detections


@dataclass(frozen=True)
class DenseInput:
    """An image ready for the network. pixels : uint8 (h, w, 3);  view : how they come from the image's"""

    pixels: NDArray[np.uint8]
    view: View


class DenseDetector:
    """Anchors, scores and boxes of one image after another.

    path   : a model file;  restore : see `network.load`
    device : where to run;  clock : measures the time of each part
    """

    wants_proposals = False

    def __init__(
        self, path: Path, restore: Callable[[Mapping[str, Any], Backbone], DenseHead], settings: Detect,
        device: Device, clock: Clock,
    ) -> None:
        network, model = load(path, restore)
        assert model.scale is not None
        self.classes, self.scale = model.classes, model.scale
        self.recipe, self.head = network.recipe, network.head
        self.trunk = fold_batch_norm(network.levels)
        for module in (self.trunk, self.head):
            module.to(device.torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._settings, self._device, self._clock = settings, device, clock

    def prepare(self, image: Image, boxes: Boxes | None = None) -> DenseInput:
        """The part that needs no network; may run in a thread ahead of the rest."""
        with self._clock.host("resize"):
            view = self.scale.view(image.shape[1], image.shape[0])
            return DenseInput(view.image(image), view)

    def __call__(self, prepared: DenseInput) -> Scored:
        """The anchors in the original image, their scores, how they move, and the levels that they are of.

        Left out are anchors without any score above `floor`, or among the best of their level.
        """
        form = self.head.form
        with torch.inference_mode(), self._device.autocast():
            with self._clock("trunk"):
                maps = self.trunk(to_batch([prepared.pixels], self.recipe, self._device))
            with self._clock("head"):
                outputs = self.head(maps)
            with self._clock("scores"):
                probabilities = form.probabilities(outputs.scores[0].float()).flatten()
                floor = -torch.inf if self._settings.floor is None else self._settings.floor
                pairs = (probabilities > floor).nonzero()[:, 0]
                rows = self._device.fetch({
                    "pairs": pairs, "scores": probabilities[pairs], "deltas": outputs.deltas[0].float(),
                })
        with self._clock.host("scores"):
            anchor, label = np.divmod(rows["pairs"], form.classes)
            level = form.grid.level_of(outputs.sizes)
            best = best_of_levels(level[anchor], rows["scores"], self._settings.per_level)
            used, row = np.unique(anchor[best], return_inverse=True)
            scores = np.full((len(used), form.classes), -np.inf, np.float32)
            scores[row, label[best]] = rows["scores"][best]
            boxes = prepared.view.original(form.grid(outputs.sizes)[used])
            deltas = rows["deltas"][used] * form.scaling
        return Scored(boxes, scores, lambda rows, labels, boxes: decode(boxes, deltas[rows]), level[used])


def best_of_levels(level: NDArray[np.int64], scores: NDArray[np.float32], most: int | None) -> NDArray[np.int64]:
    """int64: rows of the `most` best pairs of each level, ascending; ties go to the first. None: all.

    level, scores : (S,) of each pair
    """
    if most is None:
        return np.arange(len(scores))
    kept = [np.empty(0, np.int64)]
    for number in np.unique(level):
        of_level = np.flatnonzero(level == number)
        kept.append(of_level[np.argsort(-scores[of_level], kind="stable")[:most]])
    return np.sort(np.concatenate(kept))
