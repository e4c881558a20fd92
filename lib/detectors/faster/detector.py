"""Faster R-CNN at test time: proposals and Fast R-CNN on them, with one pass of a shared trunk or two (paper §3.2).

R regions of an image, C classes without background.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from lib.backbones import model_file
from lib.backbones.device import Device, Precision
from lib.boxes.boxes import Boxes
from lib.boxes.selection import Scored, Selection, unmoved
from lib.detectors.fast import network as fast
from lib.detectors.faster.network import ImageInput, ImageProposer, to_original
from lib.detectors.faster.rpn import Proposing
from lib.images.decode import Image
from lib.parallel.clock import Clock


class Detect(Selection):
    """Block `faster.detect`: which regions become detections, and

    regress : move the boxes by the deltas of their class
    batch   : regions in one pass of the head;  precision : of the forward passes
    """

    regress: bool
    batch: int = Field(ge=1)
    precision: Precision


class Detector:
    """Regions, scores and boxes of one image after another.

    files     : by role: `regions` (a file with a section `rpn`) and `model` (one with a section `head`), or one file.
                Where trunks and scales are equal, one pass serves both (§3.2, shared); otherwise each runs its own
    settings  : block `faster.detect`;  proposing : which boxes become regions (paper: 6000, 300, 0.7, 16)
    device    : where to run;  clock : measures the time of each part
    """

    wants_proposals = False

    def __init__(
        self, files: Mapping[str, Path], settings: Detect, proposing: Proposing, device: Device, clock: Clock
    ) -> None:
        self._settings, self._proposing = settings, proposing
        self._device, self._clock = device, clock
        self._proposer = ImageProposer(files["regions"], device, clock)
        self._scorer = fast.RegionScorer(files["model"], device, settings.batch, clock)
        self.classes = self._scorer.classes
        self.shared = same_trunk(self._proposer.model, self._scorer.model)

    def prepare(self, image: Image, boxes: Boxes | None = None) -> ImageInput:
        """The part that needs no network; may run in a thread ahead of the rest."""
        return self._proposer.prepare(image)

    def __call__(self, prepared: ImageInput) -> Scored:
        """The proposals in the original image, their scores, and how they move."""
        if self.shared:
            boxes, logits, deltas = self._one_pass(prepared)
        else:
            boxes, _ = self._proposer(prepared, self._proposing)
            rows = self._scorer(self._scorer.prepare(prepared.original, boxes), ())
            logits, deltas = rows["logits"], rows["deltas"]
        with self._clock.host("scores"):
            scores = fast.softmax(logits)[:, 1:]
        return Scored(boxes, scores, fast.refine(deltas) if self._settings.regress else unmoved)

    def _one_pass(self, prepared: ImageInput) -> tuple[Boxes, NDArray[np.float32], NDArray[np.float32]]:
        network = self._scorer.network
        with torch.inference_mode():
            maps = self._proposer.maps(prepared)
            boxes, _ = self._proposer.propose(maps, prepared, self._proposing)
            with self._clock("regions"), self._device.autocast():
                rois = self._device.put(np.hstack([np.zeros((len(boxes), 1), np.float32), boxes]))
                parts = [network.head(network.pool(maps, part)) for part in rois.split(self._settings.batch)]
                logits, deltas = (torch.cat(values) for values in zip(*parts, strict=True))
                moves = network.head.deltas(deltas.float())
                rows = self._device.fetch({"logits": logits.float(), "moves": moves})
        return to_original(boxes, prepared), rows["logits"], rows["moves"]


def same_trunk(first: model_file.Model, second: model_file.Model) -> bool:
    """True where two models use images at the same scale, and their trunks and recipes are equal, bit for bit."""
    settings = [(model.backbone.name, model.backbone.recipe, model.scale) for model in (first, second)]
    if settings[0] != settings[1]:
        return False
    pairs = zip(first.backbone.trunk.state_dict().values(), second.backbone.trunk.state_dict().values(), strict=True)
    return all(torch.equal(tensor, other) for tensor, other in pairs)
