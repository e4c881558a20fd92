"""A one-stage detector at test time: every box of an image scored in one pass; of anchors the best of each level kept.

A boxes of an image, C classes, S pairs of a box and a class, R boxes of at least one of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from lib.backbones.backbones import Backbone
from lib.backbones.device import Device, Precision
from lib.backbones.inference import for_inference
from lib.backbones.scaling import View
from lib.boxes.boxes import Boxes
from lib.boxes.coding import decode
from lib.boxes.selection import Refine, Scored, Selection, check_scores
from lib.detectors.dense.network import DenseHead, H, Outputs, load, to_batch
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


class ImageDetector(Generic[H]):
    """Base of a detector that scores all its boxes of an image in one pass, one image after another.

    path   : a model file;  restore : see `network.load`
    floor  : scores must be above; None: all
    device : where to run;  clock : measures the time of each part
    """

    wants_proposals = False

    def __init__(
        self, path: Path, restore: Callable[[Mapping[str, Any], Backbone], H], floor: float | None, device: Device,
        clock: Clock,
    ) -> None:
        network, model = load(path, restore)
        assert model.scale is not None
        self.classes, self.scale = model.classes, model.scale
        self.recipe, self.head = network.recipe, network.head
        self.head.to(device.torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.trunk = for_inference(network.levels, device)
        self._floor = -torch.inf if floor is None else floor
        self._device, self._clock = device, clock

    def prepare(self, image: Image, boxes: Boxes | None = None) -> DenseInput:
        """The part that needs no network; may run in a thread ahead of the rest."""
        with self._clock.host("resize"):
            view = self.scale.view(image.shape[1], image.shape[0])
            return DenseInput(view.image(image), view)

    def __call__(self, prepared: DenseInput) -> Scored:
        """The boxes in the original image that have a score above the floor, and what `located` says of them.

        Raises InputError where a score is NaN or plus infinity.
        """
        with torch.inference_mode(), self._device.autocast():
            with self._clock("trunk"):
                maps = self.trunk(to_batch([prepared.pixels], self.recipe, self._device))
            with self._clock("head"):
                outputs = self.head(maps)
            with self._clock("scores"):
                flat = self.head.scores_of(outputs)[0].flatten()
                pairs = (~(flat <= self._floor)).nonzero()[:, 0]  # NaN is not passed over
                rows = self._device.fetch({
                    "pairs": pairs, "scores": flat[pairs], "boxes": self.head.boxes_of(outputs)[0],
                })
        with self._clock.host("scores"):
            check_scores(rows["scores"])
            place, label = np.divmod(rows["pairs"], len(self.classes))
            best = self.best(place, rows["scores"], outputs)
            used, row = np.unique(place[best], return_inverse=True)
            scores = np.full((len(used), len(self.classes)), -np.inf, np.float32)
            scores[row, label[best]] = rows["scores"][best]
            return self.located(used, rows["boxes"][used], scores, outputs, prepared.view)

    def best(self, place: NDArray[np.int64], scores: NDArray[np.float32], outputs: Any) -> NDArray[np.int64]:
        """int64, ascending: rows of the pairs of a box and a class that are kept.

        place, scores : (S,) of each pair;  outputs : of the head
        """
        return np.arange(len(scores))

    def located(
        self, used: NDArray[np.int64], boxes: NDArray[np.float32], scores: NDArray[np.float32], outputs: Any, view: View
    ) -> Scored:
        """The scored boxes in the original image.

        used : int64 (R,) among the A boxes;  boxes : float32 (R, 4), see `Head.boxes_of`;  scores : float32 (R, C)
        """
        raise NotImplementedError


class DenseDetector(ImageDetector[DenseHead]):
    """Anchors, scores and boxes of one image after another. See `ImageDetector`"""

    def __init__(
        self, path: Path, restore: Callable[[Mapping[str, Any], Backbone], DenseHead], settings: Detect,
        device: Device, clock: Clock,
    ) -> None:
        super().__init__(path, restore, settings.floor, device, clock)
        self._per_level = settings.per_level

    def best(self, place: NDArray[np.int64], scores: NDArray[np.float32], outputs: Outputs) -> NDArray[np.int64]:
        """See `ImageDetector`: among the best of their level."""
        level = self.head.form.grid.level_of(outputs.sizes)
        return best_of_levels(level[place], scores, self._per_level)

    def located(
        self, used: NDArray[np.int64], boxes: NDArray[np.float32], scores: NDArray[np.float32], outputs: Outputs,
        view: View,
    ) -> Scored:
        """The anchors in the original image, their scores, how they move, and the levels that they are of."""
        form = self.head.form
        anchors = view.original(form.grid(outputs.sizes)[used])
        deltas = boxes * form.scaling
        refine: Refine = lambda rows, labels, regions: decode(regions, deltas[rows])  # noqa: E731
        return Scored(anchors, scores, refine, {"level": form.grid.level_of(outputs.sizes)[used]})


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
