"""SPPnet (He et al. 2014): one trunk map per image and scale, windows pooled from it, fc layers on the pooled rows.

The classifiers and regressors on top are R-CNN's. R regions of an image, C classes without background, D pooled features,
F features of fc7.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from lib.backbones.device import Device, Precision
from lib.boxes.boxes import Boxes
from lib.boxes.selection import Scored, Selection, unmoved
from lib.detectors.spp.network import inference_trunk, load
from lib.linear import files as linear
from lib.parallel.clock import Clock
from lib.pooling.map_store import MapStore
from lib.pooling.pyramid import Map, choose_scale, compute_map, pool_windows

REGIONS = str  # where its regions come from: a table of proposals


class Detect(Selection):
    """Block `spp.detect`: which regions become detections, and

    scores    : svm, or the fine-tuned softmax;  regress : move the boxes by the regressors
    batch     : regions that go through the fc layers together;  precision : of the forward passes
    """

    scores: Literal["svm", "softmax"]
    regress: bool
    batch: int = Field(ge=1)
    precision: Precision


class Prepared(NamedTuple):
    """What the network needs of an image: the pixels uint8 (H, W, 3) or its maps at all scales, and the boxes float32 (R, 4)."""

    seen: NDArray[np.uint8] | list[Map]
    sides: tuple[int, int]
    boxes: Boxes


class Extractor:
    """Features of the regions of one image after another.

    model : fine-tuned network, as `spp_network.save` wrote it;  device : where to run;  batch : regions in one pass of the
    fc layers;  maps : the store of the images' maps, for `recall`;  clock : takes the time of each part
    """

    def __init__(
        self, model: Path, device: Device, batch: int, maps: Path | None = None, clock: Clock | None = None
    ) -> None:
        self.network = load(model)
        self.classes = self.network.classes
        self._device, self._batch, self._clock = device, batch, clock or Clock()
        self._scales, self._window = self.network.scales or [], self.network.window
        self._trunk = inference_trunk(self.network, device.place)
        self._head = self.network.head.to(device.place)
        self._maps = MapStore(maps) if maps else None
        self.widths = {"pool5": self._head.fc6.in_features, "fc7": self._head.fc7.out_features}

    def prepare(self, image: NDArray[np.uint8], boxes: Boxes) -> Prepared:
        """The part that needs no network; may run in a thread ahead of `features`."""
        return Prepared(image, (image.shape[1], image.shape[0]), boxes)

    def recall(self, image_id: str, sides: tuple[int, int], boxes: Boxes) -> Prepared:
        """`prepare` for an image whose maps are in the store: the trunk is not run again."""
        assert self._maps is not None
        return Prepared([self._maps.map(image_id, scale) for scale in self._scales], sides, boxes)

    def features(self, prepared: Prepared) -> dict[str, NDArray[np.float32]]:
        """float32 rows by name: `pool5` (R, D) of the pyramid, `fc7` (R, F) and `probabilities` (R, C+1)."""
        seen, sides, boxes = prepared
        assert self._window is not None
        if not isinstance(seen, list):
            with self._clock("trunk"):
                recipe = self.network.backbone.recipe
                seen = [compute_map(self._trunk, seen, scale, recipe, self._device) for scale in self._scales]
        with self._clock("regions"):
            chosen = choose_scale(boxes, sides, self._scales, self._window)
            pooled = pool_windows(seen, boxes, sides, self._scales, chosen, self._window, self.network.layers.levels)
            rows = {"pool5": pooled.astype(np.float32)}
            parts: list[tuple[Tensor, Tensor]] = []
            with torch.inference_mode(), self._device.autocast():
                for start in range(0, max(len(boxes), 1), self._batch):
                    given = torch.from_numpy(rows["pool5"][start : start + self._batch]).to(self._device.place)
                    fc7, logits = self._head(given)
                    parts.append((fc7.float().cpu(), logits.float().softmax(1).cpu()))
            for name, values in zip(("fc7", "probabilities"), zip(*parts, strict=True), strict=True):
                rows[name] = torch.cat(values).numpy()
        return rows


class Detector:
    """Scores and refines the proposals of an image.

    models   : one folder with cnn.pt, and svm.pt and boxes.pt where they are used
    settings : the block `spp.detect`;  place : where to run;  clock : takes the time of each part
    """

    wants_proposals = True

    def __init__(self, models: Sequence[Path], settings: Detect, place: Device, clock: Clock) -> None:
        folder = models[0]
        self._extractor = Extractor(folder / "cnn.pt", place, settings.batch, clock=clock)
        self._clock, self.classes = clock, self._extractor.classes
        self._svm = linear.Classifiers(folder / "svm.pt", self.classes) if settings.scores == "svm" else None
        self._boxes = linear.Regressors(folder / "boxes.pt", self.classes) if settings.regress else None

    def prepare(self, image: NDArray[np.uint8], boxes: Boxes) -> Prepared:
        """As `Extractor.prepare`."""
        return self._extractor.prepare(image, boxes)

    def __call__(self, prepared: Prepared) -> Scored:
        """The regions, their scores, minus infinity where a class has no classifier, and how they move."""
        rows = self._extractor.features(prepared)
        with self._clock("scores"):
            scores = self._svm.scores(rows) if self._svm else rows["probabilities"][:, 1:]
        return Scored(prepared.boxes, scores, self._boxes.refine(rows) if self._boxes else unmoved)
